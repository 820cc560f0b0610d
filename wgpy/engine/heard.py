"""Where a datagram came from, as far as it is asked for: what strangers send is mostly dropped without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import Origin


class Heard(Protocol):
    """Of one datagram, or of several that came at once."""

    def origin(self) -> Origin:
        """All of it."""

    def source(self) -> tuple[bytes, int]:
        """The sender's address, 4 or 16 octets, and port."""

    def answer(self, data: bytes) -> None:
        """Send back the way it came."""


@dataclass(frozen=True, slots=True)
class Known:
    """An origin that is there already, and what sends."""

    known: Origin
    send: Callable[[bytes, Endpoint, Origin], None]

    def origin(self) -> Origin:
        return self.known

    def source(self) -> tuple[bytes, int]:
        return self.known.remote.address.packed, self.known.remote.port

    def answer(self, data: bytes) -> None:
        self.send(data, self.known.remote, self.known)
