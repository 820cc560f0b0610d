"""ICMP for a packet that has nowhere to go: host unreachable, address unreachable.

The kernel's WireGuard answers such a packet with an error at the socket. Through a TUN the sender can only be
reached by ICMP, and only with the packet's original destination as its source: from the interface's own
address IPv4 takes it for a martian.
"""

from __future__ import annotations

import struct
from typing import Final

from wgpy import _engine

_ICMPV4: Final = 1
_ICMPV6: Final = 58
_IPV4_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
_HOST_UNREACHABLE: Final = (3, 1)
_ADDRESS_UNREACHABLE: Final = (1, 3)
_MOST_IPV4: Final = 576
_MOST_IPV6: Final = 1280
_HOP_LIMIT: Final = 64


def icmp_unreachable(packet: bytes) -> bytes | None:
    """The answer to an IP packet that cannot be sent, quoting as much of it as is allowed.

    None when it must not be answered: errors, later fragments, multicast and broadcast, no proper source.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return _unreachable_ipv4(packet)
    if version == 6 and len(packet) >= 40:
        return _unreachable_ipv6(packet)
    return None


def _unreachable_ipv4(packet: bytes) -> bytes | None:
    header_length = (packet[0] & 0xF) * 4
    is_error = packet[9] == _ICMPV4 and len(packet) > header_length and packet[header_length] in _IPV4_ERRORS
    is_later_fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF != 0
    source, destination = packet[12:16], packet[16:20]
    if is_error or is_later_fragment or destination[0] >= 224 or source[0] >= 224 or source[0] == 0:
        return None
    quoted = packet[: _MOST_IPV4 - 28]
    message = struct.pack("!BBHI", *_HOST_UNREACHABLE, 0, 0) + quoted
    message = message[:2] + struct.pack("!H", _engine.internet_checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, _HOP_LIMIT, _ICMPV4, 0)
    header += destination + source
    header = header[:10] + struct.pack("!H", _engine.internet_checksum(header)) + header[12:]
    return header + message


def _unreachable_ipv6(packet: bytes) -> bytes | None:
    is_error = packet[6] == _ICMPV6 and len(packet) > 40 and packet[40] < 128
    source, destination = packet[8:24], packet[24:40]
    if is_error or destination[0] == 0xFF or source[0] == 0xFF or source == bytes(16):
        return None
    quoted = packet[: _MOST_IPV6 - 48]
    message = struct.pack("!BBHI", *_ADDRESS_UNREACHABLE, 0, 0) + quoted
    pseudo_header = destination + source + struct.pack("!II", len(message), _ICMPV6)
    checksum = _engine.internet_checksum(pseudo_header + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, _HOP_LIMIT) + destination + source
    return header + message
