"""The life of a session: who renews it and when, when it stops, when its keys are gone."""

from __future__ import annotations

import itertools

import pytest

from tests.simulation.conftest import DELAY
from tests.simulation.paper import (
    INITIATION,
    RECEIVING_REKEY_AGE,
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSE,
    SENDS_IN_ALL,
    TRANSPORT,
    WIPE_AFTER,
)
from tests.simulation.world import Host, World

Pair = tuple[Host, Host]


@pytest.fixture
def session(world: World, pair: Pair) -> float:
    """Alice, as initiator, and Bob have one; the instant at which it began at her end. The log is empty."""
    alice, bob = pair
    alice.send(bob)
    world.run_until(lambda: bool(bob.received), within=1.0)
    current = alice.engine.facts(alice.peer(bob).id).current
    assert current is not None
    assert current.is_initiator
    world.log.clear()
    return current.created_at


def test_initiator_that_sends_rekeys_once_the_session_is_120_s_old(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.run_to(session + REKEY_AFTER_TIME - 0.001)
    alice.send(bob)
    assert not world.sent(INITIATION)
    world.run_to(session + REKEY_AFTER_TIME)
    alice.send(bob)
    assert len(world.sent(INITIATION, by=alice)) == 1


def test_responder_does_not_rekey_based_on_session_age(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    world.link.passes = lambda datagram: datagram.kind != INITIATION  # or Alice would renew it
    while world.now < session + REJECT_AFTER_TIME - 2:
        bob.send(alice)
        alice.send(bob)
        world.run_for(1.0)
    assert world.sent(INITIATION, by=alice)
    assert not world.sent(INITIATION, by=bob)


def test_initiator_that_only_receives_rekeys_once_the_session_is_165_s_old(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.run_to(session + RECEIVING_REKEY_AGE - DELAY - 0.01)
    bob.send(alice)
    world.run_for(DELAY)
    assert not world.sent(INITIATION)
    world.run_for(0.02)
    bob.send(alice)
    world.run_for(DELAY)
    assert len(world.sent(INITIATION, by=alice)) == 1


def test_receiving_makes_the_initiator_rekey_only_once_in_a_session(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.link.passes = lambda datagram: datagram.sender is bob
    world.run_to(session + RECEIVING_REKEY_AGE)
    for _ in range(12):  # until the session is too old to receive
        bob.send(alice)
        world.run_for(1.0)
    reports = [event for event in alice.events if getattr(event, "bits", 0) & 4]
    assert len(reports) == 1


def test_keepalives_sent_are_judged_for_rekey_too(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    world.run_to(session + REKEY_AFTER_TIME - 5)
    bob.send(alice)
    world.run_for(11.0)
    assert [d.is_keepalive for d in world.sent(TRANSPORT, by=alice)][:1] == [True]
    assert len(world.sent(INITIATION, by=alice)) == 1


def test_traffic_across_a_rekey_loses_nothing(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    bob.received.clear()
    sent = []
    while world.now < session + 400:
        sent.append(alice.send(bob, str(len(sent)).encode()))
        bob.send(alice)
        world.run_for(0.25)
    world.run_for(1.0)
    assert bob.received == sent
    assert len(world.sent(RESPONSE)) == 3
    assert not world.sent(INITIATION, by=bob)


def test_session_of_180_s_sends_no_more_and_the_packet_waits_for_a_handshake(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.run_to(session + REJECT_AFTER_TIME)
    packet = alice.send(bob)
    assert [datagram.kind for datagram in world.log[-1:]] == [INITIATION]
    world.run_for(1.0)
    assert bob.received[-1] == packet


def test_session_of_180_s_receives_no_more(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    alice.send(bob)
    held = world.sent(TRANSPORT)[-1]
    world.link.is_cut = True
    world.run_to(session + REJECT_AFTER_TIME + 1)
    bob.received.clear()
    world.deliver(held)
    assert bob.received == []


def test_responder_with_a_packet_to_send_begins_the_handshake_itself_after_180_s(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.run_to(session + REJECT_AFTER_TIME)
    packet = bob.send(alice)
    assert len(world.sent(INITIATION, by=bob)) == 1
    world.run_for(1.0)
    assert alice.received == [packet]


def test_all_keys_are_wiped_540_s_after_the_last_session_began(
    world: World, pair: Pair, session: float
) -> None:
    alice, bob = pair
    world.run_to(session + WIPE_AFTER - 0.001)
    assert alice.engine.facts(alice.peer(bob).id).current is not None
    world.run_to(session + WIPE_AFTER)
    assert alice.engine.facts(alice.peer(bob).id).current is None
    world.run_for(1.0)
    assert bob.engine.facts(bob.peer(alice).id).current is None
    assert (alice.deadline, bob.deadline) == (None, None)


def test_a_new_session_puts_the_wipe_off(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    world.run_to(session + 300)
    alice.send(bob)
    world.run_to(session + WIPE_AFTER + 299)
    assert alice.engine.facts(alice.peer(bob).id).current is not None
    world.run_for(2.0)
    assert alice.engine.facts(alice.peer(bob).id).current is None


def test_giving_up_without_a_session_forgets_the_handshake_540_s_later(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.send(bob)
    world.run_until(lambda: len(world.sent(INITIATION)) == SENDS_IN_ALL, within=200.0)
    world.run_for(6.0)
    gave_up_by = world.now
    assert alice.peer(bob).handshake.local_index is not None
    assert alice.deadline == pytest.approx(gave_up_by + WIPE_AFTER, abs=1.0)
    world.run_for(WIPE_AFTER)
    assert alice.peer(bob).handshake.local_index is None
    assert alice.deadline is None


def test_what_is_staged_survives_the_wipe(world: World, pair: Pair, session: float) -> None:
    alice, bob = pair
    world.run_to(session + WIPE_AFTER - 1)
    world.link.is_cut = True
    packet = alice.send(bob)
    world.run_for(2.0)
    world.link.is_cut = False
    world.run_for(6.0)
    assert bob.received[-1] == packet


def test_traffic_into_a_line_that_was_cut_goes_on_asking_for_a_handshake(make_world: type[World]) -> None:
    world = make_world(seed=3, delay=0.01)
    alice, bob = world.add_pair()
    alice.send(bob)
    world.run_for(1.0)
    world.link.is_cut = True
    # The responder, whom no age makes rekey.
    cut_at = world.now
    while world.now < cut_at + REJECT_AFTER_TIME - 5:
        bob.send(alice)
        world.run_for(2.0)
    sent = [cut_at, *(each.at for each in world.sent(INITIATION, by=bob, since=cut_at)), world.now]
    # Silence is noticed after 15 s, retries follow for 100 s, and what is sent then is silence again.
    assert max(following - one for one, following in itertools.pairwise(sent)) < 21


def test_rekey_that_the_gate_holds_goes_when_it_opens(make_world: type[World]) -> None:
    world = make_world(seed=4, delay=0.01)
    alice, bob = world.add_pair()
    alice.send(bob)
    world.run_for(1.0)
    began = world.now
    world.run_to(began + REKEY_AFTER_TIME + 1)
    # Bob begins one, whose response is lost: alice's gate is closed for 5 s, her session is as it was.
    world.link.passes = lambda datagram: datagram.kind != RESPONSE
    bob.interface.initiate(bob.peer(alice), world.now)
    bob.step()
    world.run_for(1.0)
    assert world.sent(RESPONSE, by=alice)
    bob.is_deaf = bob.is_paused = True
    responded_at = world.sent(RESPONSE, by=alice)[-1].at
    alice.send(bob)
    world.run_for(10.0)
    [initiation, *_] = world.sent(INITIATION, by=alice, since=responded_at)
    assert responded_at + REKEY_TIMEOUT <= initiation.at <= responded_at + REKEY_TIMEOUT + 1.001
