"""Where events wait: each kind in bounded room."""

from __future__ import annotations

from ipaddress import IPv4Address

from wgpy.addresses import Endpoint
from wgpy.engine.events import HANDSHAKES_A_DRAIN, RING_LIMIT, EventQueues
from wgpy.protocol.actions import (
    Control,
    EngineFailed,
    HandshakeMessage,
    Origin,
    OtherDatagram,
    PeerId,
    PeerWork,
    Work,
)
from wgpy.protocol.constants import UNDER_LOAD_QUEUE

HERE = Endpoint(IPv4Address("192.0.2.1"), 1)
THERE = Endpoint(IPv4Address("192.0.2.2"), 2)
PATH = Origin(HERE)


def message(seq: int) -> HandshakeMessage:
    return HandshakeMessage(b"", PATH, seq, 0, None)


def test_work_of_a_peer_is_coalesced_and_the_latest_endpoint_told() -> None:
    events = EventQueues()
    events.put_work(PeerId(1), Work.NEED_KEY)
    events.put_work(PeerId(1), Work.ENDPOINT, endpoint=HERE)
    events.put_work(PeerId(2), Work.FACT)
    events.put_work(PeerId(1), Work.CONFIRMED, confirmed_index=7)
    events.put_work(PeerId(1), Work.ENDPOINT, endpoint=THERE)
    assert events.drain() == [
        PeerWork(PeerId(1), Work.NEED_KEY | Work.ENDPOINT | Work.CONFIRMED, 7, THERE),
        PeerWork(PeerId(2), Work.FACT),
    ]
    assert not events
    assert events.drain() == []


def test_handshake_messages_are_given_out_a_few_at_a_time() -> None:
    events = EventQueues()
    for seq in range(HANDSHAKES_A_DRAIN + 3):
        assert events.put_handshake(message(seq))
    events.put_work(PeerId(1), Work.FACT)
    first = events.drain()
    assert first == [PeerWork(PeerId(1), Work.FACT), *[message(seq) for seq in range(HANDSHAKES_A_DRAIN)]]
    assert events, "there is more to drain"
    assert events.handshake_depth == 3
    assert events.drain() == [message(HANDSHAKES_A_DRAIN + seq) for seq in range(3)]


def test_the_queue_of_handshake_messages_refuses_what_is_too_much() -> None:
    events = EventQueues()
    results = [events.put_handshake(message(seq)) for seq in range(UNDER_LOAD_QUEUE + 1)]
    assert results == [True] * UNDER_LOAD_QUEUE + [False]


def test_the_rings_lose_their_oldest() -> None:
    events = EventQueues()
    for number in range(RING_LIMIT + 5):
        events.put_control(Control(PeerId(1), PATH, b"%d" % number))
        events.put_other(OtherDatagram(b"%d" % number, PATH))
    drained = events.drain()
    assert len(drained) == 2 * RING_LIMIT
    assert drained[0] == Control(PeerId(1), PATH, b"5")
    assert drained[-1] == OtherDatagram(b"%d" % (RING_LIMIT + 4), PATH)


def test_the_first_failure_is_told_once() -> None:
    events = EventQueues()
    events.put_failure("first")
    events.put_failure("second")
    assert events.drain() == [EngineFailed("first")]
    assert not events


def test_whoever_waits_is_woken_by_each_kind() -> None:
    events = EventQueues()
    woken = []
    events.wake = lambda: woken.append(1)
    for number, put in enumerate(
        (
            lambda: events.put_handshake(message(0)),
            lambda: events.put_work(PeerId(1), Work.FACT),
            lambda: events.put_control(Control(PeerId(1), PATH, b"")),
            lambda: events.put_other(OtherDatagram(b"", PATH)),
            lambda: events.put_failure("gone"),
        )
    ):
        put()
        assert len(woken) == number + 1
        assert events


def test_a_removed_peer_has_no_work_left() -> None:
    events = EventQueues()
    events.put_work(PeerId(1), Work.FACT)
    events.forget_peer(PeerId(1))
    events.forget_peer(PeerId(2))
    assert not events
