"""Keepalives, owed and persistent, and the handshake that silence begins."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.simulation.conftest import DELAY
from tests.simulation.paper import (
    INITIATION,
    JITTER,
    KEEPALIVE_TIMEOUT,
    NEW_HANDSHAKE_TIMEOUT,
    REKEY_TIMEOUT,
    SENDS_IN_ALL,
    TRANSPORT,
)
from tests.simulation.world import Datagram, Host, World, make_packet
from wgpy.addresses import host_prefix
from wgpy.keys import PrivateKey

Pair = tuple[Host, Host]


@pytest.fixture
def quiet(world: World, pair: Pair) -> Pair:
    """Alice and Bob with a session in which nothing is owed any more."""
    alice, bob = pair
    alice.send(bob)
    world.run_for(30.0)
    world.log.clear()
    return pair


def keepalives(world: World, by: Host) -> list[Datagram]:
    return [datagram for datagram in world.sent(TRANSPORT, by=by) if datagram.is_keepalive]


# --- owed ---


def test_data_received_is_answered_by_a_keepalive_after_10_s_of_silence(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    world.run_for(60.0)
    assert [d.at for d in keepalives(world, bob)] == [
        pytest.approx(world.log[0].at + DELAY + KEEPALIVE_TIMEOUT)
    ]


def test_no_keepalive_is_owed_when_something_was_sent_in_the_meantime(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    world.run_for(9.0)
    bob.send(alice)
    world.run_for(9.0)
    alice.send(bob)
    world.run_for(9.0)
    assert keepalives(world, bob) == []
    assert keepalives(world, alice) == []


def test_two_idle_peers_do_not_answer_each_others_keepalives(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.engine.send_keepalive(alice.peer(bob).id)
    alice.step()
    world.run_for(90.0)
    assert len(world.log) == 1


def test_more_data_while_a_keepalive_is_owed_makes_another_one(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    world.run_for(5.0)
    alice.send(bob)
    world.run_for(80.0)
    first, another = (datagram.at for datagram in keepalives(world, bob))
    assert another - first == pytest.approx(KEEPALIVE_TIMEOUT)


def test_other_keepalive_is_cancelled_by_anything_sent(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    world.run_for(5.0)
    alice.send(bob)
    world.run_until(lambda: bool(keepalives(world, bob)), within=11.0)
    world.run_for(1.0)
    bob.send(alice)
    world.run_for(14.0)
    assert len(keepalives(world, bob)) == 1


def test_data_refused_by_the_source_check_makes_a_keepalive_owed(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    elsewhere = ip_address("10.9.9.9")
    alice.interface.add_allowed_ips(alice.peer(bob), [host_prefix(elsewhere)], world.now)
    bob.received.clear()
    alice.engine.receive_packet(make_packet(elsewhere, bob.address, b"forged"))
    alice.step()
    world.run_for(15.0)
    assert bob.received == []
    assert len(keepalives(world, bob)) == 1


def test_giving_up_cancels_the_keepalive_owed(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    world.link.passes = lambda datagram: datagram.kind != INITIATION
    world.run_for(REKEY_TIMEOUT)
    alice.interface.initiate(alice.peer(bob), world.now)
    world.run_until(lambda: len(world.sent(INITIATION, by=alice)) == SENDS_IN_ALL, within=120.0)
    world.run_for(2.0)
    bob.send(alice)
    world.run_for(KEEPALIVE_TIMEOUT + 2.0)
    assert alice.received
    assert len(world.sent(INITIATION, by=alice)) == SENDS_IN_ALL
    assert keepalives(world, alice) == []


def test_nothing_is_sent_after_giving_up(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    world.run_for(200.0)  # the session is too old
    world.link.is_cut = True
    alice.send(bob)
    world.run_for(2000.0)
    assert len(world.log) == SENDS_IN_ALL


# --- silence after data sent ---


def test_data_sent_and_nothing_heard_begins_a_handshake_after_15_s_and_some(
    world: World, quiet: Pair
) -> None:
    alice, bob = quiet
    bob.is_deaf = True
    alice.send(bob)
    sent_at = world.now
    world.run_for(16.0)
    (initiation,) = world.sent(INITIATION, by=alice)
    assert NEW_HANDSHAKE_TIMEOUT <= initiation.at - sent_at <= NEW_HANDSHAKE_TIMEOUT + JITTER
    assert initiation.sticky is None  # the cached source is forgotten


def test_handshake_that_silence_began_is_retried(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    bob.is_deaf = True
    packet = alice.send(bob)
    world.run_for(NEW_HANDSHAKE_TIMEOUT + 2 * (REKEY_TIMEOUT + JITTER) + 1)
    assert len(world.sent(INITIATION, by=alice)) == 3
    bob.is_deaf = False
    world.run_for(REKEY_TIMEOUT + 1)
    assert packet not in bob.received[1:]  # sent with the old key, and lost: that is IP's business
    packet = alice.send(bob, b"after")
    world.run_for(1.0)
    assert bob.received[-1] == packet


@pytest.mark.parametrize("answer", ["data", "keepalive"])
def test_anything_heard_puts_off_the_handshake_of_silence(world: World, quiet: Pair, answer: str) -> None:
    alice, bob = quiet
    for _ in range(4):
        alice.send(bob)
        world.run_for(9.0)
        if answer == "data":
            bob.send(alice)
        world.run_for(5.0)
    assert world.sent(INITIATION) == []


def test_data_sent_on_after_giving_up_begins_handshakes_again(world: World, pair: Pair) -> None:
    alice, bob = pair
    bob.send(alice)  # Bob is the initiator: Alice's own session age never asks for a handshake
    world.run_for(1.0)
    bob.is_deaf = True
    while world.now < 1400.0:
        alice.send(bob)
        world.run_for(1.0)
    assert len(world.sent(INITIATION, by=alice, since=1300.0)) > 10


# --- persistent ---


def test_persistent_keepalive_is_sent_each_interval_of_silence(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    begin = world.now
    alice.interface.set_persistent_keepalive(alice.peer(bob), 20, world.now)
    world.run_for(61.0)
    assert [d.at - begin for d in keepalives(world, alice)] == pytest.approx([0.0, 20.0, 40.0, 60.0])


def test_switched_on_while_up_one_is_sent_at_once_and_only_then(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_persistent_keepalive(alice.peer(bob), 20, world.now)
    assert len(world.log) == 1
    alice.interface.set_persistent_keepalive(alice.peer(bob), 30, world.now)
    alice.interface.set_persistent_keepalive(alice.peer(bob), 0, world.now)
    world.run_for(60.0)
    assert len(world.log) == 1


def test_persistent_keepalive_is_not_sent_while_traffic_flows(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_persistent_keepalive(alice.peer(bob), 3, world.now)
    world.log.clear()
    for _ in range(40):
        alice.send(bob)
        world.run_for(2.0)
    assert keepalives(world, alice) == []


def test_persistent_keepalive_counts_from_what_was_received_too(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_persistent_keepalive(alice.peer(bob), 6, world.now)
    world.log.clear()
    bob.send(alice)
    world.run_for(3.0)
    heard_at = world.now + DELAY
    bob.send(alice)
    world.run_for(7.0)
    assert [d.at for d in keepalives(world, alice)] == [pytest.approx(heard_at + 6)]


def test_persistent_keepalive_holds_a_session_for_ever(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_persistent_keepalive(alice.peer(bob), 25, world.now)
    world.run_for(3600.0)
    packet = bob.send(alice)
    world.run_until(lambda: alice.received[-1:] == [packet], within=DELAY)
    assert 25 <= len(world.sent(INITIATION, by=alice)) <= 31  # one in two minutes


def test_persistent_keepalive_makes_the_handshake_when_the_interface_comes_up(world: World) -> None:
    alice, bob = world.add_host("alice"), world.add_host("bob")
    bob.add_peer(alice)
    bob.up()
    alice.interface.set_persistent_keepalive(alice.add_peer(bob), 25, world.now)
    world.run_for(100.0)
    assert world.log == []
    alice.up()
    world.run_for(1.0)
    assert [datagram.kind for datagram in world.log] == [1, 2, 4]


def test_persistent_keepalive_makes_the_handshake_when_the_private_key_comes_last(world: World) -> None:
    alice, bob = world.add_host("alice"), world.add_host("bob")
    bob.add_peer(alice)
    bob.up()
    alice.interface.set_private_key(None, world.now)
    alice.interface.set_persistent_keepalive(alice.add_peer(bob), 25, world.now)
    alice.up()
    world.run_for(100.0)
    assert world.log == []
    alice.interface.set_private_key(alice.private_key, world.now)
    world.run_for(1.0)
    assert [datagram.kind for datagram in world.log] == [1, 2, 4]


def test_persistent_keepalive_makes_the_handshake_with_another_private_key_at_once(
    world: World, quiet: Pair
) -> None:
    alice, bob = quiet
    alice.interface.set_persistent_keepalive(alice.peer(bob), 25, world.now)
    world.run_for(10.0)
    alice.interface.set_private_key(PrivateKey(bytes([7] * 32)), world.now)
    alice.step()
    assert [datagram.at for datagram in world.sent(INITIATION, by=alice)] == [world.now]


def test_persistent_keepalive_goes_on_trying_after_attempts_were_given_up(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.interface.set_persistent_keepalive(alice.peer(bob), 25, world.now)
    world.run_for(1000.0)
    assert len(world.sent(INITIATION)) > 5 * SENDS_IN_ALL
    world.link.is_cut = False
    world.run_for(60.0)
    assert world.sent(TRANSPORT)
