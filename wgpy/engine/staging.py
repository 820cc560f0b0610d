"""Packets that wait for a keypair: so many segments a peer, and so many for all peers together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wgpy import _engine
from wgpy.engine.portable_peer import PortablePeer
from wgpy.protocol.actions import PeerId
from wgpy.protocol.constants import MAX_STAGED_PACKETS

STAGING_POOL: Final = 8192
"""Segments staged for all peers together; past it, whoever has waited longest loses its oldest."""


class Staging:
    """The packets are their peers'; here is what all have in common. `dropped` is told each reason."""

    def __init__(self, dropped: Callable[[str, int], None]) -> None:
        self._dropped = dropped
        self._waiting: dict[PeerId, PortablePeer] = {}  # peers with staged packets, longest waiting first
        self._segments = 0

    @property
    def segments(self) -> int:
        """Of all peers."""
        return self._segments

    def add(self, peer: PortablePeer, packet: bytes, *, vnet_hdr: bool) -> None:
        """The oldest give way. An empty packet is a keepalive."""
        segments = _engine.segment_count(packet, vnet_hdr=vnet_hdr) if packet else 1
        if segments == 0:
            self._dropped("malformed packet of the host", 1)
            return
        peer.staged.append((packet, segments))
        peer.staged_segments += segments
        self._segments += segments
        self._waiting.setdefault(peer.id, peer)
        while peer.staged_segments > MAX_STAGED_PACKETS:
            self._drop_oldest(peer)
        while self._segments > STAGING_POOL:
            self._drop_oldest(next(iter(self._waiting.values())))

    def take(self, peer: PortablePeer) -> list[bytes]:
        """All that is staged for it, oldest first."""
        packets = [packet for packet, _ in peer.staged]
        self.drop(peer)
        return packets

    def drop(self, peer: PortablePeer) -> None:
        self._segments -= peer.staged_segments
        peer.staged.clear()
        peer.staged_segments = 0
        self._waiting.pop(peer.id, None)

    def _drop_oldest(self, peer: PortablePeer) -> None:
        _, segments = peer.staged.popleft()
        peer.staged_segments -= segments
        self._segments -= segments
        self._dropped("staged too long", segments)
        if not peer.staged:
            del self._waiting[peer.id]
