"""Peers behind relays, for the portable engine: what is sent to one is wrapped, what comes of one unwrapped.

Everything else knows such a peer by its endpoint (docs/relay.md §4). Layouts are those of
`wgpy/mesh/relay.py`, here once more because engines import nothing of the mesh.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import Origin

HEADER_SIZE: Final = 20
_DATA: Final = bytes((0xD7, 8, 0, 1))
_MIN_DATA_SIZE: Final = 52
_PREFIX: Final = bytes.fromhex("fd5747507900")
_PORT: Final = 1
_MAX_RUN_SIZE: Final = 65000


@dataclass(frozen=True, slots=True)
class _Session:
    number: int
    remote: Endpoint
    id: bytes


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Datagrams of one peer, of equal size but the last."""

    data: bytes
    segment_size: int
    origin: Origin


class Relays:
    """Our sessions at relays, by our own numbers for these."""

    def __init__(self) -> None:
        self._by_number: dict[int, _Session] = {}
        self._by_remote: dict[tuple[bytes, int], _Session] = {}

    def __bool__(self) -> bool:
        return bool(self._by_number)

    def set(self, number: int, remote: Endpoint | None, session: int) -> None:
        """None: that one is no longer used."""
        self._by_number.pop(number, None)
        if remote is not None:
            self._by_number[number] = _Session(number, remote, session.to_bytes(8, "big"))
        self._by_remote = {
            (each.remote.address.packed, each.remote.port): each for each in self._by_number.values()
        }

    def send(
        self,
        run: tuple[bytes, int, int],
        to: Endpoint,
        most: int,
        send_run: Callable[[tuple[bytes, int, int], Endpoint], int],
    ) -> int:
        """Send a run to a peer behind a relay by `send_run`, `most` datagrams a call → octets of it that
        left.
        """
        octets, size, tos = run
        packed = to.address.packed
        session = self._by_number.get(int.from_bytes(packed[6:8], "big"))
        if session is None:
            return 0
        header, wrapped_size = _DATA + session.id + packed[8:], size + HEADER_SIZE
        most = max(1, min(most, _MAX_RUN_SIZE // wrapped_size))
        left = 0
        for start in range(0, len(octets), size * most):
            part = octets[start : start + size * most]
            wrapped = b"".join(header + part[at : at + size] for at in range(0, len(part), size))
            sent = send_run((wrapped, wrapped_size, tos), session.remote)
            left += sent - HEADER_SIZE * -(-sent // wrapped_size)
        return left

    def is_at(self, address: bytes, port: int) -> bool:
        return (address, port) in self._by_remote

    def unwrap(
        self, data: bytes, segment_size: int, address: bytes, port: int
    ) -> Iterator[Unwrapped | bytes]:
        """What a relay sent, in order: datagrams of peers, and what it says itself."""
        session = self._by_remote[address, port]
        start, expected = 0, _DATA + session.id
        while start < len(data):
            first = data[start : start + segment_size]
            start += segment_size
            if not first.startswith(expected) or len(first) < _MIN_DATA_SIZE:
                yield first
                continue
            header, datagrams = first[:HEADER_SIZE], [first[HEADER_SIZE:]]
            while data.startswith(header, start) and len(data) - start >= _MIN_DATA_SIZE:
                datagrams.append(data[start + HEADER_SIZE : start + segment_size])
                start += segment_size
            peer = Endpoint(_relayed(session.number, header[12:]), _PORT)
            yield Unwrapped(b"".join(datagrams), len(datagrams[0]), Origin(peer))


def is_relayed(endpoint: Endpoint) -> bool:
    return has_relayed_prefix(endpoint.address.packed)


def has_relayed_prefix(address: bytes) -> bool:
    """Of 4 or 16 octets: whether no host has it, for it stands for a peer behind a relay."""
    return address.startswith(_PREFIX) and len(address) == 16


def _relayed(number: int, peer: bytes) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(_PREFIX + number.to_bytes(2, "big") + peer)
