"""A flood of handshake messages that know our public key, against a peer that wants in."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_network

import pytest
import trio

from tests.conformance.far_end import ip_packet
from tests.conformance.host_bench import private_network
from wgpy.addresses import Endpoint
from wgpy.clock import boottime
from wgpy.device import Device, open_device
from wgpy.engine import ENGINES, make_engine
from wgpy.keys import PrivateKey
from wgpy.protocol import cookie

_FLOOD = """
import socket, sys, time
message = bytes.fromhex(sys.argv[1])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.66", 0))
while True:
    for _ in range(1000):
        sock.sendto(message, ("127.0.0.1", int(sys.argv[2])))
    time.sleep(0.1)
"""
"""More than are handled, fewer than the socket would lose: what is lost before it is looked at is luck."""


@contextmanager
def flood(victim: Device) -> Iterator[None]:
    """Ten thousand initiations a second with a right mac1."""
    public = victim.interface.public_key
    assert public is not None
    initiation = struct.pack("<II", 1, 7) + random.Random(1).randbytes(108)
    message = cookie.CookieGenerator(bytes(public)).add_macs(initiation, 0.0)
    process = subprocess.Popen([sys.executable, "-c", _FLOOD, message.hex(), str(victim.listen_port)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def configure(device: Device, key: PrivateKey, other: PrivateKey, address: str, port: int) -> None:
    now = boottime()
    device.interface.set_private_key(key, now)
    peer = device.interface.add_peer(other.public_key(), now)
    assert peer is not None
    device.interface.add_allowed_ips(peer, [ip_network(address)], now)
    device.interface.set_endpoint(peer, Endpoint(IPv4Address("127.0.0.1"), port), now)
    device.set_listen_port(port ^ 1)
    device.bring_up()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_peer_gets_in_while_initiations_are_flooded_from_elsewhere(engine: str) -> None:
    rng = random.Random(3)
    ours, theirs = PrivateKey(rng.randbytes(32)), PrivateKey(rng.randbytes(32))
    with (
        private_network(),
        open_device("wgf0", engine=make_engine(engine)) as victim,
        open_device("wgf1", engine=make_engine(engine)) as peer,
    ):
        configure(victim, ours, theirs, "10.0.0.2/32", 40001)
        configure(peer, theirs, ours, "10.0.0.1/32", 40000)
        async with trio.open_nursery() as nursery:
            await nursery.start(victim.run)
            await nursery.start(peer.run)
            with flood(victim), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as host:
                with trio.fail_after(10):
                    while not victim.engine.drops["under load"]:  # noqa: ASYNC110 (nothing tells of a drop)
                        await trio.sleep(0.05)
                host.sendto(ip_packet("10.0.0.2", "10.0.0.1"), ("wgf1", 0x0800))
                with trio.fail_after(60):
                    while not victim.interface.status(boottime())[0].last_handshake_ns:  # noqa: ASYNC110
                        await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
