"""Addresses of interfaces: RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR (linux/if_addr.h). Pure."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

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
)

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

_IFADDR: Final = struct.Struct("=BBBBi")
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_IFA_F_NODAD: Final = 0x02

IPInterface = IPv4Interface | IPv6Interface
"""An address with the length of its prefix."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address and the index of the interface that has it."""

    index: int
    address: IPInterface


def _family(address: IPInterface) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _body(index: int, address: IPInterface) -> bytes:
    packed = address.ip.packed
    body = _IFADDR.pack(_family(address), address.network.prefixlen, 0, 0, index)
    return body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def add_address(index: int, address: IPInterface, *, replace: bool = True) -> Request:
    """`replace`: an address that is already there is no error.

    IPv6 skips duplicate address detection: on a tunnel's link there is nobody to ask, and the address is of
    use at once.
    """
    flags = NLM_F_ACK | NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    body = _body(index, address)
    if address.version == 6:
        body += attribute_u32(_IFA_FLAGS, _IFA_F_NODAD)
    return Request(RTM_NEWADDR, flags, body, f"adding the address {address} to interface {index}")


def delete_address(index: int, address: IPInterface) -> Request:
    what = f"removing the address {address} from interface {index}"
    return Request(RTM_DELADDR, NLM_F_ACK, _body(index, address), what)


def get_addresses(index: int = 0) -> Request:
    """Of one interface, or of all (0)."""
    return Request(RTM_GETADDR, NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, index), "listing addresses")


def parse_address(message: Message) -> Address | None:
    """What RTM_NEWADDR and RTM_DELADDR carry; None for a family that is not IP."""
    family, length, _, _, index = _IFADDR.unpack_from(message.body)
    found = parse_attributes(message.body[_IFADDR.size :])
    # On a point-to-point link IFA_ADDRESS is the other end, IFA_LOCAL ours.
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return Address(index, ipaddress.ip_interface((packed, length)))
