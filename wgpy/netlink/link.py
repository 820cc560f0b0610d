"""Links: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK (linux/rtnetlink.h, linux/if_link.h). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from wgpy.netlink.codec import (
    NLM_F_ACK,
    NLM_F_DUMP,
    Message,
    Request,
    attribute,
    attribute_u32,
    parse_attributes,
    parse_u32,
)

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18

_IFINFO: Final = struct.Struct("=BxHiII")
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINKINFO: Final = 18
_IFLA_EXT_MASK: Final = 29
_IFLA_INFO_KIND: Final = 1
_IFF_UP: Final = 1


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `kind` is "tun", "veth", …, or "" for hardware and the loopback."""

    index: int
    name: str
    is_up: bool
    mtu: int
    kind: str


def get_link(name_or_index: str | int) -> Request:
    index = name_or_index if isinstance(name_or_index, int) else 0
    body = _IFINFO.pack(0, 0, index, 0, 0)
    if isinstance(name_or_index, str):
        body += attribute(_IFLA_IFNAME, name_or_index.encode() + b"\0")
    return Request(RTM_GETLINK, 0, body, f"looking up the interface {name_or_index}")


def get_links() -> Request:
    # Without statistics and virtual functions, which are most of a link's bytes.
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute_u32(_IFLA_EXT_MASK, 8)
    return Request(RTM_GETLINK, NLM_F_DUMP, body, "listing interfaces")


def set_link(
    index: int, *, up: bool | None = None, mtu: int | None = None, name: str | None = None
) -> Request:
    """Change what is given; the rest stays."""
    body = _IFINFO.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)
    changes = []
    if mtu is not None:
        body += attribute_u32(_IFLA_MTU, mtu)
        changes.append(f"the MTU to {mtu}")
    if name is not None:
        body += attribute(_IFLA_IFNAME, name.encode() + b"\0")
        changes.append(f"the name to {name}")
    if up is not None:
        changes.append("it up" if up else "it down")
    return Request(RTM_NEWLINK, NLM_F_ACK, body, f"setting {' and '.join(changes)} on interface {index}")


def delete_link(index: int) -> Request:
    return Request(RTM_DELLINK, NLM_F_ACK, _IFINFO.pack(0, 0, index, 0, 0), f"deleting interface {index}")


def parse_link(message: Message) -> Link:
    """What RTM_NEWLINK and RTM_DELLINK carry."""
    _, _, index, flags, _ = _IFINFO.unpack_from(message.body)
    found = parse_attributes(message.body[_IFINFO.size :])
    info = parse_attributes(memoryview(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        is_up=bool(flags & _IFF_UP),
        mtu=parse_u32(found.get(_IFLA_MTU)) or 0,
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
    )
