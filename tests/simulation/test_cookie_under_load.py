"""A responder under load answers with cookies, and whoever receives where it says gets through all the
same.
"""

from __future__ import annotations

import random

import pytest

from tests.simulation.paper import COOKIE_REPLY, INITIATION, JITTER, REKEY_TIMEOUT, RESPONSE
from tests.simulation.world import Datagram, Host, World
from wgpy.addresses import Endpoint
from wgpy.protocol.actions import Origin
from wgpy.protocol.cookie import CookieGenerator

UNDER_LOAD = 512

Pair = tuple[Host, Host]


def put_under_load(world: World, host: Host) -> None:
    """Stop its loop and fill an eighth of its queue with initiations whose mac1 is right and the rest
    noise.
    """
    host.is_paused = True
    rng = random.Random(9)
    macs = CookieGenerator(bytes(host.public_key))
    for n in range(UNDER_LOAD):
        data = macs.add_macs(b"\x01\0\0\0" + rng.randbytes(112), world.now)
        attacker = Endpoint(world.hosts[0].endpoint.address + 100 + n % 100, 1024 + n)
        world.deliver(Datagram(world.now, host, attacker, host.endpoint, data, 0, None))


def relieve(host: Host) -> None:
    host.is_paused = False
    host.step()


@pytest.fixture
def loaded(world: World, pair: Pair) -> Pair:
    put_under_load(world, pair[1])
    return pair


def test_initiation_without_a_cookie_gets_a_cookie_reply_and_nothing_else(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    alice.send(bob)
    world.run_for(1.0)
    (reply,) = world.sent(COOKIE_REPLY)
    assert (reply.to, reply.tos, len(reply.data)) == (alice.endpoint, 0, 64)
    relieve(bob)
    world.run_for(0.5)
    assert not world.sent(RESPONSE)


def test_retry_with_the_cookie_completes_under_load(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    packet = alice.send(bob)
    world.run_for(1.0)
    world.run_for(4.05)
    assert len(world.sent(INITIATION)) == 1  # a cookie does not hasten the retry
    world.run_for(JITTER)
    first, retry = world.sent(INITIATION)
    assert retry.at - first.at >= REKEY_TIMEOUT
    assert (first.data[132:] == bytes(16), retry.data[132:] == bytes(16)) == (True, False)
    world.run_for(0.1)
    assert len(world.sent(COOKIE_REPLY)) == 1
    relieve(bob)
    world.run_for(1.0)
    assert bob.received == [packet]


def test_cookie_reply_does_not_move_the_endpoint(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    alice.send(bob)
    world.run_until(lambda: bool(world.sent(COOKIE_REPLY)), within=1.0)
    reply = world.sent(COOKIE_REPLY)[0]
    elsewhere = Endpoint(bob.endpoint.address + 50, 9)
    alice.engine.receive_datagram(reply.data, Origin(elsewhere))
    alice.step()
    assert alice.interface.status(world.now)[0].endpoint == bob.endpoint
    assert alice.interface.status(world.now)[0].rx_bytes == 0
    world.run_for(REKEY_TIMEOUT + JITTER)
    assert world.sent(INITIATION)[1].data[132:] != bytes(16)  # it was taken all the same


def test_replayed_cookie_reply_is_refused(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    alice.send(bob)
    world.run_for(1.0)
    assert alice.interface.invalid_messages == 0
    world.deliver(world.sent(COOKIE_REPLY)[0])
    assert alice.interface.invalid_messages == 1


def test_cookie_of_one_port_does_not_serve_another(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    alice.send(bob)
    world.run_for(1.0)
    alice.endpoint = Endpoint(alice.endpoint.address, 40000)  # a NAT has given another mapping
    world.run_for(REKEY_TIMEOUT + JITTER)
    assert len(world.sent(INITIATION)) == 2
    assert len(world.sent(COOKIE_REPLY)) == 2


def test_responder_no_longer_under_load_asks_for_no_cookie(world: World, loaded: Pair) -> None:
    alice, bob = loaded
    world.run_for(2.0)
    relieve(bob)
    packet = alice.send(bob)
    world.run_for(1.0)
    assert not world.sent(COOKIE_REPLY)
    assert bob.received == [packet]


def test_noise_of_strangers_is_counted_and_neither_answered_nor_raised(world: World, loaded: Pair) -> None:
    _, bob = loaded
    relieve(bob)
    assert bob.interface.invalid_messages == UNDER_LOAD
    assert world.log == []
    assert bob.deadline is None
