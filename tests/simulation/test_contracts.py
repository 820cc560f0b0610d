"""What whoever runs an `Interface` may rely on: its deadlines, its determinism, its patience."""

from __future__ import annotations

import pytest

from tests.simulation.paper import INITIATION, SENDS_IN_ALL, TRANSPORT
from tests.simulation.world import Host, World

Pair = tuple[Host, Host]


def busy_hour(seed: int) -> list[tuple[float, str, bytes]]:
    """An hour over a bad network; every datagram with its instant."""
    world = World(seed=seed, delay=0.03)
    world.link.loss, world.link.jitter, world.link.duplication = 0.1, 0.05, 0.05
    alice, bob = world.add_pair()
    alice.interface.set_persistent_keepalive(alice.peer(bob), 25, world.now)
    for _ in range(120):
        (alice if world.rng.random() < 0.5 else bob).send(bob if world.rng.random() < 0.5 else alice)
        before = world.now
        world.run_for(world.rng.random() * 60)
        for host in (alice, bob):
            assert host.deadline is None or host.deadline > before
    return [(datagram.at, datagram.sender.name, datagram.data) for datagram in world.log]


def test_same_seed_gives_the_same_schedule_to_the_octet() -> None:
    assert busy_hour(3) == busy_hour(3)
    assert busy_hour(3) != busy_hour(4)


@pytest.mark.parametrize("seed", range(5))
def test_no_deadline_is_ever_announced_in_the_past(seed: int, make_world: type[World]) -> None:
    world = make_world(seed=seed, delay=0.05)
    world.link.loss = 0.2
    alice, bob = world.add_pair()
    for _ in range(400):
        if world.rng.random() < 0.1:
            alice.send(bob)
        if world.rng.random() < 0.1:
            bob.send(alice)
        world.run_for(world.rng.random() * 10)
        for host in (alice, bob):
            assert host.deadline is None or host.deadline > world.now


@pytest.mark.parametrize("late", [0.5, 7.0, 60.0, 200.0, 1000.0])
def test_a_loop_that_comes_late_does_no_harm(world: World, pair: Pair, late: float) -> None:
    alice, bob = pair
    alice.interface.set_persistent_keepalive(alice.peer(bob), 10, world.now)
    for _ in range(5):
        alice.send(bob)
        world.run_for(3.0)
        alice.is_paused = True
        world.run_for(late)
        before = len(world.log)
        alice.is_paused = False
        alice.step()
        assert len(world.log) - before <= 3  # no burst makes up for what was missed
        assert alice.deadline is not None
        assert alice.deadline > world.now
        world.run_for(20.0)
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received[-1] == packet


def test_calling_for_a_timeout_when_none_is_due_does_nothing(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    before, deadline = len(world.log), alice.deadline
    for _ in range(3):
        alice.interface.handle_timeout(world.now)
    assert (len(world.log), alice.deadline) == (before, deadline)


def test_host_that_has_nothing_to_wait_for_announces_no_deadline(world: World, pair: Pair) -> None:
    alice, bob = pair
    assert (alice.deadline, bob.deadline) == (None, None)
    alice.send(bob)
    world.run_for(2000.0)
    assert (alice.deadline, bob.deadline) == (None, None)


def test_wake_ups_do_not_grow_with_the_packet_rate(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    alice.events.clear()
    for _ in range(2000):
        alice.send(bob)
        bob.send(alice)
        world.run_for(0.05)
    # 100 s, two timers of 10 and 15 s: at most one report each interval and timer
    assert len(alice.events) <= 2 * 100 / 10 + 2


def test_three_hosts_keep_their_sessions_apart(world: World) -> None:
    hosts = [world.add_host(name) for name in ("alice", "bob", "carol")]
    for host in hosts:
        for other in hosts:
            if host is not other:
                host.add_peer(other)
        host.up()
    for n in range(40):
        for host in hosts:
            for other in hosts:
                if host is not other:
                    host.send(other, f"{host.name} to {other.name} {n}".encode())
        world.run_for(10.0)
    for host in hosts:
        assert len(host.received) == 80
        assert all(f"to {host.name}".encode() in packet for packet in host.received)


def test_peer_that_never_answers_costs_20_packets_for_each_burst_of_traffic(world: World, pair: Pair) -> None:
    alice, bob = pair
    bob.down()
    for _ in range(3):
        alice.send(bob)
        world.run_for(300.0)
    assert len(world.sent(INITIATION)) == 3 * SENDS_IN_ALL
    assert not world.sent(TRANSPORT)
