"""The endpoint follows what is authenticated, and nothing else."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from tests.simulation.paper import INITIATION, RESPONSE, TRANSPORT
from tests.simulation.world import Datagram, Host, World, make_packet
from wgpy.addresses import Endpoint, host_prefix

Pair = tuple[Host, Host]

ELSEWHERE = Endpoint(IPv4Address("198.51.100.7"), 4242)


def endpoint_of(host: Host, peer: Host) -> Endpoint | None:
    status = {status.public_key: status for status in host.interface.status(0.0)}[peer.public_key]
    assert host.peer(peer).endpoint == status.endpoint  # what the core was told
    return status.endpoint


def resend_from(world: World, datagram: Datagram, source: Endpoint) -> None:
    world.deliver(
        Datagram(world.now, datagram.sender, source, datagram.to, datagram.data, datagram.tos, None)
    )


@pytest.fixture
def quiet(world: World, pair: Pair) -> Pair:
    alice, bob = pair
    alice.send(bob)
    world.run_for(30.0)
    world.log.clear()
    return pair


def test_responder_learns_the_endpoint_from_the_initiation(world: World) -> None:
    alice, bob = world.add_pair(endpoints=False)
    assert endpoint_of(bob, alice) is None
    alice.send(bob)
    world.run_for(1.0)
    assert endpoint_of(bob, alice) == alice.endpoint


@pytest.mark.parametrize("kind", ["data", "keepalive"])
def test_endpoint_follows_transport_packets(world: World, quiet: Pair, kind: str) -> None:
    alice, bob = quiet
    alice.endpoint = ELSEWHERE
    if kind == "data":
        alice.send(bob)
    else:
        alice.engine.send_keepalive(alice.peer(bob).id)
    world.run_for(1.0)
    assert endpoint_of(bob, alice) == ELSEWHERE
    packet = bob.send(alice)
    world.run_for(1.0)
    assert alice.received[-1] == packet


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_endpoint_follows_handshake_messages(world: World, quiet: Pair, kind: int) -> None:
    alice, bob = quiet
    mover, stayer = (alice, bob) if kind == INITIATION else (bob, alice)
    world.link.passes = lambda datagram: datagram.kind != TRANSPORT
    alice.peer(bob).timers.open_gate()
    alice.interface.initiate(alice.peer(bob), world.now)
    if mover is alice:
        # It left before the move, and is changed on its way as a NAT would.
        world.run_for(0.01)
        alice.endpoint = ELSEWHERE
        resend_from(world, world.sent(INITIATION)[0], ELSEWHERE)
    else:
        bob_was = bob.endpoint
        world.run_until(lambda: bool(world.sent(RESPONSE)), within=1.0)
        bob.endpoint = ELSEWHERE
        assert bob_was != ELSEWHERE
        resend_from(world, world.sent(RESPONSE)[0], ELSEWHERE)
    assert endpoint_of(stayer, mover) == ELSEWHERE


def test_replayed_packet_from_elsewhere_does_not_move_the_endpoint(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    world.run_for(1.0)
    resend_from(world, world.sent(TRANSPORT)[0], ELSEWHERE)
    assert endpoint_of(bob, alice) == alice.endpoint


def test_forged_packets_from_elsewhere_do_not_move_the_endpoint(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.send(bob)
    alice.peer(bob).timers.open_gate()
    alice.interface.initiate(alice.peer(bob), world.now)
    world.link.is_cut = True
    for datagram in list(world.log):
        forged = bytearray(datagram.data)
        forged[60] ^= 1
        resend_from(
            world, Datagram(0, alice, alice.endpoint, bob.endpoint, bytes(forged), 0, None), ELSEWHERE
        )
    assert endpoint_of(bob, alice) == alice.endpoint


def test_packet_with_a_refused_inner_source_moves_the_endpoint_all_the_same(
    world: World, quiet: Pair
) -> None:
    alice, bob = quiet
    source = ip_address("10.9.9.9")
    alice.interface.add_allowed_ips(alice.peer(bob), [host_prefix(source)], world.now)
    bob.received.clear()
    alice.endpoint = ELSEWHERE
    alice.engine.receive_packet(make_packet(source, bob.address, b"x"))
    world.run_for(1.0)
    assert bob.received == []
    assert endpoint_of(bob, alice) == ELSEWHERE


def test_set_endpoint_counts_until_the_peer_is_heard_from(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    alice.interface.set_endpoint(alice.peer(bob), ELSEWHERE, world.now)
    alice.send(bob)
    assert (world.log[-1].to, world.log[-1].sticky) == (ELSEWHERE, None)
    bob.send(alice)
    world.run_for(1.0)
    assert endpoint_of(alice, bob) == bob.endpoint


def test_both_ends_may_move_in_turn(world: World, quiet: Pair) -> None:
    alice, bob = quiet
    for n in range(5):
        alice.endpoint = Endpoint(IPv4Address(f"198.51.100.{n}"), 1000 + n)
        there = alice.send(bob)
        world.run_for(1.0)
        bob.endpoint = Endpoint(IPv4Address(f"203.0.113.{n}"), 2000 + n)
        back = bob.send(alice)
        world.run_for(1.0)
        assert (bob.received[-1], alice.received[-1]) == (there, back)
