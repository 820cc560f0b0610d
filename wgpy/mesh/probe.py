"""PING and PONG, by which two agents prove a path between them, inside their tunnel (docs/paths.md).

They are control messages: sealed under the session's keys, told from IP packets by their first nibble, and
dropped by a WireGuard that knows nothing of them.

    octet 0      0x70
    octet 1      1: PING, 2: PONG
    octet 2      of a PING, 1: its sender gets no answers to its data; else zero
    octet 3      zero
    octets 4-11  the id: random, of the sender of the PING
    then         zeros, as many as are to be tried
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_MARK: Final = 0x70
_PING: Final = 1
_PONG: Final = 2
_LAYOUT: Final = struct.Struct("!BBBx8s")
ID_SIZE: Final = 8
"""Octets."""


@dataclass(frozen=True, slots=True)
class Probe:
    """`is_pong`: the answer to the PING of this id. `is_urgent`: its sender gets no answers to its data."""

    id: bytes
    is_pong: bool
    is_urgent: bool = False


def encode_ping(ping_id: bytes, *, is_urgent: bool = False) -> bytes:
    return _LAYOUT.pack(_MARK, _PING, is_urgent, ping_id)


def encode_pong(ping_id: bytes) -> bytes:
    """Never larger than the PING that it answers."""
    return _LAYOUT.pack(_MARK, _PONG, 0, ping_id)


def parse_probe_untrusted(data: bytes) -> Probe | None:
    """None: it is something else, of a newer version perhaps."""
    if len(data) < _LAYOUT.size:
        return None
    mark, kind, flags, ping_id = _LAYOUT.unpack_from(data)
    if mark != _MARK or kind not in (_PING, _PONG):
        return None
    return Probe(ping_id, kind == _PONG, kind == _PING and bool(flags & 1))
