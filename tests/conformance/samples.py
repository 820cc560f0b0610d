"""Packets and messages that many tests of the seam use."""

from __future__ import annotations

import struct

from tests.conformance.far_end import ip_packet

OUT = ip_packet("10.0.0.1", "10.0.0.2", b"to the peer")
IN = ip_packet("10.0.0.2", "10.0.0.1", b"from the peer")


def initiation(index: int = 7) -> bytes:
    """All of an initiation but its macs; to the first line of defence it need not be more."""
    return struct.pack("<II", 1, index) + bytes(108)


def response(receiver: int) -> bytes:
    return struct.pack("<III", 2, 9, receiver) + bytes(48)


def padded(packet: bytes) -> bytes:
    return packet + bytes(-len(packet) % 16)


def numbered(count: int) -> list[bytes]:
    return [ip_packet("10.0.0.1", "10.0.0.2", f"packet {number:04}".encode()) for number in range(count)]
