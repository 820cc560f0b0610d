"""Rules 6 and 9 of the seam (docs/engine.md): the need of a key is a level, what waits is bounded."""

from __future__ import annotations

from tests.conformance.bench import Bench, MemoryBench, sent_to
from tests.conformance.far_end import ip_packet
from tests.conformance.samples import OUT, numbered, padded
from wgpy.protocol.actions import Work
from wgpy.protocol.constants import (
    MAX_STAGED_PACKETS,
)


async def test_need_of_a_key_is_seen_in_the_facts_as_long_as_something_is_staged(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    await bench.host_sends(OUT)
    assert await bench.work(peer) & Work.NEED_KEY
    assert bench.engine.facts(peer).staged == 1
    await bench.host_sends(OUT)
    assert await bench.work(peer) & Work.NEED_KEY, "each packet asks"
    bench.engine.drop_staged(peer)
    assert bench.engine.facts(peer).staged == 0


async def test_a_keepalive_without_a_key_is_staged_and_asks_for_one(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.engine.send_keepalive(peer)
    bench.engine.send_keepalive(peer)
    assert bench.engine.facts(peer).staged == 1, "staged only where nothing is"
    assert await bench.work(peer) & Work.NEED_KEY
    far = bench.session(peer)
    assert sent_to(await bench.departed(), far) == [b""]


async def test_128_packets_are_staged_and_the_oldest_are_dropped(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    packets = numbered(MAX_STAGED_PACKETS + 20)
    for start in range(0, len(packets), 37):
        await bench.host_sends(*packets[start : start + 37])
    assert bench.engine.facts(peer).staged == MAX_STAGED_PACKETS
    far = bench.session(peer)
    assert sent_to(await bench.departed(), far) == [padded(packet) for packet in packets[20:]]


async def test_all_peers_together_stage_a_bounded_number(memory: MemoryBench) -> None:
    peers = [memory.peer(f"10.1.{number}.0/24") for number in range(100)]
    for number in range(100):
        await memory.host_sends(*[ip_packet("10.0.0.1", f"10.1.{number}.1")] * MAX_STAGED_PACKETS)
    staged = [memory.engine.facts(peer).staged for peer in peers]
    assert sum(staged) == 8192
    assert staged[-1] == MAX_STAGED_PACKETS, "whoever waited longest loses first"
    for peer in peers:
        memory.engine.remove_peer(peer)
    fresh = memory.peer("10.1.0.0/24")
    await memory.host_sends(*[ip_packet("10.0.0.1", "10.1.0.1")] * MAX_STAGED_PACKETS)
    assert memory.engine.facts(fresh).staged == MAX_STAGED_PACKETS, "removal gives the room back"
