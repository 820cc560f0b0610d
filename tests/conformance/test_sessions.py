"""Rule 2 of the seam (docs/engine.md): the engine owns slots and indices; a session begins in one step."""

from __future__ import annotations

from tests.conformance.bench import Bench, sent_to
from tests.conformance.samples import IN, OUT, numbered, padded
from wgpy.protocol.actions import PeerWork, Work


async def test_initiator_sends_what_is_staged_in_order_and_no_keepalive(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    packets = numbered(5)
    await bench.host_sends(*packets)
    assert await bench.departed() == []
    assert bench.engine.facts(peer).staged == 5
    far = bench.session(peer)
    assert sent_to(await bench.departed(), far) == [padded(packet) for packet in packets]
    assert bench.engine.facts(peer).staged == 0


async def test_initiator_with_nothing_staged_sends_a_keepalive(bench: Bench) -> None:
    far = bench.session(bench.peer("10.0.0.2/32"))
    assert [(len(each.data), far.open(each.data)) for each in await bench.departed()] == [(32, b"")]


async def test_responder_sends_its_response_and_nothing_more_until_confirmed(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    await bench.host_sends(OUT)
    far = bench.session(peer, initiator=False, response=bytes([2, 0, 0, 0]) + bytes(88))
    await bench.host_sends(OUT)
    assert [len(each.data) for each in await bench.departed()] == [92]
    assert not await bench.work(peer) & Work.CONFIRMED

    await bench.arrives(far.seal(b""))
    (confirmation,) = [each for each in await bench.events() if isinstance(each, PeerWork)]
    assert confirmation.bits & Work.CONFIRMED
    assert confirmation.confirmed_index == far.engine_index
    assert sent_to(await bench.departed(), far) == [padded(OUT)] * 2


async def test_an_unconfirmed_keypair_does_not_replace_the_one_that_sends(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    old = bench.session(peer)
    new = bench.session(peer, initiator=False)
    await bench.departed()
    await bench.host_sends(OUT)
    assert sent_to(await bench.departed(), old) == [padded(OUT)]
    await bench.arrives(new.seal(b""))
    await bench.host_sends(OUT)
    assert sent_to(await bench.departed(), new) == [padded(OUT)]


async def test_the_previous_keypair_still_opens_and_the_one_before_does_not(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    ends = [bench.session(peer) for _ in range(3)]
    for far, expected in zip(ends, [[], [IN], [IN]], strict=True):
        await bench.arrives(far.seal(IN))
        assert await bench.host_got() == expected


async def test_confirmation_is_reported_once(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer, initiator=False)
    await bench.arrives(far.seal(b""))
    assert await bench.work(peer) & Work.CONFIRMED
    await bench.arrives(far.seal(b""))
    assert not await bench.work(peer) & Work.CONFIRMED


async def test_current_tells_which_keypair_sends(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    assert bench.engine.facts(peer).current is None
    far = bench.session(peer, age=10.0)
    current = bench.engine.facts(peer).current
    assert current is not None
    assert current.local_index == far.engine_index
    assert current.is_initiator
    assert current.may_send
    bench.engine.expire_keypairs(peer)
    current = bench.engine.facts(peer).current
    assert current is not None
    assert not current.may_send


async def test_a_session_on_an_index_that_was_released_is_not_begun(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    index = bench.engine.reserve_index(peer)
    bench.engine.release_index(index)
    bench.engine.begin_session(
        peer,
        local_index=index,
        remote_index=5,
        is_initiator=True,
        chaining_key=bytes(32),
        created_at=bench.now,
        response=None,
    )
    assert bench.engine.facts(peer).current is None
    assert await bench.departed() == []


async def test_releasing_the_index_of_a_session_changes_nothing(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    bench.engine.release_index(far.engine_index)
    await bench.arrives(far.seal(IN))
    assert await bench.host_got() == [IN]
