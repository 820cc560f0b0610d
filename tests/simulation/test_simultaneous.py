"""Both ends begin at once: the kernel's rule converges in the end, that of two agents within three round
trips.
"""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.simulation.paper import INITIATION, JITTER, REKEY_TIMEOUT, RESPONSE
from tests.simulation.world import Host, World
from wgpy.addresses import Endpoint

DELAYS = [0.01, 0.05, 0.1, 0.2]


def begin_at_once(world: World, *, agents: bool, apart: float = 0.0) -> tuple[Host, Host]:
    """Both send a packet, the second one `apart` seconds later; answers come as from `ping`."""
    alice, bob = world.add_pair()
    if agents:
        alice.interface.set_agent(alice.peer(bob), True, world.now)
        bob.interface.set_agent(bob.peer(alice), True, world.now)
    alice.send(bob, b"ping")
    world.run_for(apart)
    bob.send(alice, b"ping")
    return alice, bob


def answer_pings(world: World, one: Host, other: Host) -> None:
    for host, peer in ((one, other), (other, one)):
        for packet in [packet for packet in host.received if packet.endswith(b"ping")]:
            host.received.remove(packet)
            host.send(peer, b"pong")


def first_replies(world: World, alice: Host, bob: Host, within: float) -> float:
    """Seconds until both have had an answer to their packet."""

    def have_both() -> bool:
        answer_pings(world, alice, bob)
        return all(any(p.endswith(b"pong") for p in host.received) for host in (alice, bob))

    return world.run_until(have_both, within)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delay", DELAYS)
def test_two_agents_that_begin_at_once_have_a_reply_within_3_round_trips(
    delay: float, seed: int, make_world: type[World]
) -> None:
    world = make_world(seed=seed, delay=delay)
    alice, bob = begin_at_once(world, agents=True)
    assert first_replies(world, alice, bob, within=5.0) < 3 * 2 * delay
    assert len(world.sent(INITIATION)) == 2
    assert [d.sender.public_key < alice.public_key or d.sender is alice for d in world.sent(RESPONSE)]


@pytest.mark.parametrize("apart", [0.0, 0.3, 0.6, 0.9, 1.0, 1.5])
@pytest.mark.parametrize("delay", DELAYS)
def test_two_agents_that_begin_within_one_way_of_each_other_have_a_reply_within_3_round_trips(
    delay: float, apart: float, make_world: type[World]
) -> None:
    world = make_world(seed=3, delay=delay)
    begin = world.now
    alice, bob = begin_at_once(world, agents=True, apart=apart * delay)
    first_replies(world, alice, bob, within=5.0)
    assert world.now - begin - apart * delay < 3 * 2 * delay


def test_of_two_agents_the_larger_static_key_responds(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.05)
    alice, bob = begin_at_once(world, agents=True)
    world.run_for(1.0)
    assert [datagram.sender for datagram in world.sent(RESPONSE)] == [
        max(alice, bob, key=lambda host: bytes(host.public_key))
    ]


def test_own_initiation_of_an_agent_takes_precedence_for_one_second_only(make_world: type[World]) -> None:
    for age, responders in ((0.99, 1), (1.0, 2)):
        world = make_world(seed=1, delay=0.0)
        alice, bob = world.add_pair()
        smaller, larger = sorted((alice, bob), key=lambda host: bytes(host.public_key))
        smaller.interface.set_agent(smaller.peer(larger), True, world.now)
        larger.interface.set_agent(larger.peer(smaller), True, world.now)
        world.link.is_cut = True
        smaller.send(larger)
        world.run_for(age)
        world.link.is_cut = False
        world.link.passes = lambda datagram: datagram.kind == INITIATION
        larger.send(smaller)
        world.run_for(0.0)
        assert len(world.sent(RESPONSE)) == responders - 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("delay", [*DELAYS, 0.3])
