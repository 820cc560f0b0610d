"""One peer as the portable engine sees it: its keypairs, what is staged, where it is, and the facts of its
packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import CurrentKeypair, Fact, Facts, Origin, PeerId
from wgpy.protocol.keypairs import KeypairSlots

NO_FACTS = Facts(None, None, None, None, None, 0, None)
"""Of a peer that is gone."""


class PortablePeer:
    """State and the rules of `Facts`. Each `note_…` returns whether the watch is due: a watched fact is
    there.
    """

    __slots__ = (
        "also",
        "authenticated_received_last",
        "authenticated_sent_last",
        "authenticated_seq",
        "data_received_first",
        "data_received_last",
        "data_sent_first",
        "endpoint",
        "follow",
        "handshake_indices",
        "handshake_origin",
        "id",
        "path_mtu",
        "primary",
        "reported",
        "rx_bytes",
        "slots",
        "source",
        "staged",
        "staged_segments",
        "tx_bytes",
        "watched",
    )

    def __init__(self, peer_id: PeerId) -> None:
        self.id = peer_id
        self.slots = KeypairSlots()
        self.handshake_indices: set[int] = set()
        self.staged: deque[tuple[bytes, int]] = deque()
        """(packet, segments); an empty packet is a keepalive."""
        self.staged_segments = 0

        self.endpoint: Endpoint | None = None
        self.source: Origin | None = None
        """The sticky source: where the peer last reached us."""
        self.follow = True
        self.reported: Endpoint | None = None
        """What the core knows as the endpoint."""
        self.primary: Origin | None = None
        self.also: Sequence[Origin] = ()
        self.path_mtu: int | None = None
        """Octets of the longest packet that the path takes, where that is less than the device's."""
        self.authenticated_seq = 0
        self.handshake_origin: Origin | None = None
        """Of the handshake message accepted last: where a response goes when the endpoint does not follow."""

        self.rx_bytes = 0
        self.tx_bytes = 0
        self.data_sent_first: float | None = None
        self.data_received_first: float | None = None
        self.data_received_last: float | None = None
        self.authenticated_sent_last: float | None = None
        self.authenticated_received_last: float | None = None
        self.watched = Fact(0)

    # --- facts ---

    def facts(self, now: float) -> Facts:
        pair = self.slots.current
        current = None
        if pair is not None:
            keys = pair.keys
            current = CurrentKeypair(keys.local_index, keys.created_at, keys.is_initiator, pair.may_send(now))
        return Facts(
            self.data_sent_first,
            self.data_received_first,
            self.data_received_last,
            self.authenticated_sent_last,
            self.authenticated_received_last,
            self.staged_segments,
            current,
        )

    def note_authenticated_sent(self, now: float) -> None:
        self.authenticated_sent_last = now
        self.data_received_first = self.data_received_last = None

    def note_data_sent(self, now: float) -> bool:
        if self.data_sent_first is None:
            self.data_sent_first = now
        return Fact.DATA_SENT in self.watched

    def note_authenticated_received(self, now: float) -> bool:
        self.authenticated_received_last = now
        self.data_sent_first = None
        return Fact.AUTHENTICATED_RECEIVED in self.watched

    def note_data_received(self, now: float) -> bool:
        self.data_received_last = now
        if self.data_received_first is None:
            self.data_received_first = now
        return Fact.DATA_RECEIVED in self.watched

    def is_watched_fact_there(self) -> bool:
        return (Fact.DATA_SENT in self.watched and self.data_sent_first is not None) or (
            Fact.DATA_RECEIVED in self.watched and self.data_received_first is not None
        )

    # --- where it is ---

    def paths(self) -> list[tuple[Endpoint, Origin | None]]:
        """Where packets go: (endpoint, source) of each path, the primary one first; none when it is not
        known.
        """
        if self.primary is not None:
            return [(path.remote, path) for path in (self.primary, *self.also)]
        if self.endpoint is not None:
            return [(self.endpoint, self.source)]
        return []

    def note_origin(self, origin: Origin) -> bool:
        """An authenticated packet came from there. True when the endpoint moved, or would have."""
        if origin is self.source:
            return False
        if self.follow or origin.remote == self.endpoint:
            self.endpoint = origin.remote
            self.source = origin
        if origin.remote == self.reported or (
            not self.follow and any(origin.remote == remote for remote, _ in self.paths())
        ):
            return False
        self.reported = origin.remote
        return True

    def forget_source(self) -> None:
        self.source = None
