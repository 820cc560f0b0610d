"""Routes: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE (linux/rtnetlink.h). Pure."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import IPAddress, Prefix
from wgpy.netlink.codec import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Request,
    attribute,
    attribute_u32,
    parse_attributes,
    parse_u32,
)

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

RT_TABLE_MAIN: Final = 254
RTPROT_STATIC: Final = 4
"""Who made a route, as far as it is said: an administrator, which is the one who runs us."""

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_PREFSRC: Final = 7
_RTA_METRICS: Final = 8
_RTA_TABLE: Final = 15
_RTA_MARK: Final = 16
_RTAX_MTU: Final = 2
_RTN_UNICAST: Final = 1
_RT_TABLE_UNSPEC: Final = 0
_RT_SCOPE_UNIVERSE: Final = 0
_RT_SCOPE_LINK: Final = 253
_RT_SCOPE_NOWHERE: Final = 255
_RTM_F_LOOKUP_TABLE: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route. `interface`: index of the one it leaves by, 0 when it has several or none.

    `metric` None: the kernel's choice (0 for IPv4, 1024 for IPv6). `source`: the address preferred as source.
    `mtu` 0: the interface's.
    """

    prefix: Prefix
    interface: int
    table: int = RT_TABLE_MAIN
    metric: int | None = None
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    mtu: int = 0
    protocol: int = RTPROT_STATIC

    def __str__(self) -> str:
        table = "" if self.table == RT_TABLE_MAIN else f" in table {self.table}"
        via = "" if self.gateway is None else f" via {self.gateway}"
        return f"{self.prefix}{via} by interface {self.interface}{table}"


def _family(prefix: Prefix | IPAddress) -> int:
    return socket.AF_INET if prefix.version == 4 else socket.AF_INET6


def _body(route: Route, scope: int) -> bytes:
    prefix = route.prefix
    # Tables above 255 do not fit the header; RTA_TABLE overrides it.
    table = route.table if route.table < 256 else _RT_TABLE_UNSPEC
    header = (_family(prefix), prefix.prefixlen, 0, 0, table, route.protocol, scope, _RTN_UNICAST, 0)
    body = _RTMSG.pack(*header) + attribute_u32(_RTA_TABLE, route.table)
    if prefix.prefixlen:
        body += attribute(_RTA_DST, prefix.network_address.packed)
    if route.interface:
        body += attribute_u32(_RTA_OIF, route.interface)
    if route.gateway is not None:
        body += attribute(_RTA_GATEWAY, route.gateway.packed)
    if route.source is not None:
        body += attribute(_RTA_PREFSRC, route.source.packed)
    if route.metric is not None:
        body += attribute_u32(_RTA_PRIORITY, route.metric)
    if route.mtu:
        body += attribute(_RTA_METRICS, attribute_u32(_RTAX_MTU, route.mtu))
    return body


def _scope(route: Route) -> int:
    return _RT_SCOPE_LINK if route.gateway is None and route.prefix.version == 4 else _RT_SCOPE_UNIVERSE


def add_route(route: Route) -> Request:
    """An equal route (prefix, table, metric) that is there already is an error: EEXIST."""
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    return Request(RTM_NEWROUTE, flags, _body(route, _scope(route)), f"adding the route {route}")


def replace_route(route: Route) -> Request:
    """Takes the place of an equal route (prefix, table, metric), if there is one."""
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    return Request(RTM_NEWROUTE, flags, _body(route, _scope(route)), f"setting the route {route}")


def delete_route(route: Route) -> Request:
    body = _body(route, _RT_SCOPE_NOWHERE)
    return Request(RTM_DELROUTE, NLM_F_ACK, body, f"removing the route {route}")


def get_routes(version: int, *, table: int = 0, interface: int = 0) -> Request:
    """All unicast routes of one IP version, or those of a table or an interface.

    The kernel filters when it knows strict checking (4.20); the caller still has to.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    small = table if table < 256 else _RT_TABLE_UNSPEC
    body = _RTMSG.pack(family, 0, 0, 0, small, 0, 0, _RTN_UNICAST if version == 4 else 0, 0)
    if table:
        body += attribute_u32(_RTA_TABLE, table)
    if interface:
        body += attribute_u32(_RTA_OIF, interface)
    return Request(RTM_GETROUTE, NLM_F_DUMP, body, "listing routes")


def get_route_to(address: IPAddress, *, mark: int = 0) -> Request:
    """How a packet to `address` with that firewall mark would leave."""
    length = address.max_prefixlen
    # Which table it was found in IPv6 tells unasked, and with strict checking refuses to be asked.
    flags = _RTM_F_LOOKUP_TABLE if address.version == 4 else 0
    body = _RTMSG.pack(_family(address), length, 0, 0, 0, 0, 0, 0, flags)
    body += attribute(_RTA_DST, address.packed)
    if mark:
        body += attribute_u32(_RTA_MARK, mark)
    return Request(RTM_GETROUTE, 0, body, f"looking up the route to {address}")


def parse_route(message: Message) -> Route | None:
    """What RTM_NEWROUTE and RTM_DELROUTE carry; None when it is not a unicast IP route."""
    family, length, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(message.body)
    if family not in (socket.AF_INET, socket.AF_INET6) or kind != _RTN_UNICAST:
        return None
    found = parse_attributes(message.body[_RTMSG.size :])
    zero = bytes(4 if family == socket.AF_INET else 16)
    metrics = parse_attributes(memoryview(found.get(_RTA_METRICS, b"")))
    return Route(
        prefix=ipaddress.ip_network((found.get(_RTA_DST, zero), length), strict=False),
        interface=parse_u32(found.get(_RTA_OIF)) or 0,
        table=parse_u32(found.get(_RTA_TABLE)) or table,
        metric=parse_u32(found.get(_RTA_PRIORITY)),
        gateway=_address(found.get(_RTA_GATEWAY)),
        source=_address(found.get(_RTA_PREFSRC)),
        mtu=parse_u32(metrics.get(_RTAX_MTU)) or 0,
        protocol=protocol,
    )


def _address(packed: bytes | None) -> IPAddress | None:
    return None if packed is None else ipaddress.ip_address(packed)
