"""WHERE, by which a node tells a peer inside their tunnel where it may be found (docs/paths.md). Pure.

It goes by a relay, so that two nodes that moved find each other while no coordinator is there to tell them.

    octet 0   0x70
    octet 1   3
    octet 2   how many endpoints, 1 to 6
    octet 3   zero
    then      of each, 16 octets of address (IPv4 mapped) and the port
    then      zeros, to 112 octets for each

Whoever gets one sends a single PING to each: less than what came, so that nobody gains who names a victim.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh.relay import OBSERVED_SIZE, encode_observed, parse_observed_untrusted, relay_number

MAX_WHERE: Final = 6
_MARK: Final = 0x70
_WHERE: Final = 3
_HEADER_SIZE: Final = 4
_SHARE: Final = 112
"""Octets for each endpoint. A PING takes 108, with all headers."""


def encode_where(endpoints: Iterable[Endpoint]) -> bytes:
    """Of the first six. There is one at least."""
    found = list(endpoints)[:MAX_WHERE]
    body = bytes((_MARK, _WHERE, len(found), 0)) + b"".join(map(encode_observed, found))
    return body.ljust(_SHARE * len(found), b"\0")


def parse_where_untrusted(data: bytes) -> tuple[Endpoint, ...]:
    """None of them is a relay's or our own host's; empty: it is something else."""
    if len(data) < _HEADER_SIZE or data[:2] != bytes((_MARK, _WHERE)):
        return ()
    count = data[2]
    if not 1 <= count <= MAX_WHERE or len(data) < _SHARE * count:
        return ()
    starts = range(_HEADER_SIZE, _HEADER_SIZE + count * OBSERVED_SIZE, OBSERVED_SIZE)
    found = (parse_observed_untrusted(data[start : start + OBSERVED_SIZE]) for start in starts)
    return tuple(dict.fromkeys(one for one in found if one is not None and _is_usable(one)))


def _is_usable(endpoint: Endpoint) -> bool:
    address = endpoint.address
    is_ours = address.is_loopback or address.is_unspecified or address.is_link_local
    return not (is_ours or address.is_multicast) and relay_number(endpoint) is None
