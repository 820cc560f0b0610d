"""ICMP for a packet that has nowhere to go, or does not fit its path: unreachable, too big.

The kernel's WireGuard answers such a packet with an error at the socket. Through a TUN the sender can only be
reached by ICMP, and only with the packet's original destination as its source: from the interface's own
address IPv4 takes it for a martian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from wgpy import _engine

_ICMPV4: Final = 1
_ICMPV6: Final = 58
_IPV4_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
_MOST_IPV4: Final = 576
_MOST_IPV6: Final = 1280
"""Every path has it at least (RFC 8200 §5): nobody is told of less."""
_DONT_FRAGMENT: Final = 0x40
_HOP_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a packet is not sent: types and codes of ICMP, and the second word of the message."""

    ipv4: tuple[int, int]
    ipv6: tuple[int, int]
    word: int = 0


UNREACHABLE: Final = Trouble((3, 1), (1, 3))


def too_big(packet: bytes, length: int, path_mtu: int) -> Trouble | None:
    """Whether packets of `length` octets like this one do not fit a path of that MTU, and must not be
    fragmented on their way: then what their sender is to be told.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) > 6 and packet[6] & _DONT_FRAGMENT:
        most = path_mtu
    elif version == 6:
        most = max(path_mtu, _MOST_IPV6)
    else:
        return None
    return Trouble((3, 4), (2, 0), most) if length > most else None


def icmp_answer(packet: bytes, trouble: Trouble = UNREACHABLE) -> bytes | None:
    """The answer to an IP packet that cannot be sent, quoting as much of it as is allowed.

    None when it must not be answered: errors, later fragments, multicast and broadcast, no proper source.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return _answer_ipv4(packet, trouble)
    if version == 6 and len(packet) >= 40:
        return _answer_ipv6(packet, trouble)
    return None


def _answer_ipv4(packet: bytes, trouble: Trouble) -> bytes | None:
    header_length = (packet[0] & 0xF) * 4
    is_error = packet[9] == _ICMPV4 and len(packet) > header_length and packet[header_length] in _IPV4_ERRORS
    is_later_fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF != 0
    source, destination = packet[12:16], packet[16:20]
    if is_error or is_later_fragment or destination[0] >= 224 or source[0] >= 224 or source[0] == 0:
        return None
    quoted = packet[: _MOST_IPV4 - 28]
    message = struct.pack("!BBHI", *trouble.ipv4, 0, trouble.word) + quoted
    message = message[:2] + struct.pack("!H", _engine.internet_checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, _HOP_LIMIT, _ICMPV4, 0)
    header += destination + source
    header = header[:10] + struct.pack("!H", _engine.internet_checksum(header)) + header[12:]
    return header + message


def _answer_ipv6(packet: bytes, trouble: Trouble) -> bytes | None:
    is_error = packet[6] == _ICMPV6 and len(packet) > 40 and packet[40] < 128
    source, destination = packet[8:24], packet[24:40]
    if is_error or destination[0] == 0xFF or source[0] == 0xFF or source == bytes(16):
        return None
    quoted = packet[: _MOST_IPV6 - 48]
    message = struct.pack("!BBHI", *trouble.ipv6, 0, trouble.word) + quoted
    pseudo_header = destination + source + struct.pack("!II", len(message), _ICMPV6)
    checksum = _engine.internet_checksum(pseudo_header + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, _HOP_LIMIT) + destination + source
    return header + message
