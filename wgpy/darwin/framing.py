"""How packets are read from and written to a utun device: each has its address family before it, four octets,
high one first (net/if_utun.h).
"""

from __future__ import annotations

import os
from typing import Final

HEADER_SIZE: Final = 4
_AF_INET: Final = (2).to_bytes(HEADER_SIZE, "big")
_AF_INET6: Final = (30).to_bytes(HEADER_SIZE, "big")
"""macOS has another number than Linux."""


def frame(packet: bytes | memoryview) -> bytes:
    """The header of an IP packet."""
    return _AF_INET6 if packet[0] >> 4 == 6 else _AF_INET


def read_packet(fd: int, size: int) -> bytes:
    """As `os.read`, without the header: b"" for what is shorter than one. Raises OSError."""
    return os.read(fd, size + HEADER_SIZE)[HEADER_SIZE:]


def write_packet(fd: int, packet: bytes) -> int:
    """As `os.write`, with the header. Raises OSError."""
    return os.writev(fd, (frame(packet), packet)) - HEADER_SIZE
