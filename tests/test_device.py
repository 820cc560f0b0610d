"""A device follows its link, keeps its settings through up and down, and ends when its TUN is deleted."""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest
import trio
import trio.testing

import wgpy.device
from tests.own_network import own_network, second_network
from wgpy.addresses import Endpoint
from wgpy.device import Device, open_device
from wgpy.engine import make_engine
from wgpy.errors import HostError
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.actions import EngineFailed
from wgpy.tun import Tun
from wgpy.uapi.messages import (
    AddAllowedIp,
    SelectPeer,
    SetEndpoint,
    SetListenPort,
    SetPersistentKeepalive,
    SetPrivateKey,
    UapiError,
)

pytestmark = pytest.mark.root

KEY = PrivateKey(bytes([7] * 32))
PEER = PrivateKey(bytes([9] * 32)).public_key()


def ip(*arguments: str, pid: int | None = None) -> str:
    prefix = [] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net"]
    return subprocess.run([*prefix, "ip", *arguments], check=True, capture_output=True, text=True).stdout


async def wait_for(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 (a condition of the kernel has no event)
            await trio.sleep(0.01)


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
async def device(network: None) -> AsyncIterator[Device]:
    """Live, down, with a key."""
    with open_device("wg0") as device:
        device.configure([SetPrivateKey(KEY)])
        async with trio.open_nursery() as nursery:
            await nursery.start(device.run)
            yield device
            nursery.cancel_scope.cancel()


def bound_sockets() -> list[tuple[int, int]]:
    """(port, inode) of each UDP socket in this network namespace."""
    found = []
    for table in ("udp", "udp6"):
        with open(f"/proc/thread-self/net/{table}") as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                found.append((int(fields[1].rpartition(":")[2], 16), int(fields[9])))
    return found


def bound_ports() -> set[int]:
    return {port for port, _ in bound_sockets()}


async def test_it_is_down_at_first_with_the_usual_mtu(device: Device) -> None:
    assert (device.name, device.mtu, device.is_up, device.listen_port) == ("wg0", 1420, False, 0)
    assert bound_ports() == set()


async def test_it_follows_the_link_up_and_down_and_keeps_its_port(device: Device) -> None:
    ip("link", "set", "wg0", "up")
    with trio.fail_after(5):
        await device.wait_up()
    port = device.listen_port
    assert bound_ports() == {port}
    ip("link", "set", "wg0", "down")
    with trio.fail_after(5):
        await device.wait_up(False)
    assert bound_ports() == set()
    assert device.listen_port == port
    ip("link", "set", "wg0", "up")
    with trio.fail_after(5):
        await device.wait_up()
    assert bound_ports() == {port}


async def test_it_can_bring_its_link_up_itself(device: Device) -> None:
    device.bring_up()
    assert device.is_up
    device.bring_up()
    await trio.testing.wait_all_tasks_blocked()
    assert device.is_up
    assert "UP" in ip("link", "show", "wg0")


async def test_it_follows_the_mtu(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(device.engine, "set_mtu", told.append)
    ip("link", "set", "wg0", "mtu", "1380")
    await wait_for(lambda: device.mtu == 1380)
    assert told == [1380]


async def test_a_renamed_link_is_still_followed(device: Device) -> None:
    ip("link", "set", "wg0", "name", "wg7")
    ip("link", "set", "wg7", "up")
    with trio.fail_after(5):
        await device.wait_up()


async def test_deletion_of_the_tun_ends_it_in_good_order() -> None:
    with open_device("wg0") as device, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(device.run)
            device.bring_up()
            ip("link", "del", "wg0")
    assert bound_ports() == set()


@pytest.mark.parametrize("can_enter", [True, False])
async def test_it_is_followed_into_another_namespace_and_back(
    device: Device, can_enter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_enter:
        monkeypatch.setattr(Tun, "network_namespace", lambda tun: None)
    with second_network() as pid:
        ip("link", "set", "wg0", "netns", str(pid))
        ip("link", "set", "wg0", "up", pid=pid)
        with trio.fail_after(5):
            await device.wait_up()
        assert device.listen_port in bound_ports()  # the sockets stay where they were made
        if can_enter:
            ip("link", "set", "wg0", "mtu", "1300", pid=pid)
            await wait_for(lambda: device.mtu == 1300)
        ip("link", "set", "wg0", "down", pid=pid)
        with trio.fail_after(5):
            await device.wait_up(False)
        ip("link", "set", "wg0", "netns", str(os.getpid()), pid=pid)
    ip("link", "set", "wg0", "up")
    with trio.fail_after(5):
        await device.wait_up()


@pytest.mark.parametrize("can_enter", [True, False])
async def test_deletion_in_another_namespace_ends_it(
    can_enter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_enter:
        monkeypatch.setattr(Tun, "network_namespace", lambda tun: None)
    with second_network() as pid, open_device("wg0") as device, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(device.run)
            ip("link", "set", "wg0", "netns", str(pid))
            ip("link", "del", "wg0", pid=pid)


async def test_a_taken_port_is_refused_by_number_and_told_when_the_link_comes_up(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 5555))
        device.configure([SetListenPort(5555)])
        ip("link", "set", "wg0", "up")
        await wait_for(lambda: "cannot listen on port 5555: Address already in use" in caplog.text)
        assert not device.is_up
        with pytest.raises(UapiError) as caught:
            device.configure([SetListenPort(5555)])
        assert caught.value.errno == errno.EADDRINUSE
        device.configure([SetListenPort(5556)])
        assert device.is_up
        with pytest.raises(UapiError):
            device.configure([SetListenPort(5555)])
        assert device.listen_port == 5556
        assert bound_ports() == {5555, 5556}
    device.configure([SetListenPort(5555)])
    assert bound_ports() == {5555}


async def test_the_same_port_again_leaves_the_sockets_alone(device: Device) -> None:
    device.bring_up()
    before = bound_sockets()
    assert before
    device.configure([SetListenPort(device.listen_port)])
    assert bound_sockets() == before
    port = device.listen_port
    device.configure([SetListenPort(0)])
    assert device.listen_port != 0
    assert port not in bound_ports() - {device.listen_port}


async def test_a_name_in_use_leaves_no_descriptor_behind() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Tun.create("wg0"), pytest.raises(HostError, match="in use"):
        open_device("wg0")
    assert set(os.listdir("/proc/self/fd")) == before


async def test_settings_bring_the_next_deadline_forward(device: Device) -> None:
    device.bring_up()
    await trio.testing.wait_all_tasks_blocked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        endpoint = Endpoint(ip_address("127.0.0.1"), peer.getsockname()[1])
        device.configure([SelectPeer(PEER), SetEndpoint(endpoint), SetPersistentKeepalive(1)])
        peer.setblocking(False)
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(peer)
        assert len(peer.recv(2000)) == 148
        # The initiation is sent again after REKEY_TIMEOUT, by the timer that the setting has started.
        with trio.fail_after(8):
            await trio.lowlevel.wait_readable(peer)
        assert len(peer.recv(2000)) == 148


async def test_ten_thousand_datagrams_of_nonsense_are_counted_dropped_and_not_logged(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    device.configure([SelectPeer(PEER), AddAllowedIp(ip_network("10.0.0.2/32"))])
    device.bring_up()
    caplog.clear()
    generator = random.Random(5)

    def dropped() -> int:
        return sum(device.engine.drops.values())  # type: ignore[attr-defined]

    before = dropped()
    sent = 10_000
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", device.listen_port))
        for number in range(sent):
            # Half look like messages of WireGuard, of the right length or not.
            kind = bytes([generator.choice([1, 2, 3, 4]), 0, 0, 0]) if number % 2 else b""
            length = generator.choice([0, 1, 16, 32, 64, 92, 148, 1000, generator.randrange(1500)])
            stranger.send((kind + generator.randbytes(1500))[:length])
            if number % 100 == 99:
                await trio.testing.wait_all_tasks_blocked()
    await wait_for(lambda: dropped() + device.interface.invalid_messages >= before + sent)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert device.report().peers[0].rx_bytes == 0


async def test_an_idle_device_is_not_woken(device: Device) -> None:
    device.configure([SelectPeer(PEER)])
    device.bring_up()
    wakeups = 0

    class Count(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            nonlocal wakeups
            wakeups += 1

    await trio.testing.wait_all_tasks_blocked(0.05)
    instrument = Count()
    trio.lowlevel.add_instrument(instrument)
    await trio.sleep(3)
    trio.lowlevel.remove_instrument(instrument)
    # Two are this test's own sleep; the new link's IPv6 may send a router solicitation into the TUN.
    assert wakeups <= 2 + 2


async def test_an_engine_that_fails_ends_the_device_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        open_device("wg0") as device,
        pytest.RaisesGroup(pytest.RaisesExc(HostError, match="^wg0: the engine cannot go on: it is tired$")),
    ):
        async with trio.open_nursery() as nursery:
            await nursery.start(device.run)
            monkeypatch.setattr(device.engine, "drain_events", lambda: [EngineFailed("it is tired")])
            device.changed()


async def test_after_the_host_slept_sessions_begin_anew(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.configure([SelectPeer(PEER)])
    device.bring_up()
    await trio.testing.wait_all_tasks_blocked()
    wiped: list[object] = []
    monkeypatch.setattr(device.engine, "wipe_keypairs", wiped.append)
    slept = wgpy.device._time_asleep() + 3600
    monkeypatch.setattr(wgpy.device, "_time_asleep", lambda: slept)
    device.changed()
    await wait_for(lambda: wiped)
    assert device.is_up
    device.changed()
    await trio.testing.wait_all_tasks_blocked()
    assert len(wiped) == 1


async def test_closing_forgets_the_keys() -> None:
    with open_device("wg0", engine=make_engine(None)) as device:
        device.configure([SetPrivateKey(KEY), SelectPeer(PublicKey(bytes(32)))])
    assert device.interface.private_key is None
    assert not device.interface.peers
    device.close()
