"""The native engine on real descriptors: its threads' life cycle, settings, and what it does when the host
takes things away.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import trio

from tests.conformance.bench import IDENTITY
from tests.conformance.far_end import ip_packet
from tests.conformance.host_bench import MTU, private_network
from tests.conformance.native_bench import NativeHostBench
from wgpy.engine import make_engine
from wgpy.engine.native import OFFLOADS, SMALL_MIB, NativeDeviceEngine, Settings
from wgpy.engine.portable_io import PortableDeviceEngine
from wgpy.errors import ConfigError
from wgpy.protocol import cookie
from wgpy.protocol.actions import EngineFailed, HandshakeMessage

OUT = ip_packet("10.0.0.1", "10.0.0.2", b"to the peer")
IN = ip_packet("10.0.0.2", "10.0.0.1", b"from the peer")
_UDP_SEGMENT = 103


@asynccontextmanager
async def running(settings: Settings | None = None) -> AsyncIterator[NativeHostBench]:
    with private_network():
        bench = NativeHostBench(NativeDeviceEngine(settings))
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.native.run)
            try:
                yield bench
            finally:
                bench.stop()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def own_threads() -> dict[Path, str]:
    """The engine's threads of this process, with their names."""
    names = {task: (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    return {task: name for task, name in names.items() if name.startswith("wgpy-")}


def test_it_is_the_default_where_it_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WGPY_ENGINE", raising=False)
    assert isinstance(make_engine(None), NativeDeviceEngine)
    monkeypatch.delattr("wgpy._engine.Engine")
    assert isinstance(make_engine(None), PortableDeviceEngine)
    with pytest.raises(ConfigError, match="for Linux"):
        make_engine("native")


@pytest.mark.parametrize(
    ("environment", "without"),
    [
        ({}, set()),
        ({"WGPY_OFFLOAD": "1", "WGPY_DISABLE_OFFLOADS": ""}, set()),
        ({"WGPY_OFFLOAD": "0"}, set(OFFLOADS)),
        ({"WGPY_DISABLE_OFFLOADS": "all"}, set(OFFLOADS)),
        ({"WGPY_DISABLE_OFFLOADS": "TSO, gro"}, {"tso", "gro"}),
    ],
)
def test_each_offload_can_be_switched_off(environment: dict[str, str], without: set[str]) -> None:
    assert Settings.from_environment(environment).without == without


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WGPY_DISABLE_OFFLOADS", "tso,warp"),
        ("WGPY_MEMORY", "3"),
        ("WGPY_MEMORY", "lots"),
        ("WGPY_MEMORY", "65537"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is .* got '"):
        Settings.from_environment({name: value})


def test_memory_bounds_what_waits() -> None:
    small = Settings.from_environment({"WGPY_MEMORY": "8"})
    assert small.staged_octets + 4 * small.socket_buffer <= 8 << 20
    assert Settings().staged_octets == 16 << 20


@pytest.mark.parametrize(
    ("wanted", "host_mib", "memory_mib"),
    [
        ("", 64, SMALL_MIB),
        ("", 128, SMALL_MIB),
        ("", 1024, 64),
        ("", None, 64),
        ("small", 1024, SMALL_MIB),
        ("Small", None, SMALL_MIB),
        ("32", 64, 32),
    ],
)
def test_a_router_has_the_small_profile_and_whoever_asks_for_it(
    wanted: str, host_mib: int | None, memory_mib: int
) -> None:
    assert Settings.from_environment({"WGPY_MEMORY": wanted}, host_mib).memory_mib == memory_mib


def test_commands_work_before_and_after_it_runs_and_closing_twice_is_one() -> None:
    engine = NativeDeviceEngine()
    peer = engine.add_peer()
    engine.add_allowed_ips(peer, [IPv4Network("10.0.0.0/8")])
    assert engine.reserve_index(peer) != engine.reserve_index(peer)
    with pytest.raises(KeyError):
        engine.reserve_index(type(peer)(peer + 1))
    engine.close()
    engine.close()
    assert engine.allowed_ips(peer) == [IPv4Network("10.0.0.0/8")]
    assert engine.drain_events() == []


@pytest.mark.root
async def test_closing_joins_the_threads_and_leaves_no_descriptor() -> None:
    with private_network():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            bench = NativeHostBench(NativeDeviceEngine())
            async with trio.open_nursery() as nursery:
                await nursery.start(bench.native.run)
                with trio.fail_after(5):  # a thread gives itself its name
                    while sorted(own_threads().values()) != ["wgpy-receive", "wgpy-send"]:
                        await trio.lowlevel.checkpoint()
                far = bench.session(bench.peer("10.0.0.2/32"))
                await bench.arrives(far.seal(IN))
                bench.stop()
                assert own_threads() == {}
        del bench, far
        assert len(os.listdir("/proc/self/fd")) <= before + 4, "one engine may still wait to be collected"


@pytest.mark.root
async def test_deleting_the_tun_is_told_once_as_a_failure() -> None:
    async with running() as bench:
        ip("link", "delete", "wgc0")
        with trio.fail_after(5):
            await bench.native.wait_events()
        (failure,) = bench.native.drain_events()
        assert isinstance(failure, EngineFailed)
        assert "TUN device is gone" in failure.reason
        # The sockets live on: nothing raises when what comes in has nowhere to go.
        far = bench.session(bench.peer("10.0.0.2/32"))
        await bench.arrives(far.seal(IN))
        assert await bench.events() == []


@pytest.mark.root
async def test_packets_for_a_tun_that_is_down_are_dropped_and_the_engine_lives() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        ip("link", "set", "wgc0", "down")
        await bench.arrives(far.seal(IN))
        assert bench.native.drops["not taken by the host"] == 1
        ip("link", "set", "wgc0", "up")
        await bench.host_got()
        await bench.arrives(far.seal(IN))
        assert await bench.host_got() == [IN]


@pytest.mark.root
async def test_after_unbind_nothing_is_sent_what_waited_is_gone_and_the_port_is_free() -> None:
    async with running() as bench:
        bench.identify()
        bench.session(bench.peer("10.0.0.2/32"))
        await bench.departed()
        engine = bench.native
        port = engine.listen_port
        message = cookie.CookieGenerator(IDENTITY).add_macs(struct.pack("<II", 1, 7) + bytes(108), 0.0)
        await bench.arrives(message)
        bench._events.clear()  # the barrier of the bench took those that were there
        bench._senders[1].sendto(message, ("127.0.0.1", port))
        with trio.fail_after(5):
            await engine.wait_events()
        engine.unbind()
        assert not [each for each in engine.drain_events() if isinstance(each, HandshakeMessage)]
        assert engine.listen_port == 0
        await bench.host_sends(OUT)
        assert await bench.departed() == []
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.bind(("::", port))  # both families are free again
        bench.port = engine.bind(0, 0)
        assert engine.bind(bench.port, 0) == bench.port, "its own port is free for it"


@pytest.mark.root
async def test_a_port_that_is_taken_is_an_error_with_its_errno() -> None:
    async with running() as bench:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("::", 0))
            with pytest.raises(OSError, match=r"\[Errno 98\] Address already in use"):
                bench.native.bind(other.getsockname()[1], 0)
        assert bench.native.listen_port == 0


@pytest.mark.root
async def test_the_address_a_peer_was_heard_at_answers_it_until_port_or_mark_change() -> None:
    async with running() as bench:
        engine = bench.native
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
async def test_a_source_that_the_host_lost_is_left_out() -> None:
    async with running() as bench:
        ip("address", "add", "192.0.2.5/32", "dev", "lo")
        peer = bench.peer("10.0.0.2/32")
        far = bench.session(peer)
        bench._senders[0].sendto(far.seal(b""), ("192.0.2.5", bench.port))
        await bench.arrives()
        await bench.departed()
        ip("address", "del", "192.0.2.5/32", "dev", "lo")
        for _ in range(3):
            bench.native.send_keepalive(peer)
        sent = await bench.departed()
        assert [str(each.source.remote.address) for each in sent if each.source] == ["127.0.0.1"] * 3


@pytest.mark.root
@pytest.mark.parametrize("without", [*OFFLOADS, "all"])
async def test_what_arrives_over_ipv6_is_the_same_without_any_offload(without: str) -> None:
    settings = Settings.from_environment({"WGPY_DISABLE_OFFLOADS": without})
    async with running(settings) as bench:
        used = bench.native.offloads()
        assert not any(used[name] for name in settings.without)
        if without == "gso":
            assert used == dict.fromkeys(OFFLOADS, True) | {"gso": False}
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


def batch(count: int = 20) -> list[bytes]:
    return [
        ip_packet("10.0.0.1", "10.0.0.2", bytes([number]) * (MTU - 28), identification=number)
        for number in range(count)
    ]


@pytest.mark.root
async def test_a_run_that_does_not_fit_the_way_is_sent_one_by_one_until_routes_change() -> None:
    """EMSGSIZE: UDP_SEGMENT wants segments that need no fragmentation."""
    async with running() as bench:
        ip("link", "set", "lo", "mtu", "1400")
        peer = bench.peer("10.0.0.2/32")
        for packet in batch():  # staged, so that they leave together
            await bench.host_sends(packet)
        far = bench.session(peer)
        assert [far.open(each.data) for each in await bench.departed()] == batch()
        assert bench.native.offloads()["gso"], "of the socket nothing was learned"
        assert not bench.native.drops["not taken by the socket"]
        bench.native.forget_source(None)
        ip("link", "set", "lo", "mtu", "65536")
        await bench.host_sends(*batch())
        assert len(await bench.departed()) == 20


@pytest.mark.root
async def test_many_packets_go_both_ways_in_order_whatever_commands_come_between() -> None:
    async with running() as bench:
        peer = bench.peer("10.0.0.2/32")
        far = bench.session(peer)
        await bench.departed()
        out = [ip_packet("10.0.0.1", "10.0.0.2", struct.pack("!I", number) * 300) for number in range(300)]
        back = [ip_packet("10.0.0.2", "10.0.0.1", struct.pack("!I", number) * 300) for number in range(300)]
        many = [IPv4Network((0x0B000000 + 16 * number, 28)) for number in range(3000)]
        is_done = False

        async def reconfigure() -> None:
            while not is_done:
                other = bench.peer("10.1.0.0/16", sender=1)
                bench.engine.add_allowed_ips(other, many)
                await trio.lowlevel.checkpoint()
                bench.engine.set_endpoint(peer, bench.sender(0))
                bench.engine.remove_allowed_ips(other, many[::2])
                assert len(bench.engine.allowed_ips(other)) == len(many) // 2 + 1
                bench.engine.remove_peer(other)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reconfigure)
            for start in range(0, 300, 50):
                await bench.host_sends(*out[start : start + 50])
                await bench.arrives(*[far.seal(packet) for packet in back[start : start + 50]])
            is_done = True
        assert [far.open(each.data)[: len(out[0])] for each in await bench.departed()] == out
        assert await bench.host_got() == back


@pytest.mark.root
async def test_datagrams_received_together_reach_the_host_as_they_were() -> None:
    async with running() as bench:
        far = bench.session(bench.peer("10.0.0.2/32"))
        packets = [
            ip_packet("10.0.0.2", "10.0.0.1", bytes([number]) * 1000, identification=number)
            for number in range(8)
        ]
        run = b"".join(far.seal(packet) for packet in packets)
        bench._senders[0].setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, len(run) // 8)
        bench._senders[0].sendto(run, ("127.0.0.1", bench.port))
        bench._senders[0].setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
        await bench.arrives()
        assert await bench.host_got() == packets


@pytest.mark.root
@pytest.mark.alone
async def test_an_idle_engine_is_never_woken() -> None:
    async with running() as bench:
        await bench.arrives()
        tasks = list(own_threads())

        def switches() -> list[str]:
            return [
                line
                for task in tasks
                for line in (task / "status").read_text().splitlines()
                if "ctxt" in line
            ]

        await trio.sleep(0.1)
        before = switches()
        await trio.sleep(0.5)
        assert switches() == before