def test_simultaneous_initiations_converge_by_the_kernels_rule(
    delay: float, seed: int, make_world: type[World]
) -> None:
    # Both respond, both refuse the other's response, and the retries settle it. A retry that the gate of the
    # response just sent would refuse is put off to its opening, so no chain dies.
    world = make_world(seed=seed, delay=delay)
    alice, bob = begin_at_once(world, agents=False)
    took = first_replies(world, alice, bob, within=30.0)
    assert took <= 3 * (REKEY_TIMEOUT + JITTER) + 8 * delay
    assert len(world.sent(RESPONSE)) >= 2


@pytest.mark.parametrize("seed", range(4))
def test_agent_and_plain_device_that_begin_at_once_converge(seed: int, make_world: type[World]) -> None:
    world = make_world(seed=seed, delay=0.05)
    alice, bob = begin_at_once(world, agents=False)
    alice.interface.set_agent(alice.peer(bob), True, world.now)
    first_replies(world, alice, bob, within=30.0)


@pytest.mark.parametrize("delay", [0.05, 0.4, 0.8])
def test_of_two_retries_that_would_cross_the_smaller_keys_goes_when_the_gate_opens_and_serves_both(
    delay: float, make_world: type[World]
) -> None:
    world = make_world(seed=5, delay=delay)
    alice, bob = begin_at_once(world, agents=False)
    smaller, larger = sorted((alice, bob), key=lambda host: bytes(host.public_key))
    world.run_until(lambda: len(world.sent(RESPONSE)) == 2, within=1.0)
    responded_at = world.now
    first_replies(world, alice, bob, within=10.0)
    (retry,) = world.sent(INITIATION, since=responded_at)
    assert retry.sender is smaller
    assert retry.at == pytest.approx(responded_at + REKEY_TIMEOUT)
    assert world.sent(RESPONSE)[-1].sender is larger


def test_when_the_smaller_keys_retry_is_lost_the_larger_keys_comes_a_second_later(
    make_world: type[World],
) -> None:
    world = make_world(seed=5, delay=0.05)
    alice, bob = begin_at_once(world, agents=False)
    smaller, larger = sorted((alice, bob), key=lambda host: bytes(host.public_key))
    world.run_until(lambda: len(world.sent(RESPONSE)) == 2, within=1.0)
    responded_at = world.now
    world.link.passes = lambda datagram: datagram.sender is larger or datagram.kind != INITIATION
    first_replies(world, alice, bob, within=10.0)
    assert [(d.sender, d.at) for d in world.sent(INITIATION, since=responded_at)] == [
        (smaller, pytest.approx(responded_at + REKEY_TIMEOUT)),
        (larger, pytest.approx(responded_at + REKEY_TIMEOUT + 1.0)),
    ]


def test_rekey_begun_by_both_ends_at_once_loses_only_what_was_under_way(
    world: World, pair: tuple[Host, Host]
) -> None:
    # The initiator of the retry has a `next` of its own, so it drops the old `current` at once (kernel rule).
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    for host, peer in ((alice, bob), (bob, alice)):
        host.received.clear()
        host.peer(peer).timers.open_gate()
        host.interface.initiate(host.peer(peer), world.now)
    for n in range(100):
        alice.send(bob, str(n).encode())
        bob.send(alice, str(n).encode())
        world.run_for(0.1)
    world.run_for(1.0)
    assert len(world.sent(INITIATION)) == 4
    assert min(len(alice.received), len(bob.received)) >= 98


def test_agent_whose_own_initiations_go_astray_answers_those_that_arrive(make_world: type[World]) -> None:
    world = make_world(seed=5, delay=0.05)
    alice, bob = world.add_pair()
    smaller, larger = sorted((alice, bob), key=lambda host: host.public_key)
    for host, other in ((smaller, larger), (larger, smaller)):
        host.interface.set_agent(host.peer(other), True, world.now)
    nowhere = Endpoint(IPv4Address("203.0.113.9"), 9)
    smaller.interface.set_endpoint(smaller.peer(larger), nowhere, world.now)
    # Pings every second at both ends keep the two in step: each attempt crosses the other's.
    for _ in range(12):
        alice.send(bob, b"ping")
        bob.send(alice, b"ping")
        world.run_for(1.0)
        answer_pings(world, alice, bob)
    assert any(packet.endswith(b"pong") for packet in larger.received)
