"""The monitor tells what happened, in the namespace it watches."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_interface, ip_network

import pytest
import trio
import trio.testing

from wgpy.netlink.monitor import AddressChanged, Change, LinkChanged, Monitor, Overrun, RouteChanged, Watch

pytestmark = pytest.mark.root


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"dvm{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
async def monitor(namespace: str) -> AsyncIterator[Monitor]:
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    with Monitor(Watch.LINK | Watch.ADDRESS | Watch.ROUTE, fd) as monitor:
        os.close(fd)
        yield monitor


async def wait_for(monitor: Monitor, wanted: Callable[[Change], bool]) -> Change:
    with trio.fail_after(5):
        while True:
            for change in await monitor.wait_changes():
                if wanted(change):
                    return change


async def test_links_addresses_and_routes_are_told_as_they_come_and_go(
    monitor: Monitor, namespace: str
) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", "-n", namespace, *arguments], check=True)

    ip("link", "add", "dvm0", "type", "veth", "peer", "dvp0")
    await wait_for(
        monitor, lambda c: isinstance(c, LinkChanged) and c.link.name == "dvm0" and not c.link.is_up
    )
    ip("link", "set", "dvm0", "up", "mtu", "1401")
    await wait_for(monitor, lambda c: isinstance(c, LinkChanged) and c.link.is_up and c.link.mtu == 1401)
    ip("addr", "add", "10.5.0.1/24", "dev", "dvm0")
    await wait_for(
        monitor,
        lambda c: isinstance(c, AddressChanged) and c.address.address == ip_interface("10.5.0.1/24"),
    )
    ip("route", "add", "10.6.0.0/16", "dev", "dvm0")
    prefix = ip_network("10.6.0.0/16")
    await wait_for(monitor, lambda c: isinstance(c, RouteChanged) and c.route.prefix == prefix and not c.gone)
    ip("route", "del", "10.6.0.0/16")
    await wait_for(monitor, lambda c: isinstance(c, RouteChanged) and c.route.prefix == prefix and c.gone)
    ip("link", "del", "dvm0")
    await wait_for(monitor, lambda c: isinstance(c, LinkChanged) and c.gone and c.link.name == "dvm0")


async def test_lost_changes_are_told_as_an_overrun(monitor: Monitor, namespace: str) -> None:
    monitor._socket.setsockopt(1, 8, 4096)
    lines = "".join(f"route add 10.{i // 200}.{i % 200}.0/24 dev lo\n" for i in range(2000))
    batch = "link set lo up\n" + lines
    await trio.run_process(["ip", "-n", namespace, "-batch", "-"], stdin=batch.encode())
    await wait_for(monitor, lambda c: isinstance(c, Overrun))


async def test_closing_wakes_the_one_who_waits(monitor: Monitor) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await monitor.wait_changes()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        monitor.close()
