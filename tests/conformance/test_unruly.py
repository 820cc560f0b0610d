"""The core on an engine that tells its events late, coalesced and out of order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tests.conformance.unruly import UnrulyHost, UnrulyWorld
from wgpy.addresses import host_prefix
from wgpy.keys import PrivateKey

SEEDS = range(12)
INITIATION = 1


def send_until_heard(world: UnrulyWorld, sender: UnrulyHost, receiver: UnrulyHost, within: float) -> None:
    """A packet a second, for one is lost when the other end forgot the session it was sealed in."""
    end = world.now + within
    receiver.received.clear()
    while not receiver.received:
        assert world.now < end, f"not within {within} s; {world.log[-10:]}"
        sender.send(receiver)
        world.run_for(1.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("latest", [0.001, 0.05, 0.5])
def test_the_tunnel_comes_up_and_what_waited_arrives_in_order(seed: int, latest: float) -> None:
    world = UnrulyWorld(seed, delay=0.02, latest=latest)
    alice, bob = world.add_pair()
    packets = [alice.send(bob, b"packet %d" % number) for number in range(20)]
    world.run_until(lambda: len(bob.received) == len(packets), within=4 * latest + 1)
    assert bob.received == packets
    assert len(world.sent(INITIATION)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_both_at_once_still_come_up(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.05, latest=0.1)
    alice, bob = world.add_pair()
    alice.send(bob)
    bob.send(alice)
    world.run_until(lambda: bool(alice.received and bob.received), within=30)


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_minutes_of_traffic_lose_nothing_and_rekey_when_due(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.03, latest=0.5)
    alice, bob = world.add_pair()
    sent: dict[str, list[bytes]] = {"alice": [], "bob": []}
    alice.send(bob, b"first")
    world.run_until(lambda: bool(bob.received), within=5)
    bob.received.clear()
    for number in range(600):
        world.run_for(1.0)
        sent["alice"].append(alice.send(bob, b"%d" % number))
        sent["bob"].append(bob.send(alice, b"%d" % number))
    world.run_for(1.0)
    assert bob.received == sent["alice"]
    assert alice.received == sent["bob"]
    initiations = world.sent(INITIATION)
    assert 5 <= len(initiations) <= 7, "one each 120 s"
    gaps = [later.at - earlier.at for earlier, later in pairwise(initiations)]
    assert all(gap >= 119 for gap in gaps)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_keepalive_follows_received_data_however_late_the_fact_is_told(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.01, latest=1.0)
    alice, bob = world.add_pair()
    alice.send(bob)
    world.run_until(lambda: bool(bob.received), within=5)
    world.run_for(60)
    world.log.clear()
    alice.send(bob)
    begin = world.now
    world.run_for(30)
    (keepalive,) = [each for each in world.log if each.is_keepalive]
    assert keepalive.sender is bob
    assert 10 <= keepalive.at - begin <= 11.1
    assert not world.sent(INITIATION)


@pytest.mark.parametrize("seed", SEEDS)
def test_silence_after_data_begins_a_handshake_and_hearing_something_prevents_it(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.01, latest=1.0)
    alice, bob = world.add_pair()
    alice.send(bob)
    world.run_until(lambda: bool(bob.received), within=5)
    world.run_for(30)
    world.log.clear()
    alice.send(bob)
    world.run_for(30)
    assert not world.sent(INITIATION), "bob's keepalive was heard"
    world.link.is_cut = True
    alice.send(bob)
    begin = world.now
    world.run_for(18)
    (initiation,) = world.sent(INITIATION)
    assert 15 <= initiation.at - begin <= 15 + 0.334 + 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_events_of_a_peer_that_was_removed_are_ignored(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.01, latest=0.5)
    alice, bob = world.add_pair()
    rng = random.Random(seed)
    for _ in range(10):
        alice.send(bob)
        world.run_for(rng.random())
        bob.interface.remove_peer(alice.public_key, world.now)
        alice.send(bob)
        world.run_for(rng.random())
        bob.add_peer(alice)
    send_until_heard(world, alice, bob, within=25)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_of_identity_amid_handshakes_ends_in_a_tunnel(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.01, latest=0.5)
    alice, bob = world.add_pair()
    rng = random.Random(seed)
    for number in range(5):
        alice.send(bob)
        world.run_for(rng.random())
        old = bob.public_key
        bob.interface.set_private_key(PrivateKey(rng.randbytes(32)), world.now)
        alice.interface.remove_peer(old, world.now)
        peer = alice.add_peer(bob)
        alice.interface.add_allowed_ips(peer, [host_prefix(bob.address)], world.now)
        bob.received.clear()
        alice.send(bob, b"to identity %d" % number)
        world.run_until(lambda: bool(bob.received), within=20)


@pytest.mark.parametrize("seed", SEEDS)
def test_going_down_and_up_amid_events_ends_in_a_tunnel(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.01, latest=0.5)
    alice, bob = world.add_pair()
    rng = random.Random(seed)
    for _ in range(10):
        alice.send(bob)
        world.run_for(rng.random())
        for host in (alice, bob):
            if rng.random() < 0.7:
                host.engine.events.discard_handshakes()
                host.down()
                world.run_for(rng.random())
                host.up()
    send_until_heard(world, alice, bob, within=25)
    send_until_heard(world, bob, alice, within=25)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_line_and_late_events_together_still_make_a_tunnel(seed: int) -> None:
    world = UnrulyWorld(seed, delay=0.05, latest=0.5)
    world.link.loss = 0.3
    world.link.jitter = 0.2
    world.link.duplication = 0.2
    alice, bob = world.add_pair()
    for number in range(400):
        alice.send(bob, b"%d" % number)
        bob.send(alice, b"%d" % number)
        world.run_for(1.0)
    for host in (alice, bob):
        assert len(host.received) == len(set(host.received)), "nothing twice"
        assert len(host.received) > 200, "70 % of 400 get through, less what a handshake delays"
