"""The two ends that the portable engine sends to, as it sees them."""

from __future__ import annotations

from typing import Protocol

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import Origin

Run = tuple[bytes, int, int]
"""Datagrams of equal size but the last, that size, and their TOS."""


class Ends(Protocol):
    """What the engine sends to."""

    def send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        """Send one datagram, from `source.local` if it can; True when it left."""

    def write_tun(self, packet: bytes) -> None:
        """Give a packet to the host; with `vnet_hdr` it begins with a virtio_net_hdr."""


class RunEnds(Ends, Protocol):
    """Ends that take several datagrams at once."""

    def send_run(self, run: Run, to: Endpoint, source: Origin | None) -> int:
        """Returns the octets that left."""
