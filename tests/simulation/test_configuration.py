"""Settings changed while packets flow: keys, peers, allowed IPs, up and down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_network

import pytest

from tests.simulation.paper import INITIATION, RESPONSE, TRANSPORT
from tests.simulation.world import Host, World
from wgpy.addresses import Prefix, host_prefix
from wgpy.keys import PrivateKey
from wgpy.protocol.actions import PeerId

Pair = tuple[Host, Host]


@pytest.fixture
def quiet(world: World, pair: Pair) -> Pair:
    alice, bob = pair
    alice.send(bob)
    world.run_for(30.0)
    world.log.clear()
    alice.received.clear()
    bob.received.clear()
    return pair


def other_key(host: Host) -> PrivateKey:
    return PrivateKey(host.rng.randbytes(32))


# --- identity ---


def test_own_public_key_is_not_added_as_a_peer(world: World, pair: Pair) -> None:
    alice, _ = pair
    assert alice.interface.add_peer(alice.public_key, world.now) is None
    assert len(alice.interface.peers) == 1


def test_private_key_that_makes_a_peer_ourselves_removes_that_peer(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.set_private_key(bob.private_key, world.now)
    assert len(alice.interface.peers) == 0


def test_setting_the_same_private_key_again_keeps_the_session(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_private_key(PrivateKey(bytes(alice.private_key)), world.now)
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received == [packet]
    assert not world.sent(INITIATION)


def test_new_private_key_sends_no_more_with_the_old_session_and_begins_a_new_one_at_once(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)  # the gate would be closed
    alice.interface.set_private_key(other_key(alice), world.now)
    bob.add_peer(alice)
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received[-1] == packet
    assert len(world.sent(INITIATION)) == 2


def test_old_session_still_receives_after_the_private_key_changed(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_private_key(other_key(alice), world.now)
    packet = bob.send(alice)
    world.run_for(1.0)
    assert alice.received == [packet]


def test_a_rotated_key_keeps_the_session_at_both_ends_and_the_next_handshake_is_made_with_it(
    world: World, quiet: Pair
) -> None:
    alice, bob = quiet
    old, key = alice.public_key, other_key(alice)
    alice.interface.rotate_private_key(key, world.now)
    packets = [alice.send(bob)]
    world.run_for(1.0)  # bob has not heard of it yet
    assert bob.interface.rename_peer(old, key.public_key(), world.now)
    answers = [bob.send(alice)]
    world.run_for(1.0)
    assert (bob.received, alice.received) == (packets, answers)
    assert not world.sent(INITIATION)
    for _ in range(30):
        packets.append(alice.send(bob))
        answers.append(bob.send(alice))
        world.run_for(10.0)
    assert world.sent(INITIATION)
    assert world.sent(RESPONSE)
    assert (bob.received, alice.received) == (packets, answers)
    assert [*bob.interface.peers] == [key.public_key()]


def test_a_peer_that_has_not_heard_of_a_rotated_key_is_answered_while_the_one_of_before_is_kept(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    alice.interface.rotate_private_key(other_key(alice), world.now)
    packets, answers = [], []
    for _ in range(30):  # over rekeys, which bob begins
        packets.append(bob.send(alice))
        answers.append(alice.send(bob))
        world.run_for(10.0)
    assert len(world.sent(INITIATION, by=bob)) > 1
    assert alice.received == packets
    assert set(bob.received) >= set(answers[1:])


def test_the_key_of_before_is_answered_for_until_it_is_dropped(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.rotate_private_key(other_key(alice), world.now)
    alice.interface.set_previous_key(None)
    bob.send(alice)
    world.run_for(20.0)
    assert world.sent(INITIATION, by=bob)
    assert not world.sent(RESPONSE)
    assert alice.received == []


def test_who_becomes_somebody_else_answers_for_nobody_of_before(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.rotate_private_key(other_key(alice), world.now)
    alice.interface.set_private_key(PrivateKey(b"\x07" * 32), world.now)
    bob.send(alice)
    world.run_for(20.0)
    assert not world.sent(RESPONSE, by=alice)


def test_a_peer_is_not_renamed_to_somebody_else(world: World, pair: Pair) -> None:
    alice, bob = pair
    other = other_key(alice).public_key()
    assert not alice.interface.rename_peer(other, bob.public_key, world.now)
    assert not alice.interface.rename_peer(bob.public_key, bob.public_key, world.now)
    assert not alice.interface.rename_peer(bob.public_key, alice.public_key, world.now)
    alice.interface.add_peer(other, world.now)
    assert not alice.interface.rename_peer(bob.public_key, other, world.now)


def test_response_to_an_initiation_of_the_old_private_key_is_refused(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.initiate(alice.peer(bob), world.now)
    alice.interface.set_private_key(other_key(alice), world.now)
    world.run_for(3.0)
    assert world.sent(RESPONSE)
    assert not world.sent(TRANSPORT)


def test_without_a_private_key_nothing_is_sent_and_nothing_answered(world: World, pair: Pair) -> None:
    alice, bob = pair
    bob.interface.set_private_key(None, world.now)
    bob.interface.set_persistent_keepalive(next(iter(bob.interface.peers.values())), 5, world.now)
    bob.engine.receive_packet(alice.send(bob)[:12] + bob.address.packed + alice.address.packed + b"ping")
    world.run_for(100.0)
    assert world.sent(by=bob) == []


def test_zeros_are_no_private_key(world: World, pair: Pair) -> None:
    alice, _ = pair
    alice.interface.set_private_key(PrivateKey(bytes(32)), world.now)
    assert alice.interface.private_key is None
    assert alice.interface.public_key is None


def test_packet_staged_before_there_was_a_private_key_is_sent_when_it_comes(world: World, pair: Pair) -> None:
    alice, bob = pair
    key = alice.private_key
    alice.interface.set_private_key(None, world.now)
    packet = alice.send(bob)
    world.run_for(60.0)
    alice.interface.set_private_key(key, world.now)
    world.run_for(1.0)
    assert bob.received == [packet]


# --- peers and allowed IPs ---


def test_adding_a_peer_again_gives_the_same_one_and_keeps_its_session(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    assert alice.interface.add_peer(bob.public_key, world.now) is alice.peer(bob)
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received == [packet]
    assert not world.sent(INITIATION)


def test_removed_peer_is_neither_sent_to_nor_answered(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    bob.interface.remove_peer(alice.public_key, world.now)
    alice.send(bob)
    world.run_for(30.0)
    assert bob.received == []
    assert world.sent(by=bob) == []
    assert bob.deadline is None
    assert bob.interface.status(world.now) == []


def test_removing_all_peers_leaves_none(world: World, pair: Pair) -> None:
    alice, _ = pair
    alice.interface.remove_all_peers(world.now)
    assert len(alice.interface.peers) == 0
    alice.interface.remove_all_peers(world.now)


def test_allowed_ip_given_to_another_peer_leaves_the_one_that_had_it(world: World, pair: Pair) -> None:
    alice, bob = pair
    carol = world.add_host("carol")
    alice.add_peer(carol)
    carol.add_peer(alice)
    carol.up()
    alice.interface.add_allowed_ips(alice.peer(carol), [host_prefix(bob.address)], world.now)
    status = {peer.public_key: peer.allowed_ips for peer in alice.interface.status(world.now)}
    assert status[bob.public_key] == ()
    assert set(status[carol.public_key]) == {host_prefix(carol.address), host_prefix(bob.address)}
    packet = alice.send(bob)
    world.run_for(1.0)
    assert carol.received == [packet]


def test_source_address_of_another_peer_is_refused(world: World) -> None:
    # The check is over the whole device: an address of Bob's is not accepted from Carol, whoever else has
    # 0/0.
    alice, bob = world.add_pair()
    carol = world.add_host("carol")
    alice.interface.add_allowed_ips(alice.add_peer(carol), [ip_network("0.0.0.0/0")], world.now)
    carol.add_peer(alice)
    carol.up()
    genuine = carol.send(alice)
    world.run_for(1.0)
    carol.address = bob.address
    carol.send(alice, b"as bob")
    world.run_for(1.0)
    assert alice.received == [genuine]


def test_replacing_allowed_ips_changes_only_the_difference(world: World, pair: Pair) -> None:
    alice, bob = pair
    calls: list[tuple[str, list[str]]] = []

    def note(name: str, method: Callable[[PeerId, Iterable[Prefix]], None]) -> None:
        def call(peer: PeerId, prefixes: Iterable[Prefix]) -> None:
            prefixes = list(prefixes)
            calls.append((name, [str(prefix) for prefix in prefixes]))
            method(peer, prefixes)

        setattr(alice.engine, name, call)

    note("add_allowed_ips", alice.engine.add_allowed_ips)
    note("remove_allowed_ips", alice.engine.remove_allowed_ips)
    wanted = [ip_network("10.0.0.2/32"), ip_network("10.1.0.0/16")]
    alice.interface.replace_allowed_ips(alice.peer(bob), wanted, world.now)
    alice.interface.replace_allowed_ips(alice.peer(bob), wanted[1:], world.now)
    assert calls == [
        ("remove_allowed_ips", []),
        ("add_allowed_ips", ["10.1.0.0/16"]),
        ("remove_allowed_ips", ["10.0.0.2/32"]),
        ("add_allowed_ips", []),
    ]
    assert alice.interface.status(world.now)[0].allowed_ips == tuple(wanted[1:])


@pytest.mark.parametrize("seconds", [-1, 65536])
def test_persistent_keepalive_beyond_65535_is_refused(world: World, pair: Pair, seconds: int) -> None:
    alice, bob = pair
    with pytest.raises(ValueError, match="65535"):
        alice.interface.set_persistent_keepalive(alice.peer(bob), seconds, world.now)


# --- up and down ---


def test_down_stops_timers_and_wipes_keys_and_drops_what_is_staged(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.set_persistent_keepalive(alice.peer(bob), 5, world.now)
    world.run_for(1.0)
    bob.interface.initiate(bob.peer(alice), world.now)
    alice.down()
    facts = alice.engine.facts(alice.peer(bob).id)
    assert (facts.current, facts.staged) == (None, 0)
    assert alice.deadline is None
    before = len(world.sent(by=alice))
    world.run_for(600.0)
    assert len(world.sent(by=alice)) == before


def test_initiations_are_not_answered_while_down(world: World, pair: Pair) -> None:
    alice, bob = pair
    bob.down()
    alice.send(bob)
    world.run_for(60.0)
    assert world.sent(by=bob) == []
    bob.up()
    world.run_for(6.0)
    assert len(bob.received) == 1


def test_up_again_opens_the_gate(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.initiate(alice.peer(bob), world.now)
    world.run_for(1.0)
    alice.down()
    alice.up()
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received[-1] == packet


def test_up_and_down_are_idempotent(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.up()
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received == [packet]
    alice.down()
    alice.down()
    assert not alice.interface.is_up


def test_what_waits_when_the_interface_comes_up_is_sent(world: World) -> None:
    alice, bob = world.add_host("alice"), world.add_host("bob")
    alice.add_peer(bob)
    bob.add_peer(alice, endpoint=False)
    bob.up()
    packet = alice.send(bob)
    world.run_for(10.0)
    assert world.log == []
    alice.up()
    world.run_for(1.0)
    assert bob.received == [packet]


def test_keepalive_is_offered_at_up_to_peers_that_have_one_kept_up(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.down()
    alice.interface.set_persistent_keepalive(alice.peer(bob), 25, world.now)
    assert world.log == []
    alice.up()
    assert [datagram.kind for datagram in world.log] == [INITIATION]
