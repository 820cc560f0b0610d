"""Which endpoint a peer gets from the coordinator's word, and when: never against what the peer itself
proved. Pure.

WireGuard follows a peer by its authenticated packets. What the coordinator says of a peer's whereabouts is
used only while there is no session with it, or one that brings no answer. A quiet peer is not a lost one:
of two ends with persistent keepalives only one sends them, as each packet either way puts off both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh.encoding import MAX_ENDPOINTS
from wgpy.mesh.frames import Presence, PresenceFrame

SESSION_AGE: Final = 180.0
"""Seconds after the last handshake at which a session is over (REJECT_AFTER_TIME)."""
UNANSWERED_TIME: Final = 15.0
"""Seconds without an answer to data sent, after which WireGuard shakes hands anew."""
MOVED_TIME: Final = 25.0
"""Seconds of quiet after which a newer word of the coordinator's is believed even while a session stands."""
TRY_TIME: Final = 6.0
"""Seconds for one candidate before the next: a handshake is repeated after 5."""


_UNKNOWN: Final = Presence((), False)


@dataclass(slots=True)
class _Peer:
    presence: Presence = _UNKNOWN
    told_at: float = 0.0
    heard_at: float | None = None
    rx_bytes: int = 0
    tried: Endpoint | None = None
    tried_at: float = 0.0
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the interface says of a peer: its endpoint, all octets received from it so far, the age of the
    last handshake (None: there was none), and for how long data has been sent without any answer; seconds.
    """

    endpoint: Endpoint | None
    rx_bytes: int
    handshake_age: float | None
    unanswered: float = 0.0

    @property
    def is_alive(self) -> bool:
        """There is a session, and nothing speaks against it."""
        has_session = self.handshake_age is not None and self.handshake_age < SESSION_AGE
        return has_session and self.unanswered < UNANSWERED_TIME


@dataclass(slots=True)
class EndpointChooser:
    """Keeps what the coordinator says and what was heard. Ids are nodes' ids."""

    _peers: dict[str, _Peer] = field(default_factory=dict)

    def handle_presence(self, frame: PresenceFrame, now: float) -> None:
        if frame.complete:
            for node_id, peer in self._peers.items():
                if node_id not in frame.nodes:
                    peer.presence = Presence(peer.presence.endpoints, False)
        for node_id, presence in frame.nodes.items():
            peer = self._peers.setdefault(node_id, _Peer())
            if presence.endpoints != peer.presence.endpoints:
                peer.told_at = now
            peer.presence = presence

    def handle_memory(self, seen: Mapping[str, tuple[Endpoint, ...]]) -> None:
        """Where peers were in an earlier life: good enough until somebody knows better."""
        for node_id, endpoints in seen.items():
            self._peers.setdefault(node_id, _Peer()).presence = Presence(endpoints, False)

    def memory(self, node_id: str, proven: Endpoint | None) -> tuple[Endpoint, ...]:
        """What to remember of a peer: the endpoint that it proved, if it is heard, then what was said of
        it.
        """
        peer = self._peers.get(node_id, _Peer())
        said = peer.presence.endpoints
        first = () if proven is None or peer.heard_at is None else (proven,)
        return tuple(dict.fromkeys((*first, *said)))[:MAX_ENDPOINTS]

    def presence(self, node_id: str) -> Presence | None:
        """What the coordinator last said, None: nothing yet."""
        peer = self._peers.get(node_id)
        return None if peer is None else peer.presence

    def tries(self, node_id: str) -> int:
        """How many endpoints were tried since the peer was last heard."""
        peer = self._peers.get(node_id)
        return 0 if peer is None else peer.tries

    def keep_only(self, node_ids: Iterable[str]) -> None:
        """Forget all other peers."""
        kept = set(node_ids)
        for node_id in self._peers.keys() - kept:
            del self._peers[node_id]

    def choose(self, node_id: str, heard: Heard, now: float) -> Endpoint | None:
        """The endpoint to set for a peer now, or None: leave it. Called about once a second for each peer."""
        peer = self._peers.setdefault(node_id, _Peer())
        if heard.rx_bytes > peer.rx_bytes or (peer.heard_at is None and heard.is_alive):
            peer.heard_at, peer.tries, peer.tried = now, 0, None
        peer.rx_bytes = heard.rx_bytes
        if (heard.is_alive and not self._has_moved(peer, now)) or not peer.presence.endpoints:
            return None
        candidates = peer.presence.endpoints
        if peer.tried in candidates and now - peer.tried_at < TRY_TIME:
            return None
        place = (candidates.index(peer.tried) + 1) % len(candidates) if peer.tried in candidates else 0
        peer.tried, peer.tried_at = candidates[place], now
        peer.tries += 1
        return peer.tried if peer.tried != heard.endpoint else None

    @staticmethod
    def _has_moved(peer: _Peer, now: float) -> bool:
        """The coordinator saw it elsewhere after we last heard it, and since then it has been quiet."""
        heard_at = peer.heard_at
        return heard_at is not None and peer.told_at > heard_at and now - heard_at > MOVED_TIME
