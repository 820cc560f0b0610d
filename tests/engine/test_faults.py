"""System calls that fail now and then: what the portable engine's sockets and TUN may answer on a bad day.

Two devices in one network namespace, joined by the loopback; the calls of both fail at random, with every
errno in turn. Nothing may end by it, and when the faults stop traffic flows within what the protocol takes
to notice and to shake hands.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest
import trio

import wgpy.engine.portable_io
import wgpy.udp
from tests.conformance.far_end import ip_packet
from tests.own_network import own_network
from wgpy.addresses import Endpoint
from wgpy.clock import boottime
from wgpy.device import Device, open_device
from wgpy.engine import make_engine
from wgpy.keys import PrivateKey

pytestmark = [pytest.mark.root, pytest.mark.slow]

ERRNOS = [
    errno.EAGAIN, errno.ENOBUFS, errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EPERM, errno.ENETDOWN,
    errno.ENOMEM, errno.EINTR, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED,
]  # fmt: skip
RATE = 0.3
BAD_WEATHER = 1.0
"""Seconds for each half of the errnos."""
RECOVERY = 60.0
"""Seconds: KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, a handshake that was lost twice, and a very slow machine."""


class Weather:
    """Whether a system call fails, and how. `calls` are the kinds that may."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.calls: set[str] = set()
        self.errnos: list[int] = []
        self.failed = 0

    def strike(self, call: str) -> None:
        if call in self.calls and self.rng.random() < RATE:
            self.failed += 1
            number = self.rng.choice(self.errnos)
            raise OSError(number, os.strerror(number))


class StormySocket(socket.socket):
    """A socket of the engine's whose calls fail."""

    weather: Weather

    def sendmsg(self, *arguments: Any) -> int:
        self.weather.strike("send")
        return super().sendmsg(*arguments)

    def recvmsg_into(self, *arguments: Any) -> Any:
        self.weather.strike("receive")
        return super().recvmsg_into(*arguments)


class StormyOs:
    """The module os as the engine sees it: reads and writes of the TUN fail, and a write may be short."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, fd: int, size: int) -> bytes:
        self._weather.strike("read")
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        self._weather.strike("write")
        if "short" in self._weather.calls and self._weather.rng.random() < RATE:
            self._weather.failed += 1
            return len(data) // 2
        return os.write(fd, data)


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> Weather:
    weather = Weather(7)
    monkeypatch.setattr(StormySocket, "weather", weather, raising=False)
    monkeypatch.setattr(wgpy.engine.portable_io, "os", StormyOs(weather))
    bind = wgpy.udp.UdpSocket.bind

    def stormy_bind(*arguments: Any, **options: Any) -> wgpy.udp.UdpSocket:
        made = bind(*arguments, **options)
        calm = made._socket
        made._socket = StormySocket(fileno=calm.detach())
        made._socket.setblocking(False)
        return made

    monkeypatch.setattr(wgpy.udp.UdpSocket, "bind", stormy_bind)
    return weather


@pytest.fixture
async def devices(weather: Weather) -> AsyncIterator[tuple[Device, Device]]:
    """`wgx0` with 10.0.0.1, `wgx1` with 10.0.0.2; the TUNs have no addresses."""
    rng = random.Random(3)
    keys = [PrivateKey(rng.randbytes(32)) for _ in range(2)]
    with (
        own_network(),
        open_device("wgx0", engine=make_engine("portable")) as one,
        open_device("wgx1", engine=make_engine("portable")) as two,
    ):
        for number, device in enumerate((one, two)):
            now = boottime()
            device.interface.set_private_key(keys[number], now)
            peer = device.interface.add_peer(keys[1 - number].public_key(), now)
            assert peer is not None
            device.interface.add_allowed_ips(peer, [ip_network(f"10.0.0.{2 - number}/32")], now)
            endpoint = Endpoint(IPv4Address("127.0.0.1"), 40001 - number)
            device.interface.set_endpoint(peer, endpoint, now)
            device.set_listen_port(40000 + number)
            device.bring_up()
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            await nursery.start(two.run)
            yield one, two
            nursery.cancel_scope.cancel()


class Traffic:
    """Packets put on one TUN and seen on the other, both ways."""

    def __init__(self) -> None:
        self.ends = []
        for name in ("wgx0", "wgx1"):
            end = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
            end.bind((name, 0x0800))
            end.setblocking(False)
            self.ends.append(end)

    def close(self) -> None:
        for end in self.ends:
            end.close()

    def send(self) -> None:
        for number, end in enumerate(self.ends):
            packet = ip_packet(f"10.0.0.{number + 1}", f"10.0.0.{2 - number}")
            end.sendto(packet, (f"wgx{number}", 0x0800))

    def arrived(self) -> set[int]:
        """The ends at which a packet of the other's came out since the last call."""
        found = set()
        for number, end in enumerate(self.ends):
            while select.select([end], [], [], 0)[0]:
                packet, address = end.recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING and packet[15] == 2 - number:
                    found.add(number)
        return found


@pytest.fixture
def traffic(devices: object) -> Any:
    traffic = Traffic()
    yield traffic
    traffic.close()


async def flows_both_ways(traffic: Traffic, within: float) -> None:
    found: set[int] = set()
    with trio.fail_after(within):
        while found != {0, 1}:
            traffic.send()
            await trio.sleep(0.02)
            found |= traffic.arrived()


@pytest.mark.parametrize(
    "calls", [{"send", "receive"}, {"read", "write", "short"}], ids=["of the sockets", "of the TUN"]
)
async def test_traffic_recovers_from_calls_that_failed(
    weather: Weather, devices: tuple[Device, Device], traffic: Traffic, calls: set[str]
) -> None:
    await flows_both_ways(traffic, RECOVERY)
    weather.calls = calls
    for errnos in (ERRNOS[: len(ERRNOS) // 2], ERRNOS[len(ERRNOS) // 2 :]):
        weather.errnos = errnos
        end, enough = time.monotonic() + BAD_WEATHER, weather.failed + 10
        while time.monotonic() < end or weather.failed <= enough:
            traffic.send()
            await trio.sleep(0.005)
    weather.calls = set()
    traffic.arrived()
    await flows_both_ways(traffic, RECOVERY)


async def test_handshakes_come_through_calls_that_fail(
    weather: Weather, devices: tuple[Device, Device], traffic: Traffic
) -> None:
    weather.errnos = ERRNOS
    weather.calls = {"send", "receive"}
    await flows_both_ways(traffic, 90)
    assert all(device.interface.status(boottime())[0].last_handshake_ns for device in devices)
