"""Rule 3 of the seam (docs/engine.md): what reaches the core is worth a DH."""

from __future__ import annotations

import struct

import pytest

from tests.conformance.bench import IDENTITY, Bench, MemoryBench
from tests.conformance.samples import OUT, initiation, response
from wgpy.addresses import Endpoint
from wgpy.protocol import cookie
from wgpy.protocol.actions import HandshakeMessage, Origin, PeerWork, Work
from wgpy.protocol.constants import (
    UNDER_LOAD_DEPTH,
    UNDER_LOAD_QUEUE,
)


async def test_a_message_with_a_right_mac1_is_handed_up_with_its_origin(bench: Bench) -> None:
    bench.identify()
    message = bench.add_macs(initiation())
    await bench.arrives(message, sender=1)
    (event,) = await bench.handshakes()
    assert (event.data, event.origin.remote, event.peer) == (message, bench.sender(1), None)
    assert event.origin.local is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: message[:-32] + bytes(32),  # mac1
        lambda message: message[:-1],  # size
        lambda message: message + b"\0",
        lambda message: message[:1] + b"\1" + message[2:],  # reserved octets
        lambda message: b"\5" + message[1:],  # type
    ],
)
async def test_a_message_that_is_not_for_us_is_dropped_silently(bench: Bench, spoil) -> None:
    bench.identify()
    before = bench.drops()
    await bench.arrives(spoil(bench.add_macs(initiation())))
    assert await bench.handshakes() == []
    assert await bench.departed() == []
    assert bench.drops() == before + 1


async def test_a_mac2_means_nothing_while_there_is_no_load(bench: Bench) -> None:
    bench.identify()
    message = bench.add_macs(initiation())
    wrong = message[:-16] + bytes(range(16))
    await bench.arrives(message, wrong)
    assert [event.data for event in await bench.handshakes()] == [message, wrong]
    assert await bench.departed() == []


async def test_without_an_identity_nothing_passes(bench: Bench) -> None:
    message = bench.add_macs(initiation())
    await bench.arrives(message)
    bench.identify()
    bench.engine.set_identity(None, None)
    await bench.arrives(message)
    assert await bench.handshakes() == []


async def test_responses_and_cookie_replies_name_the_owner_of_their_index(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    index = bench.engine.reserve_index(peer)
    reply = struct.pack("<II", 3, index) + bytes(56)
    await bench.arrives(bench.add_macs(response(index)), reply)
    assert [event.peer for event in await bench.handshakes()] == [peer, peer]


async def test_responses_and_cookie_replies_for_unknown_indices_are_dropped(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    released = bench.engine.reserve_index(peer)
    bench.engine.release_index(released)
    for index in (released, 12345):
        await bench.arrives(bench.add_macs(response(index)), struct.pack("<II", 3, index) + bytes(56))
    assert await bench.handshakes() == []


async def test_a_response_for_the_index_of_a_session_is_dropped_but_a_cookie_reply_is_not(
    bench: Bench,
) -> None:
    bench.identify()
    far = bench.session(bench.peer("10.0.0.2/32"))
    index = far.engine_index
    await bench.arrives(bench.add_macs(response(index)), struct.pack("<II", 3, index) + bytes(56))
    assert [event.data[0] for event in await bench.handshakes()] == [3]


async def test_messages_stay_in_order(bench: Bench) -> None:
    bench.identify()
    messages = [bench.add_macs(initiation(index)) for index in range(40)]
    await bench.arrives(*messages)
    events = await bench.handshakes()
    assert [event.data for event in events] == messages
    assert [event.seq for event in events] == sorted(event.seq for event in events)


async def test_the_depth_of_the_queue_is_told(memory: MemoryBench) -> None:
    memory.identify()
    await memory.arrives(*[memory.add_macs(initiation())] * 40)
    assert [event.depth for event in await memory.handshakes()] == list(range(40))


async def test_under_load_a_cookie_is_asked_for_and_its_bucket_is_small(memory: MemoryBench) -> None:
    memory.identify()
    generator = cookie.CookieGenerator(IDENTITY)
    message = memory.add_macs(initiation(), generator)
    await memory.arrives(*[message] * UNDER_LOAD_DEPTH)
    assert await memory.departed() == [], "an eighth of the queue is not yet full when each of these comes"

    await memory.arrives(message)
    (reply,) = await memory.departed()
    assert len(reply.data) == 64
    assert reply.to == memory.sender(0)
    assert reply.source == memory.origin(0)
    assert reply.tos == 0
    assert generator.consume_reply(reply.data, memory.now)

    proven = memory.add_macs(initiation(), generator)
    depth = memory.handshake_depth
    await memory.arrives(*[proven] * 6)
    assert memory.handshake_depth == depth + 5, "five at once, then twenty a second"
    assert await memory.departed() == []
    await memory.arrives(proven, sender=1)
    assert len(await memory.departed()) == 1, "a cookie is worth nothing from another address"
    other_port = Origin(Endpoint(memory.sender(0).address, 4), memory.origin(0).local, 2)
    memory.receive(proven, other_port)
    assert len(await memory.departed()) == 1, "nor from another port"


async def test_past_an_allowance_initiations_need_a_cookie_though_the_core_keeps_up(
    memory: MemoryBench,
) -> None:
    memory.identify()
    generator = cookie.CookieGenerator(IDENTITY)
    message = memory.add_macs(initiation(), generator)

    async def passed(count: int) -> int:
        number = 0
        for _ in range(count):
            await memory.arrives(message)
            number += len(await memory.handshakes())
        return number

    assert await passed(600) == UNDER_LOAD_DEPTH
    replies = await memory.departed()
    assert len(replies) == 600 - UNDER_LOAD_DEPTH
    memory.advance(0.1)
    assert await passed(100) in (19, 20), "two hundred a second"
    assert generator.consume_reply(replies[-1].data, memory.now)
    await memory.arrives(memory.add_macs(initiation(), generator))
    assert len(await memory.handshakes()) == 1, "a proven source has a bucket of its own"
    memory.advance(10)
    assert await passed(600) == UNDER_LOAD_DEPTH, "the allowance is full again"
    flooded = 0
    for _ in range(1000):
        memory.advance(0.001)
        flooded += await passed(1)
    assert flooded == 0, "as long as more than two hundred a second come, none passes"
    memory.advance(0.1)
    assert await passed(100) in (19, 20)


async def test_load_is_held_for_a_second(memory: MemoryBench) -> None:
    memory.identify()
    message = memory.add_macs(initiation())
    await memory.arrives(*[message] * (UNDER_LOAD_DEPTH + 1))
    await memory.events()
    await memory.departed()
    memory.advance(0.9)
    await memory.arrives(message)
    assert len(await memory.departed()) == 1
    memory.advance(0.2)
    await memory.arrives(message)
    assert await memory.departed() == []
    assert len(await memory.handshakes()) == 1


async def test_the_handshake_queue_is_bounded_and_other_events_pass_it_by(memory: MemoryBench) -> None:
    memory.identify()
    peer = memory.peer("10.0.0.2/32")
    index = memory.engine.reserve_index(peer)
    # Cookie replies are not subject to the load, so they fill the queue.
    reply = struct.pack("<II", 3, index) + bytes(56)
    await memory.arrives(*[reply] * (UNDER_LOAD_QUEUE + 10))
    assert memory.handshake_depth == UNDER_LOAD_QUEUE
    await memory.host_sends(OUT)
    first = memory.drain()
    assert PeerWork(peer, Work.NEED_KEY) in first
    assert 0 < sum(isinstance(event, HandshakeMessage) for event in first) < 100, (
        "the rest still tells the load"
    )
