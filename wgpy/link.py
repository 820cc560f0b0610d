"""The link of a TUN device, whichever kind of host this is: netlink on Linux, ioctl and the routing socket on
macOS.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Final

import trio

from wgpy.darwin.utun import Utun
from wgpy.errors import HostError
from wgpy.link_watch import LinkState, LinkWatch
from wgpy.netlink import Netlink
from wgpy.protocol.actions import Engine
from wgpy.route_watch import INTERVAL
from wgpy.route_watch import watch_routes as watch_linux_routes
from wgpy.tun_device import TunDevice

POLL_INTERVAL: Final = 0.5
"""Seconds between looks at a utun's link."""
_PF_ROUTE: Final = 17


def link_mtu(tun: TunDevice) -> int | None:
    """None: nobody can say."""
    if isinstance(tun, Utun):
        return tun.link_state().mtu
    with Netlink() as netlink:
        link = netlink.find_link(tun.current_name())
    return None if link is None else link.mtu


def set_link_up(tun: TunDevice) -> None:
    """Raises HostError."""
    if isinstance(tun, Utun):
        try:
            tun.set_up()
        except OSError as error:
            raise HostError(f"cannot set {tun.name} up: {error.strerror}") from error
        return
    with Netlink() as netlink:
        netlink.set_link(netlink.link(tun.current_name()).index, up=True)


async def watch_link(tun: TunDevice, changed: Callable[[LinkState], None]) -> None:
    """Tell each new state of the device's link, the first at once. Returns when the device is gone."""
    if not isinstance(tun, Utun):
        await LinkWatch(tun, changed).run()
        return
    known: LinkState | None = None
    while tun.exists():
        with contextlib.suppress(OSError):
            found = tun.link_state()
            state = LinkState(found.is_up, found.mtu)
            if state != known:
                known = state
                changed(state)
        await trio.sleep(POLL_INTERVAL)


async def watch_routes(engine: Engine, tun: TunDevice) -> None:
    """Never returns. Whoever is reached another way now is not answered from the old source address."""
    if isinstance(tun, Utun):
        await _watch_routing_socket(engine)
    else:
        await watch_linux_routes(engine, tun.name)


async def _watch_routing_socket(engine: Engine) -> None:
    """Whatever it says, some route or address is another; which one is not looked at."""
    try:
        routes = socket.socket(_PF_ROUTE, socket.SOCK_RAW, 0)
    except OSError:
        await trio.sleep_forever()
    with routes:
        routes.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(routes)
            with contextlib.suppress(BlockingIOError):
                while True:
                    try:
                        routes.recv(4096)
                    except OSError as error:
                        if error.errno != errno.ENOBUFS:
                            raise
            engine.forget_source(None)
            await trio.sleep(INTERVAL)
