"""Addresses: an endpoint is ip:port; a prefix is what allowed IPs are made of."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self, overload

from wgpy.errors import ConfigError

IPAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a UDP port; `scope_id` is the interface index of a link-local IPv6 address, else 0."""

    address: IPAddress
    port: int
    scope_id: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `192.0.2.1:51820` or `[2001:db8::1]:51820`; a zone (`[fe80::1%3]:51820`) is an index.

        Names are not resolved here. Raises ConfigError.
        """
        host, separator, port = text.rpartition(":")
        if not separator:
            raise ConfigError(f"an endpoint is ADDRESS:PORT or [ADDRESS]:PORT; got {text!r}")
        bracketed = host.startswith("[") and host.endswith("]")
        host, _, zone = (host[1:-1] if bracketed else host).partition("%")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(f"an endpoint has an IP address before its port; got {text!r}") from None
        if isinstance(address, IPv6Address) != bracketed or (zone and not zone.isascii()):
            raise ConfigError(
                f"an IPv6 endpoint is [ADDRESS]:PORT and an IPv4 one ADDRESS:PORT; got {text!r}"
            )
        if zone and not (zone.isdigit() and bracketed):
            raise ConfigError(f"the zone of an endpoint is an interface index; got {text!r}")
        return cls(address, parse_port(port), int(zone or 0))

    def __str__(self) -> str:
        if isinstance(self.address, IPv4Address):
            return f"{self.address}:{self.port}"
        zone = f"%{self.scope_id}" if self.scope_id else ""
        return f"[{self.address}{zone}]:{self.port}"


def parse_port(text: str) -> int:
    """A port from 1 to 65535. Raises ConfigError."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise ConfigError(f"a port is a number from 1 to 65535; got {text!r}")


def parse_prefix(text: str) -> Prefix:
    """Read `10.0.0.0/24`, `fd00::/64` or a bare address (one host). Masks host bits. Raises ConfigError."""
    try:
        if "/" in text and not (text.rpartition("/")[2].isascii() and text.rpartition("/")[2].isdigit()):
            raise ValueError
        if "%" in text:  # a zone, which no prefix has
            raise ValueError
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"a prefix is ADDRESS/LENGTH, such as 10.0.0.0/24 or fd00::/64; got {text!r}"
        ) from None


def parse_interface_address(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """Read an address with its prefix length, as in `Address = 10.0.0.1/24`. Raises ConfigError."""
    try:
        if "%" in text:  # a zone: the interface is the one that gets the address
            raise ValueError
        return ipaddress.ip_interface(text)
    except ValueError:
        raise ConfigError(
            f"an address is ADDRESS or ADDRESS/LENGTH, such as 10.0.0.1/24; got {text!r}"
        ) from None


def host_prefix(address: IPAddress) -> Prefix:
    """The /32 or /128 of one address."""
    return ipaddress.ip_network(address)


def is_inside(inner: Prefix, outer: Prefix) -> bool:
    """Whether every address of `inner` is one of `outer`."""
    return (
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and inner.network_address in outer
    )


def collapsed(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The same addresses, of one family: what lies in another goes, neighbours are joined."""
    # The types allow for one version only, and the function for no empty list.
    found = list(prefixes)
    return list(ipaddress.collapse_addresses(found)) if found else []  # type: ignore[type-var]


class PackedPrefixes(Sequence[Prefix]):
    """Prefixes by the hundred thousand: each becomes an object, or text, only when it is looked at.

    Equal to any sequence of the same prefixes in the same order.
    """

    __slots__ = ("packed",)

    def __init__(self, packed: Sequence[tuple[bytes, int]]) -> None:
        self.packed: Final = packed
        """Network addresses of 4 or 16 octets, host bits zero, with their lengths."""

    @classmethod
    def of(cls, prefixes: Iterable[Prefix]) -> PackedPrefixes:
        """What is packed already stays the same object."""
        if isinstance(prefixes, PackedPrefixes):
            return prefixes
        return cls([(each.network_address.packed, each.prefixlen) for each in prefixes])

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> Prefix: ...
    @overload
    def __getitem__(self, index: slice) -> PackedPrefixes: ...
    def __getitem__(self, index: int | slice) -> Prefix | PackedPrefixes:
        if isinstance(index, slice):
            return PackedPrefixes(self.packed[index])
        return unpack_prefix(*self.packed[index])

    def __iter__(self) -> Iterator[Prefix]:
        return (unpack_prefix(address, length) for address, length in self.packed)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedPrefixes):
            return list(self.packed) == list(other.packed)
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self.packed))

    def __repr__(self) -> str:
        return f"PackedPrefixes({list(self.texts())})"

    def texts(self) -> Iterator[str]:
        """Each as `10.0.0.0/24` or `fd00::/64`, a tenth of the work of making the objects."""
        for address, length in self.packed:
            if len(address) == 4:
                yield "{}.{}.{}.{}/{}".format(*address, length)
            else:
                yield f"{_ipv6_text(address)}/{length}"


def unpack_prefix(address: bytes, length: int) -> Prefix:
    """The network of 4 or 16 octets, whose host bits are zero. Raises ValueError for anything else."""
    if len(address) == 4:
        return IPv4Network((IPv4Address(address), length))
    return IPv6Network((IPv6Address(address), length))


_IPV6_WORDS: Final = struct.Struct(">8H")
_ZEROS: Final = [":" + "0:" * count for count in range(8, 1, -1)]


def _ipv6_text(packed: bytes) -> str:
    """RFC 5952: the first of the longest runs of zeros is left out."""
    text = ":{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:".format(*_IPV6_WORDS.unpack(packed))
    for run in _ZEROS:
        start = text.find(run)
        if start >= 0:
            return f"{text[1:start]}::{text[start + len(run) : -1]}"
    return text[1:-1]
