"""Watching the link of a TUN device: up, down, its MTU, its end, in whichever network namespace it is.

The kernel tells by netlink, of another namespace, too. Where we may not hear of it, the descriptor is asked
twice a second; it knows up, down and gone, not the MTU. That a namespace went and took the device along is
told by nobody but the descriptor, to whoever reads it: the engine.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from wgpy.netlink import Link, Netlink, NetlinkError
from wgpy.netlink.monitor import LinkChanged, Monitor, Overrun, Watch
from wgpy.netlink.namespace import number_namespace
from wgpy.tun import Tun

logger = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.5
_CAP_NET_BROADCAST: Final = 11


@dataclass(frozen=True, slots=True)
class LinkState:
    """`mtu` None: nobody could say."""

    is_up: bool
    mtu: int | None


class LinkWatch:
    """Tells `changed` each new state of the device's link, the first at once."""

    def __init__(self, tun: Tun, changed: Callable[[LinkState], None]) -> None:
        self._tun = tun
        self._changed = changed
        self._state: LinkState | None = None

    async def run(self) -> None:
        """Returns when the device is gone for good."""
        while self._tun.exists():
            was_found = False
            try:
                with self._monitor() as (place, monitor):
                    was_found = await self._follow(place, monitor)
            except (NetlinkError, OSError) as error:
                logger.debug("polling %s: %s", self._tun.name, error)
            if not was_found and self._tun.exists():
                self._report(LinkState(self._tun.is_up(), None))
                await trio.sleep(POLL_INTERVAL)

    @contextlib.contextmanager
    def _monitor(self) -> Iterator[tuple[int | None, Monitor]]:
        """What tells of links where the device is, and which namespace that is. Raises NetlinkError,
        OSError.

        A socket in another namespace would keep that alive, and the device in it, after its last process
        has gone. So it is watched from ours.
        """
        with _namespace_of(self._tun) as namespace:
            place = _identity(namespace)
            if namespace is not None:
                if not _may_listen_everywhere():
                    raise OSError(errno.EPERM, "watching another namespace takes CAP_NET_BROADCAST")
                with Netlink() as netlink:
                    netlink.apply([number_namespace(namespace)], ignore=[errno.EEXIST])
        with Monitor(Watch.LINK, everywhere=place is not None) as monitor:
            yield place, monitor

    async def _follow(self, place: int | None, monitor: Monitor) -> bool:
        """Until the device is not there any more; whether it was at all."""
        was_found = False
        while (link := self._find_link(place)) is not None:
            was_found = True
            self._report(LinkState(link.is_up, link.mtu))
            changes = await monitor.wait_changes()
            while not any(isinstance(c, Overrun) or _is_about(c, link.index) for c in changes):
                changes = await monitor.wait_changes()
        return was_found

    def _find_link(self, place: int | None) -> Link | None:
        """None: the device is gone, or in another place."""
        if not self._tun.exists():
            return None
        with _namespace_of(self._tun) as namespace:
            if _identity(namespace) != place:
                return None
            with Netlink(namespace) as netlink:
                return netlink.find_link(self._tun.current_name())

    def _report(self, state: LinkState) -> None:
        if state != self._state:
            self._state = state
            self._changed(state)


def _is_about(change: object, index: int) -> bool:
    return isinstance(change, LinkChanged) and change.link.index == index


def _identity(namespace: int | None) -> int | None:
    """The same for two descriptors of one namespace; None for ours."""
    return None if namespace is None else os.fstat(namespace).st_ino


def _may_listen_everywhere() -> bool:
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as lines:
        effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_NET_BROADCAST & 1)


@contextlib.contextmanager
def _namespace_of(tun: Tun) -> Iterator[int | None]:
    """A descriptor of the namespace the device is in; None when that is ours, or nobody can say."""
    namespace = tun.network_namespace()
    try:
        if namespace is not None and os.path.samestat(
            os.fstat(namespace), os.stat("/proc/thread-self/ns/net")
        ):
            yield None
        else:
            yield namespace
    finally:
        if namespace is not None:
            os.close(namespace)
