"""Changes of links, addresses, routes and rules, as the kernel tells them."""

from __future__ import annotations

import enum
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import trio

from wgpy.netlink.address import RTM_DELADDR, RTM_NEWADDR, Address, parse_address
from wgpy.netlink.codec import Message, parse_messages
from wgpy.netlink.connection import NetlinkError, open_socket
from wgpy.netlink.link import RTM_DELLINK, RTM_NEWLINK, Link, parse_link
from wgpy.netlink.route import RTM_DELROUTE, RTM_NEWROUTE, Route, parse_route
from wgpy.netlink.rule import RTM_DELRULE, RTM_NEWRULE, Rule, parse_rule

_DATAGRAM: Final = 1 << 16
_SOL_NETLINK: Final = 270
_NETLINK_LISTEN_ALL_NSID: Final = 8


class Watch(enum.IntFlag):
    """What a monitor tells of: the multicast groups RTMGRP_… of linux/rtnetlink.h."""

    LINK = 0x001
    ADDRESS = 0x010 | 0x100
    ROUTE = 0x040 | 0x400
    RULE = 0x080 | 0x40000


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link is new or other than it was; `gone`: deleted, or moved to another namespace."""

    link: Link
    gone: bool


@dataclass(frozen=True, slots=True)
class AddressChanged:
    address: Address
    gone: bool


@dataclass(frozen=True, slots=True)
class RouteChanged:
    route: Route
    gone: bool


@dataclass(frozen=True, slots=True)
class RuleChanged:
    rule: Rule
    gone: bool


@dataclass(frozen=True, slots=True)
class Overrun:
    """Changes were lost: look at everything again."""


Change = LinkChanged | AddressChanged | RouteChanged | RuleChanged | Overrun


class Monitor:
    """Tells of changes from the moment it is made; `namespace` is the descriptor of another one to watch,
    which lives for as long as the monitor does.

    `everywhere` watches ours and all that have a number in it (`number_namespace`), and keeps none of them
    alive. It takes CAP_NET_BROADCAST, without which the others are silent.
    """

    def __init__(self, watch: Watch, namespace: int | None = None, *, everywhere: bool = False) -> None:
        try:
            self._socket = open_socket(int(watch), namespace)
            if everywhere:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        except OSError as error:
            raise NetlinkError("opening a netlink monitor", error.errno or errno.EIO) from error
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """A task that waits gets trio.ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    async def wait_changes(self) -> list[Change]:
        """At least one change; what came together comes together."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            changes = list(self._drain())
            if changes:
                return changes

    def _drain(self) -> Iterator[Change]:
        # Bounded, so that a routing daemon that never stops cannot keep us here.
        for _ in range(64):
            try:
                data = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield Overrun()
                continue
            for message in parse_messages(data):
                change = _parse_change(message)
                if change is not None:
                    yield change


def _parse_change(message: Message) -> Change | None:
    match message.kind:
        case kind if kind in (RTM_NEWLINK, RTM_DELLINK):
            return LinkChanged(parse_link(message), kind == RTM_DELLINK)
        case kind if kind in (RTM_NEWADDR, RTM_DELADDR):
            address = parse_address(message)
            return None if address is None else AddressChanged(address, kind == RTM_DELADDR)
        case kind if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            route = parse_route(message)
            return None if route is None else RouteChanged(route, kind == RTM_DELROUTE)
        case kind if kind in (RTM_NEWRULE, RTM_DELRULE):
            rule = parse_rule(message)
            return None if rule is None else RuleChanged(rule, kind == RTM_DELRULE)
    return None
