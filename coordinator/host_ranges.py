"""Ranges that this host has of its own: a network over them would cut it off from what is there."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path
from typing import Final

from coordinator.addresses import Taken

_IPV4: Final = Path("/proc/self/net/route")
_IPV6: Final = Path("/proc/self/net/ipv6_route")
_GATEWAY: Final = 0x2
_REJECT: Final = 0x200


def host_ranges() -> list[Taken]:
    """What the interfaces are connected to. Nothing where the kernel does not say: then nothing is known to
    collide.
    """
    found: list[Taken] = []
    for path, read in ((_IPV4, _read_ipv4), (_IPV6, _read_ipv6)):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                taken = read(line.split())
                if taken is not None:
                    found.append(taken)
    return found


def _read_ipv4(words: list[str]) -> Taken | None:
    """Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses as little-endian hexadecimal."""
    if len(words) < 8 or words[0] == "Iface" or int(words[3], 16) & (_GATEWAY | _REJECT):
        return None
    address = int.from_bytes(bytes.fromhex(words[1]), "little")
    length = int(words[7], 16).bit_count()
    return _taken(f"{ipaddress.IPv4Address(address)}/{length}", words[0])


def _read_ipv6(words: list[str]) -> Taken | None:
    """Destination length source length next-hop metric refcount use flags interface."""
    if len(words) < 10 or words[9] == "lo" or int(words[8], 16) & (_GATEWAY | _REJECT):
        return None
    return _taken(f"{ipaddress.IPv6Address(bytes.fromhex(words[0]))}/{int(words[1], 16)}", words[9])


def _taken(text: str, interface: str) -> Taken | None:
    prefix = ipaddress.ip_network(text)
    if not prefix.prefixlen or prefix.is_link_local or prefix.is_multicast or prefix.is_loopback:
        return None
    return Taken(prefix, f"this host's own interface {interface}")
