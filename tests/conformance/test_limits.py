"""Rule 4 of the seam (docs/engine.md): the paper's limits hold whatever the core does."""

from __future__ import annotations

import pytest

from tests.conformance.bench import Bench, MemoryBench, sent_to
from tests.conformance.far_end import ip_packet
from tests.conformance.samples import IN, OUT, padded
from wgpy.protocol.actions import Fact, Work
from wgpy.protocol.constants import (
    REJECT_AFTER_MESSAGES,
    REPLAY_WINDOW,
)


@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize(("age", "works"), [(0.0, True), (170.0, True), (180.0, False), (200.0, False)])
async def test_a_keypair_too_old_neither_sends_nor_receives(
    bench: Bench, initiator: bool, age: float, works: bool
) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer, initiator=initiator, age=age)
    await bench.arrives(far.seal(IN))
    assert await bench.host_got() == ([IN] if works else [])
    await bench.departed()
    await bench.host_sends(OUT)
    assert sent_to(await bench.departed(), far) == ([padded(OUT)] if works else [])
    assert bool(await bench.work(peer) & Work.NEED_KEY) is not works


@pytest.mark.parametrize(
    ("counters", "accepted"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([5, 5, 5], [5]),
        ([2, 1, 0, 1], [2, 1, 0]),
        ([REPLAY_WINDOW + 1, 1, 0], [REPLAY_WINDOW + 1, 1]),
        ([REPLAY_WINDOW, 0], [REPLAY_WINDOW, 0]),
        ([1 << 20, (1 << 20) - REPLAY_WINDOW - 1], [1 << 20]),
        ([1 << 20, (1 << 20) - REPLAY_WINDOW], [1 << 20, (1 << 20) - REPLAY_WINDOW]),
        ([REJECT_AFTER_MESSAGES - 1, 0], [REJECT_AFTER_MESSAGES - 1]),
        ([REJECT_AFTER_MESSAGES, 3], [3]),
        ([(1 << 64) - 1, 3], [3]),
    ],
)
async def test_counters_are_accepted_once_and_within_the_window(
    bench: Bench, counters: list[int], accepted: list[int]
) -> None:
    far = bench.session(bench.peer("10.0.0.2/32"))
    for counter in counters:
        await bench.arrives(far.seal(ip_packet("10.0.0.2", "10.0.0.1", b"%d" % counter), counter=counter))
    assert [packet[28:] for packet in await bench.host_got()] == [b"%d" % counter for counter in accepted]


async def test_a_forged_message_does_not_move_the_replay_window(bench: Bench) -> None:
    far = bench.session(bench.peer("10.0.0.2/32"))
    forged = bytearray(far.seal(IN, counter=1 << 40))
    forged[-1] ^= 1
    await bench.arrives(bytes(forged), far.seal(IN, counter=0))
    assert await bench.host_got() == [IN]


async def test_a_source_that_is_not_the_peers_by_the_longest_prefix_is_refused(bench: Bench) -> None:
    alice = bench.peer("10.0.0.0/24", "10.9.0.0/16", "fd00::/64", sender=0)
    bob = bench.peer("10.0.0.7/32", sender=1)
    hers, his = bench.session(alice), bench.session(bob)
    packets = {
        source: ip_packet(source, "10.0.0.1") for source in ("10.0.0.6", "10.0.0.7", "10.9.1.1", "10.10.0.1")
    }
    for packet in packets.values():
        await bench.arrives(hers.seal(packet))
    assert await bench.host_got() == [packets["10.0.0.6"], packets["10.9.1.1"]]
    await bench.arrives(his.seal(packets["10.0.0.6"]), his.seal(packets["10.0.0.7"]), sender=1)
    assert await bench.host_got() == [packets["10.0.0.7"]]


async def test_the_last_counters_are_never_sent(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    far = memory.session(peer)
    memory.skip_counters(far, REJECT_AFTER_MESSAGES - 1)
    await memory.departed()
    await memory.host_sends(OUT)
    (message,) = await memory.departed()
    assert far.counter_of(message.data) == REJECT_AFTER_MESSAGES - 1
    await memory.host_sends(OUT)
    assert await memory.departed() == []
    assert await memory.work(peer) & Work.NEED_KEY


@pytest.mark.parametrize(
    ("initiator", "age", "bits"),
    [
        (True, 119.0, Work(0)),
        (True, 121.0, Work.REKEY_SEND),
        (False, 175.0, Work(0)),
    ],
)
async def test_sending_asks_for_a_new_key_when_ours_as_initiator_is_120_s_old(
    bench: Bench, initiator: bool, age: float, bits: Work
) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer, initiator=initiator, age=age)
    await bench.arrives(far.seal(b""))
    bench.engine.send_keepalive(peer)
    assert await bench.work(peer) & Work.REKEY_SEND == bits
    bench.engine.send_keepalive(peer)
    assert not await bench.work(peer) & Work.REKEY_SEND, "once per keypair and watch"
    bench.engine.watch(peer, Fact(0))
    bench.engine.send_keepalive(peer)
    assert await bench.work(peer) & Work.REKEY_SEND == bits


@pytest.mark.parametrize(("initiator", "age", "reported"), [(True, 164, 0), (True, 166, 1), (False, 175, 0)])
async def test_receiving_asks_for_a_new_key_once_when_ours_as_initiator_is_165_s_old(
    bench: Bench, initiator: bool, age: float, reported: int
) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer, initiator=initiator, age=age)
    reports = 0
    for _ in range(3):
        await bench.arrives(far.seal(b""))
        reports += bool(await bench.work(peer) & Work.REKEY_RECEIVE)
    assert reports == reported


async def test_the_message_count_asks_for_a_new_key(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    far = memory.session(peer, initiator=False)
    await memory.arrives(far.seal(b""))
    memory.skip_counters(far, 1 << 60)
    await memory.host_sends(OUT)
    assert await memory.work(peer) & Work.REKEY_SEND
