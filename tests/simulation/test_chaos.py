"""Whatever happened before: once the net is whole and both ends know each other, packets get through.

Each seed is another story of cut links, moved hosts, new keys, removed peers, pauses, ups and downs, told
by one random source, with the engine's events in any order. At every step the contracts of deadlines and
indices must hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from tests.simulation.world import Host, World
from wgpy.addresses import Endpoint
from wgpy.keys import PresharedKey, PrivateKey

STEPS = 80


class Story:
    """Two hosts, and everything that may happen to them."""

    def __init__(self, seed: int, make_world: type[World]) -> None:
        self.rng = random.Random(seed)
        self.world = make_world(seed=seed, delay=self.rng.choice([0.001, 0.05, 0.3]))
        self.hosts = self.world.add_pair()
        for host in self.hosts:
            host.shuffles_events = True
        self.is_agents = self.rng.random() < 0.5
        self.keys: dict[Host, PrivateKey] = {host: host.private_key for host in self.hosts}
        self.introduce()

    def introduce(self) -> None:
        """Each end knows the other's key, address and endpoint, with the same preshared key."""
        now = self.world.now
        for host in self.hosts:
            host.is_paused = False
            host.interface.set_private_key(self.keys[host], now)
            host.interface.up(now)
        for host, other in (self.hosts, self.hosts[::-1]):
            for key in [key for key in host.interface.peers if key != other.public_key]:
                host.interface.remove_peer(key, now)
            peer = host.add_peer(other)
            host.interface.set_agent(peer, self.is_agents, now)
            host.interface.set_preshared_key(peer, PresharedKey.zero(), now)
            host.step()

    def happenings(self) -> list[Callable[[Host, Host], object]]:
        rng, world = self.rng, self.world
        return [
            lambda host, other: host.send(other),
            lambda host, other: [host.send(other) for _ in range(rng.randrange(200))],
            lambda host, other: world.run_for(rng.random()),
            lambda host, other: world.run_for(rng.random() * 30),
            lambda host, other: world.run_for(rng.random() * 300),
            lambda host, other: setattr(world.link, "is_cut", rng.random() < 0.5),
            lambda host, other: setattr(world.link, "loss", rng.choice([0.0, 0.0, 0.2, 0.7])),
            lambda host, other: setattr(world.link, "duplication", rng.choice([0.0, 0.5])),
            lambda host, other: setattr(world.link, "jitter", rng.choice([0.0, 0.1])),
            lambda host, other: setattr(host, "is_paused", rng.random() < 0.3),
            lambda host, other: setattr(host, "wall_offset_ns", rng.randrange(-(10**15), 10**15)),
            lambda host, other: host.down(),
            lambda host, other: host.up(),
            lambda host, other: self.new_key(host),
            lambda host, other: host.interface.set_private_key(None, world.now),
            lambda host, other: host.interface.set_private_key(self.keys[host], world.now),
            lambda host, other: self.with_peer(host, other, host.interface.initiate),
            lambda host, other: self.with_peer(
                host,
                other,
                lambda peer, now: host.interface.set_persistent_keepalive(peer, rng.choice([0, 1, 25]), now),
            ),
            lambda host, other: self.with_peer(
                host,
                other,
                lambda peer, now: host.interface.set_preshared_key(peer, PresharedKey(bytes([1]) * 32), now),
            ),
            lambda host, other: host.interface.remove_all_peers(world.now),
            lambda host, other: setattr(
                host,
                "endpoint",
                Endpoint(IPv4Address(f"198.51.100.{rng.randrange(256)}"), 1 + rng.randrange(9999)),
            ),
            lambda host, other: world.log and world.deliver(rng.choice(world.log)),
            lambda host, other: self.introduce(),
        ]

    def new_key(self, host: Host) -> None:
        self.keys[host] = PrivateKey(self.rng.randbytes(32))
        host.interface.set_private_key(self.keys[host], self.world.now)

    def with_peer(self, host: Host, other: Host, action: Callable[..., object]) -> None:
        key = other.interface.public_key
        if key is not None and key in host.interface.peers:
            action(host.peer(other), self.world.now)

    def step(self) -> None:
        host, other = self.rng.sample(self.hosts, 2)
        self.rng.choice(self.happenings())(host, other)
        for each in self.hosts:
            each.step()
            self.check(each)

    def check(self, host: Host) -> None:
        assert host.deadline is None or host.deadline > self.world.now
        # A peer has three keypairs and one handshake at the most.
        assert host.index_count <= 4 * len(host.interface.peers)

    def heal(self) -> None:
        link = self.world.link
        link.is_cut, link.loss, link.jitter, link.duplication = False, 0.0, 0.0, 0.0
        for host in self.hosts:
            host.wall_offset_ns = 0
        self.introduce()


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happened_packets_get_through_in_the_end(seed: int, make_world: type[World]) -> None:
    story = Story(seed, make_world)
    for _ in range(STEPS):
        story.step()
    story.heal()
    alice, bob = story.hosts
    for sender, receiver in (story.hosts, story.hosts[::-1]):
        receiver.received.clear()
        # A session of before may take packets into the void until silence is noticed, after 15 s and some.
        for _ in range(60):
            packet = sender.send(receiver, b"at last")
            story.world.run_for(1.0)
            if packet in receiver.received:
                break
        else:
            pytest.fail(f"nothing from {sender.name} arrives: {story.world.log[-20:]}")
    for host in (alice, bob):
        story.check(host)
