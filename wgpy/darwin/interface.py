"""Up, down and MTU of an interface, asked and set by ioctl (net/if.h, sys/sockio.h of macOS)."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SIOCSIFFLAGS: Final = 0x80206910
SIOCGIFFLAGS: Final = 0xC0206911
SIOCGIFMTU: Final = 0xC0206933
SIOCSIFMTU: Final = 0x80206934
IFF_UP: Final = 0x1
IFREQ_FLAGS: Final = struct.Struct("=16sH14x")
IFREQ_MTU: Final = struct.Struct("=16si12x")
"""struct ifreq: 16 octets of name, 16 of a union."""

Ioctl = Callable[[int, bytes], bytes]
"""A request and its ifreq → the ifreq as the kernel filled it in. Raises OSError."""


@dataclass(frozen=True, slots=True)
class LinkState:
    is_up: bool
    mtu: int


def host_ioctl(request: int, ifreq: bytes) -> bytes:
    """Asks this host's kernel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket.fileno(), request, ifreq)


def link_state(name: str, ioctl: Ioctl = host_ioctl) -> LinkState:
    """Raises OSError (ENXIO: there is no such interface)."""
    encoded = os.fsencode(name)
    _, flags = IFREQ_FLAGS.unpack(ioctl(SIOCGIFFLAGS, IFREQ_FLAGS.pack(encoded, 0)))
    _, mtu = IFREQ_MTU.unpack(ioctl(SIOCGIFMTU, IFREQ_MTU.pack(encoded, 0)))
    return LinkState(bool(flags & IFF_UP), mtu)


def set_mtu(name: str, mtu: int, ioctl: Ioctl = host_ioctl) -> None:
    """Raises OSError."""
    ioctl(SIOCSIFMTU, IFREQ_MTU.pack(os.fsencode(name), mtu))


def set_up(name: str, ioctl: Ioctl = host_ioctl) -> None:
    """Raises OSError."""
    encoded = os.fsencode(name)
    _, flags = IFREQ_FLAGS.unpack(ioctl(SIOCGIFFLAGS, IFREQ_FLAGS.pack(encoded, 0)))
    ioctl(SIOCSIFFLAGS, IFREQ_FLAGS.pack(encoded, flags | IFF_UP))
