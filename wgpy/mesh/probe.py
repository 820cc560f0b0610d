"""PING and PONG, by which two agents prove a path between them, inside their tunnel (docs/paths.md).

They are control messages: sealed under the session's keys, told from IP packets by their first nibble, and
dropped by a WireGuard that knows nothing of them.

    octet 0      0x70
    octet 1      1: PING, 2: PONG
    octet 2      of a PING, 1: its sender gets no answers to its data; else zero
    octet 3      zero
    octets 4-11  the id: random, of the sender of the PING
    octets 12-19 of a PONG: the id of a PING in return, zeros for none
    then         of a PING zeros, to 44 octets at least, more to find out how long a packet may be

A PONG is smaller than the PING that it answers, with a PING in return or without: whoever sends PINGs in
another's name makes less come to him than he sends himself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_MARK: Final = 0x70
_PING: Final = 1
_PONG: Final = 2
_LAYOUT: Final = struct.Struct("!BBBx8s8s")
ID_SIZE: Final = 8
"""Octets."""
PING_SIZE: Final = 44
"""Octets: a PONG is 20, and what seals them pads to 16."""
_NO_ID: Final = bytes(ID_SIZE)


@dataclass(frozen=True, slots=True)
class Probe:
    """`is_pong`: the answer to the PING of this id, perhaps with the id of one in `return_id`. `is_urgent`:
    its sender gets no answers to its data.
    """

    id: bytes
    is_pong: bool
    is_urgent: bool = False
    return_id: bytes | None = None


def encode_ping(ping_id: bytes, *, is_urgent: bool = False, size: int = PING_SIZE) -> bytes:
    """`size` in octets, `PING_SIZE` at least."""
    return _LAYOUT.pack(_MARK, _PING, is_urgent, ping_id, _NO_ID).ljust(size, b"\0")


def encode_pong(ping_id: bytes, return_id: bytes | None = None) -> bytes:
    """`return_id`: of a PING that the PONG is too."""
    return _LAYOUT.pack(_MARK, _PONG, 0, ping_id, return_id or _NO_ID)


def parse_probe_untrusted(data: bytes) -> Probe | None:
    """None: it is something else, of a newer version perhaps."""
    if len(data) < _LAYOUT.size:
        return None
    mark, kind, flags, ping_id, return_id = _LAYOUT.unpack_from(data)
    if mark != _MARK or kind not in (_PING, _PONG):
        return None
    is_pong = kind == _PONG
    return Probe(
        ping_id,
        is_pong,
        not is_pong and bool(flags & 1),
        return_id if is_pong and return_id != _NO_ID else None,
    )
