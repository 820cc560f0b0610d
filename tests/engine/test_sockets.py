"""The sockets that each engine binds, as the kernel and other programs see them."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.own_network import own_network
from wgpy.engine import ENGINES, DeviceEngine, make_engine
from wgpy.engine.native import NativeDeviceEngine
from wgpy.engine.portable_io import PortableDeviceEngine

pytestmark = pytest.mark.root

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
MARK = 0xCA6C


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[DeviceEngine]:
    with own_network():
        made = make_engine(str(request.param))
        yield made
        made.close()


def bound(port: int) -> dict[str, str]:
    """What `ss` says of the UDP sockets at a port, by the address they are bound to."""
    text = subprocess.run(["ss", "-ulnaeH"], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in text.splitlines():
        address, _, number = line.split()[3].rpartition(":")
        if int(number) == port:
            found[address] = line
    return found


def in_ipv6_only(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::", port))
    return sock


def test_each_family_has_a_socket_of_its_own_at_one_port_with_the_mark(engine: DeviceEngine) -> None:
    port = engine.bind(0, MARK)
    sockets = bound(port)
    assert sorted(sockets) == ["0.0.0.0", "[::]"]
    assert "v6only:1" in sockets["[::]"], "IPv4 has its own"
    assert all(f"fwmark:{MARK:#x}" in line for line in sockets.values())
    engine.set_fwmark(0)
    assert not any("fwmark" in line for line in bound(port).values())
    assert engine.bind(port, 0) == port
    assert sorted(bound(port)) == ["0.0.0.0", "[::]"]
    engine.unbind()
    assert bound(port) == {}


def test_another_free_port_is_tried_when_ipv6_has_it_taken(engine: DeviceEngine) -> None:
    PORT_RANGE.write_text("40000 40003")
    with ExitStack() as others:
        for port in (40000, 40001, 40003):
            others.enter_context(in_ipv6_only(port))
        for _ in range(5):
            assert engine.bind(0, 0) == 40002
            engine.unbind()
        others.enter_context(in_ipv6_only(40002))
        with pytest.raises(OSError, match="in use"):
            engine.bind(0, 0)
        assert not any("0.0.0.0" in bound(port) for port in range(40000, 40004)), "nothing is left open"


def not_read_in_time(engine: DeviceEngine) -> int:
    if isinstance(engine, NativeDeviceEngine):
        return engine.drops["not read in time"]
    assert isinstance(engine, PortableDeviceEngine)
    return sum(sock.drops for sock in engine.sockets)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_what_the_kernel_threw_away_unread_is_counted(engine: DeviceEngine, address: str) -> None:
    port = engine.bind(0, 0)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        while not (lost := lost_by_the_kernel(port)):
            for _ in range(1000):
                sender.send(b"to nobody who reads")
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            with trio.fail_after(20):
                # The count comes with what is read after the loss.
                while not_read_in_time(engine) < lost:
                    sender.send(b"once more")
                    await trio.sleep(0.01)
            engine.close()


def lost_by_the_kernel(port: int) -> int:
    """Of the sockets at a port."""
    text = subprocess.run(["ss", "-ulnamH"], check=True, capture_output=True, text=True).stdout
    return sum(int(count) for count in re.findall(rf":{port} .*\n.*,d(\d+)\)", text))
