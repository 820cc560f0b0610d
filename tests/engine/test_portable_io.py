"""The packet loop on real descriptors: its life cycle, and what it does when the host takes things away."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import wgpy.engine.portable_io
from tests.conformance.bench import IDENTITY
from tests.conformance.far_end import ip_packet
from tests.conformance.host_bench import HostBench, private_network
from wgpy.engine import DeviceEngine, make_engine
from wgpy.engine.portable_io import PortableDeviceEngine
from wgpy.errors import ConfigError
from wgpy.protocol import cookie
from wgpy.protocol.actions import EngineFailed, Event

OUT = ip_packet("10.0.0.1", "10.0.0.2", b"to the peer")
IN = ip_packet("10.0.0.2", "10.0.0.1", b"from the peer")


@asynccontextmanager
async def running(*, offload: bool = True) -> AsyncIterator[HostBench]:
    with private_network():
        bench = HostBench(PortableDeviceEngine(offload=offload))
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.device_engine.run)
            try:
                yield bench
            finally:
                bench.stop()


def ip_link(*words: str) -> None:
    subprocess.run(["ip", "link", *words], check=True)


async def next_events(engine: DeviceEngine) -> list[Event]:
    with trio.fail_after(5):
        await engine.wait_events()
    return engine.drain_events()


def initiation() -> bytes:
    return cookie.CookieGenerator(IDENTITY).add_macs(struct.pack("<II", 1, 7) + bytes(108), 0.0)


def test_the_engine_is_chosen_by_name_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_engine("portable"), PortableDeviceEngine)
    monkeypatch.setenv("WGPY_ENGINE", "portable")
    assert isinstance(make_engine(None), PortableDeviceEngine)
    monkeypatch.setenv("WGPY_ENGINE", "steam")
    with pytest.raises(ConfigError, match="'steam'"):
        make_engine(None)


@pytest.mark.parametrize(("value", "offload"), [("0", False), ("1", True)])
def test_offload_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, offload: bool) -> None:
    monkeypatch.setenv("WGPY_OFFLOAD", value)
    assert make_engine("portable").wants_vnet_hdr is offload


@pytest.mark.root
async def test_deleting_the_tun_is_told_once_as_a_failure() -> None:
    async with running() as bench:
        ip_link("delete", "wgc0")
        (failure,) = await next_events(bench.device_engine)
        assert isinstance(failure, EngineFailed)
        assert "TUN device is gone" in failure.reason
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not bench.device_engine.events
        # The sockets live on: nothing raises when what comes in has nowhere to go.
        far = bench.session(bench.peer("10.0.0.2/32"))
        await bench.arrives(far.seal(IN))


@pytest.mark.root
async def test_a_tun_that_gives_nothing_but_errors_is_given_up_after_some_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoMemory:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def read(self, fd: int, size: int) -> bytes:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(wgpy.engine.portable_io, "READ_FAILURES_IN_A_ROW", 10)
    async with running() as bench:
        monkeypatch.setattr(wgpy.engine.portable_io, "os", NoMemory())
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as program:
            program.sendto(OUT, ("wgc0", 0x0800))
            (failure,) = await next_events(bench.device_engine)
        assert isinstance(failure, EngineFailed)
        assert "Cannot allocate memory" in failure.reason
        assert bench.device_engine.tun_read_errors == 10


@pytest.mark.root
async def test_packets_for_a_tun_that_is_down_are_dropped_and_the_engine_lives() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        ip_link("set", "wgc0", "down")
        await bench.arrives(far.seal(IN))
        assert bench.device_engine.tun_drops == 1
        ip_link("set", "wgc0", "up")
        await bench.host_got()
        await bench.arrives(far.seal(IN))
        assert await bench.host_got() == [IN]


@pytest.mark.root
async def test_after_unbind_nothing_is_sent_and_what_waited_is_gone() -> None:
    async with running() as bench:
        bench.identify()
        bench.session(bench.peer("10.0.0.2/32"))
        await bench.departed()
        engine = bench.device_engine
        port = engine.listen_port
        await bench.arrives(initiation())
        bench._senders[1].sendto(initiation(), ("127.0.0.1", port))
        with trio.fail_after(5):
            while not engine.events:
                await trio.lowlevel.checkpoint()
        engine.unbind()
        assert not engine.events, "a handshake message of before"
        assert engine.listen_port == 0
        await bench.host_sends(OUT)
        assert await bench.departed() == []
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.bind(("::", port))  # both families are free again


@pytest.mark.root
async def test_binding_again_moves_to_the_new_port() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        old = bench.port
        bench.port = bench.device_engine.bind(0, 0)
        assert bench.port not in (0, old)
        await bench.arrives(far.seal(IN))
        assert await bench.host_got() == [IN]
        assert bench.device_engine.bind(bench.port, 0) == bench.port, "its own port is free for it"
        await bench.arrives(far.seal(IN))
        assert await bench.host_got() == [IN]


@pytest.mark.root
async def test_the_address_a_peer_was_heard_at_answers_it_until_port_or_mark_change() -> None:
    async with running() as bench:
        engine = bench.device_engine
        peer = bench.peer("10.0.0.2/32")
        far = bench.session(peer)
        for change in (lambda: engine.bind(bench.port, 0), lambda: engine.set_fwmark(7)):
            bench._senders[0].sendto(far.seal(b""), ("127.0.0.5", bench.port))
            await bench.arrives()
            answers = []
            for do in (lambda: None, change):
                do()
                await bench.departed()
                engine.send_keepalive(peer)
                (sent,) = await bench.departed()
                assert sent.source is not None
                answers.append(str(sent.source.remote.address))
            assert answers == ["127.0.0.5", "127.0.0.1"]


@pytest.mark.root
async def test_a_port_that_is_taken_is_an_error() -> None:
    async with running() as bench:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 0))
            with pytest.raises(OSError, match="in use"):
                bench.device_engine.bind(other.getsockname()[1], 0)


@pytest.mark.root
@pytest.mark.parametrize("offload", [True, False])
async def test_what_arrives_over_ipv6_is_the_same(offload: bool) -> None:
    async with running(offload=offload) as bench:
        far = bench.session(bench.peer("10.0.0.2/32", sender=None))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.settimeout(5)
            sender.sendto(far.seal(IN), ("::1", bench.port))
            with trio.fail_after(5):
                while not (got := await bench.host_got()):
                    await trio.lowlevel.checkpoint()
            assert got == [IN]
            await bench.host_sends(OUT)
            assert far.open(sender.recv(2048))[: len(OUT)] == OUT


@pytest.mark.root
async def test_the_mtu_bounds_the_padding_from_the_next_packet_on() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        await bench.departed()
        bench.device_engine.set_mtu(1281)
        packet = ip_packet("10.0.0.1", "10.0.0.2", bytes(1281 - 28))
        await bench.host_sends(packet)
        (sent,) = await bench.departed()
        assert far.open(sent.data) == packet


@pytest.mark.root
async def test_many_packets_go_both_ways_in_order() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        await bench.departed()
        out = [ip_packet("10.0.0.1", "10.0.0.2", struct.pack("!I", number) * 300) for number in range(300)]
        back = [ip_packet("10.0.0.2", "10.0.0.1", struct.pack("!I", number) * 300) for number in range(300)]
        for start in range(0, 300, 50):
            await bench.host_sends(*out[start : start + 50])
            await bench.arrives(*[far.seal(packet) for packet in back[start : start + 50]])
        assert [far.open(each.data)[: len(out[0])] for each in await bench.departed()] == out
        assert await bench.host_got() == back


@pytest.mark.root
async def test_superpackets_that_the_kernel_refuses_are_written_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Linux 6.6.44 did: EINVAL for a TCP superpacket it should take."""
    real, refused = os.write, []

    async with running() as bench:

        def write(fd: int, data: bytes) -> int:
            if fd == bench.tun.fileno() and data[1]:
                refused.append(data)
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(fd, data)

        monkeypatch.setattr("wgpy.engine.portable_io.os.write", write)
        far = bench.session(bench.peer("10.0.0.2/32"))
        packets = [
            ip_packet("10.0.0.2", "10.0.0.1", bytes([number]) * 1000, identification=number)
            for number in range(8)
        ]
        run = b"".join(far.seal(packet) for packet in packets)
        bench._senders[0].setsockopt(socket.IPPROTO_UDP, 103, len(run) // 8)
        bench._senders[0].sendto(run, ("127.0.0.1", bench.port))
        bench._senders[0].setsockopt(socket.IPPROTO_UDP, 103, 0)
        await bench.arrives()
        assert await bench.host_got() == packets
        assert len(refused) == 1, "tried once"


@pytest.mark.root
async def test_closing_ends_run_and_wipes_the_keys() -> None:
    with private_network():
        engine = PortableDeviceEngine()
        bench = HostBench(engine)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                peer = bench.peer("10.0.0.2/32")
                bench.session(peer)
                bench.stop()
        assert engine.facts(peer).current is None


@pytest.mark.root
async def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    async with running() as bench:
        bench.port = bench.device_engine.bind(0, 0)
        await bench.arrives()
    assert descriptors() == before
