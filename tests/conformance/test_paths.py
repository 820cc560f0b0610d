"""Where packets go: roaming, the sticky source, and the paths and control messages of the mesh."""

from __future__ import annotations

import struct

import pytest

from tests.conformance.bench import Bench, MemoryBench, bytes_of, endpoint_of
from tests.conformance.far_end import ip_packet
from tests.conformance.samples import IN, OUT
from wgpy.protocol.actions import Control, Origin, PeerWork, Work

# --- where peers are ---


@pytest.mark.parametrize("content", [b"", IN, ip_packet("10.66.0.1", "10.0.0.1")])
async def test_any_authenticated_packet_moves_the_endpoint_even_one_whose_source_is_refused(
    bench: Bench, content: bytes
) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(far.seal(content), sender=1)
    assert endpoint_of(bench, peer) == bench.sender(1)
    (event,) = [each for each in await bench.events() if isinstance(each, PeerWork)]
    assert event.bits & Work.ENDPOINT
    assert event.endpoint == bench.sender(1)
    await bench.departed()
    await bench.host_sends(OUT)
    assert [each.to for each in await bench.departed()] == [bench.sender(1)]


async def test_forged_and_replayed_packets_move_nothing(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    message = far.seal(IN)
    await bench.arrives(message)
    forged = bytearray(far.seal(IN))
    forged[-1] ^= 1
    await bench.arrives(message, bytes(forged), sender=1)
    assert endpoint_of(bench, peer) == bench.sender(0)


async def test_handshake_messages_move_the_endpoint_only_once_they_are_accepted(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    await bench.arrives(bench.add_macs(struct.pack("<II", 1, 7) + bytes(108)), sender=1)
    (message,) = await bench.handshakes()
    assert endpoint_of(bench, peer) == bench.sender(0)
    bench.engine.handshake_accepted(peer, message.origin, len(message.data), message.seq)
    assert endpoint_of(bench, peer) == bench.sender(1)
    assert bytes_of(bench, peer) == (148, 0)
    facts = bench.engine.facts(peer)
    assert facts.authenticated_received_last is not None
    assert facts.data_received_first is None


async def test_a_handshake_older_than_the_latest_packet_does_not_move_the_endpoint(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(bench.add_macs(struct.pack("<II", 1, 7) + bytes(108)), sender=1)
    (message,) = await bench.handshakes()
    await bench.arrives(far.seal(b""), sender=2)
    bench.engine.handshake_accepted(peer, message.origin, len(message.data), message.seq)
    assert endpoint_of(bench, peer) == bench.sender(2)


async def test_the_source_is_sticky_until_forgotten_or_the_endpoint_is_set(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    far = memory.session(peer)

    async def source() -> Origin | None:
        await memory.departed()
        memory.engine.send_keepalive(peer)
        (sent,) = await memory.departed()
        return sent.source

    assert await source() is None
    for forget in (
        lambda: memory.engine.forget_source(peer),
        lambda: memory.engine.forget_source(None),
        lambda: memory.engine.forget_sources_at(memory.origin().interface_index),
        lambda: memory.engine.set_endpoint(peer, memory.sender()),
    ):
        await memory.arrives(far.seal(b""))
        memory.engine.forget_sources_at(memory.origin().interface_index + 1)
        assert await source() == memory.origin()
        forget()
        assert await source() is None


async def test_a_peer_that_does_not_follow_is_only_reported(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.engine.set_roaming(peer, False)
    far = bench.session(peer)
    await bench.events()
    await bench.arrives(far.seal(b""), sender=1)
    assert endpoint_of(bench, peer) == bench.sender(0)
    (event,) = [each for each in await bench.events() if isinstance(each, PeerWork)]
    assert event.endpoint == bench.sender(1)
    await bench.arrives(far.seal(b""), sender=1)
    assert not await bench.work(peer) & Work.ENDPOINT


async def test_the_endpoint_is_reported_when_it_differs_from_what_was_set_or_reported(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(far.seal(b""))
    assert not await bench.work(peer) & Work.ENDPOINT, "where it was set to"
    await bench.arrives(far.seal(b""), sender=1)
    assert await bench.work(peer) & Work.ENDPOINT
    bench.engine.set_endpoint(peer, bench.sender(0))
    await bench.arrives(far.seal(b""), sender=1)
    assert await bench.work(peer) & Work.ENDPOINT, "the core believes what it set"


async def test_packets_by_paths_that_were_set_report_no_endpoint(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.engine.set_roaming(peer, False)
    bench.engine.set_paths(peer, Origin(bench.sender(1)), [Origin(bench.sender(2))])
    far = bench.session(peer)
    for sender in (1, 2, 1, 2):
        await bench.arrives(far.seal(b""), sender=sender)
        assert not await bench.work(peer) & Work.ENDPOINT
    await bench.arrives(far.seal(b""), sender=3)
    assert await bench.work(peer) & Work.ENDPOINT


# --- paths and control messages of the mesh ---


async def test_control_messages_go_up_with_their_path_and_never_to_the_host(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(far.seal(b"\x01PING"), sender=2)
    (event,) = [each for each in await bench.events() if isinstance(each, Control)]
    assert (event.peer, event.path.remote) == (peer, bench.sender(2))
    assert event.data == b"\x01PING" + bytes(11)
    assert await bench.host_got() == []
    facts = bench.engine.facts(peer)
    assert facts.data_received_first is None, "no data: it asks for no keepalive"
    assert facts.authenticated_received_last is not None


async def test_control_messages_are_sealed_and_leave_by_the_path_named(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.engine.send_control(peer, None, b"\x01PING")
    assert await bench.departed() == [], "never staged"
    far = bench.session(peer)
    await bench.departed()
    bench.engine.send_control(peer, Origin(bench.sender(3)), b"\x01PING")
    bench.engine.send_control(peer, None, b"\x02PONG")
    bench.engine.send_control(peer, None, OUT)
    sent = {each.to: far.open(each.data) for each in await bench.departed()}
    assert sent == {bench.sender(3): b"\x01PING" + bytes(11), bench.sender(0): b"\x02PONG" + bytes(11)}
    assert bench.engine.facts(peer).data_sent_first is None


async def test_packets_go_by_the_primary_path_and_by_each_other_named(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.set_paths(peer, Origin(bench.sender(1)), [Origin(bench.sender(2))])
    await bench.host_sends(OUT)
    bench.engine.send_handshake(peer, bytes(148))
    sent = await bench.departed()
    assert sorted(str(each.to) for each in sent) == sorted([str(bench.sender(1)), str(bench.sender(2))] * 2)
    data = [each.data for each in sent if far.is_ours(each.data)]
    assert data[0] == data[1], "the same message: the replay window drops the double"
    assert endpoint_of(bench, peer) == bench.sender(1)
    bench.engine.set_paths(peer, None)
    await bench.host_sends(OUT)
    assert [each.to for each in await bench.departed()] == [bench.sender(0)]


async def test_a_response_leaves_by_the_path_of_its_initiation_when_the_endpoint_does_not_follow(
    bench: Bench,
) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    bench.engine.set_roaming(peer, False)
    await bench.arrives(bench.add_macs(struct.pack("<II", 1, 7) + bytes(108)), sender=2)
    (message,) = await bench.handshakes()
    bench.engine.handshake_accepted(peer, message.origin, len(message.data), message.seq)
    bench.session(peer, initiator=False)
    assert {each.to for each in await bench.departed()} == {bench.sender(2), bench.sender(0)}
