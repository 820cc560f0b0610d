"""What the nodes of one network say of their tunnels, held in memory alone. Pure.

Each end tells its own side, and the two may disagree: both are shown. A node's words are kept as long as it
goes on reporting; they say nothing any more once it is offline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.tunnels import REPORT_INTERVAL, WATCHED_INTERVAL, Tunnel, TunnelReport

LEASE: Final = 3.0 * REPORT_INTERVAL
"""Seconds after which the words of a node that says nothing any more are dropped."""
MAX_HELD: Final = 256
"""Tunnels kept of one node, which tells those with the most traffic."""
MAX_HELD_IN_ALL: Final = 262_144
"""Tunnels kept of one network: about 60 MB."""
CHECKINS_A_SECOND: Final = 20.0
"""What reports may come to while somebody looks: with more nodes each reports less often."""
WATCHED_TIME: Final = 60.0
"""Seconds for which a network counts as watched after its tunnels were asked for."""


@dataclass(frozen=True, slots=True)
class End:
    """A tunnel as one of its ends has it, told at `at` (Unix time, seconds, as all instants here)."""

    tunnel: Tunnel
    at: float

    @property
    def latest_handshake_at(self) -> float | None:
        age = self.tunnel.handshake_age
        return None if age is None else self.at - age

    @property
    def is_up(self) -> bool:
        return self.tunnel.path != "none"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes and what each says of the other; `a` < `b`. At least one of the ends is there."""

    a: str
    b: str
    ends: tuple[tuple[str, End, bool], ...]
    """Who says it, what, and whether that one is offline by now: then it is stale."""

    @property
    def state(self) -> str:
        """`up`, `down`, `disputed` (the two differ), `unknown` (who said something is offline)."""
        words = {end.is_up for _, end, is_stale in self.ends if not is_stale}
        if len(words) == 2:
            return "disputed"
        return "unknown" if not words else "up" if words.pop() else "down"

    @property
    def told_at(self) -> float:
        """When the later of the two said something."""
        return max(end.at for _, end, _ in self.ends)

    def to_json(self) -> JsonObject:
        ends = [end_json(node_id, end) | {"stale": is_stale} for node_id, end, is_stale in self.ends]
        return {"a": self.a, "b": self.b, "state": self.state, "ends": ends}


def end_json(node_id: str, end: End) -> JsonObject:
    tunnel, shaken_at = end.tunnel, end.latest_handshake_at
    return {
        "from": node_id,
        "path": tunnel.path,
        "reason": tunnel.reason,
        "endpoint": None if tunnel.endpoint is None else str(tunnel.endpoint),
        "rtt_ms": None if tunnel.rtt_us is None else tunnel.rtt_us / 1000,
        "latest_handshake_at": None if shaken_at is None else round(shaken_at, 1),
        "rx_bytes": tunnel.rx_bytes,
        "tx_bytes": tunnel.tx_bytes,
        "tried": list(tunnel.tried),
        "next_try_at": None if tunnel.next_try is None else round(end.at + tunnel.next_try, 1),
        "at": round(end.at, 1),
    }


@dataclass(slots=True)
class _Node:
    order: tuple[int, int]
    heard_at: float
    ends: dict[str, End] = field(default_factory=dict)


class TunnelBoard:
    """`version` goes up with each report that brings something."""

    def __init__(self) -> None:
        self.version = 0
        self._nodes: dict[str, _Node] = {}
        self._partners: dict[str, set[str]] = {}
        self._held = 0

    def __len__(self) -> int:
        """How many ends are held."""
        return self._held

    def knows(self, node_id: str) -> bool:
        """Whether a difference from this node would make sense."""
        return node_id in self._nodes

    def hear(self, node_id: str, now: float) -> None:
        """The node goes on, and what it said holds."""
        if node_id in self._nodes:
            self._nodes[node_id].heard_at = now

    def report(self, node_id: str, order: tuple[int, int], report: TunnelReport, now: float) -> None:
        """Take what a node said, unless it said something newer before; `order` is (boot, sequence).

        Of a node that is not known a difference is passed over: it is to begin anew.
        """
        node = self._nodes.get(node_id)
        if node is not None and node.order >= order:
            return
        if report.begin:
            self.forget(node_id)
            node = self._nodes[node_id] = _Node(order, now)
        elif node is None:
            return
        node.order, node.heard_at = order, now
        for peer_id, tunnel in report.peers.items():
            self._put(node_id, node, peer_id, End(tunnel, now))
        if report.begin or report.peers:
            self.version += 1

    def _put(self, node_id: str, node: _Node, peer_id: str, end: End) -> None:
        if peer_id not in node.ends:
            if peer_id == node_id or len(node.ends) >= MAX_HELD or self._held >= MAX_HELD_IN_ALL:
                return
            self._held += 1
            self._partners.setdefault(node_id, set()).add(peer_id)
            self._partners.setdefault(peer_id, set()).add(node_id)
        node.ends[peer_id] = end

    def forget(self, node_id: str) -> None:
        """What this node said counts no more."""
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        self._held -= len(node.ends)
        self.version += 1
        for peer_id in node.ends:
            other = self._nodes.get(peer_id)
            if other is None or node_id not in other.ends:
                self._part(node_id, peer_id)
                self._part(peer_id, node_id)

    def _part(self, one: str, other: str) -> None:
        partners = self._partners.get(one, set())
        partners.discard(other)
        if not partners:
            self._partners.pop(one, None)

    def expire(self, now: float) -> None:
        """Drop the words of nodes that went silent."""
        for node_id in [id_ for id_, node in self._nodes.items() if node.heard_at + LEASE <= now]:
            self.forget(node_id)

    def pairs(
        self,
        is_member: Callable[[str], bool],
        is_online: Callable[[str], bool],
        after: tuple[str, str] = ("", ""),
        of: str | None = None,
    ) -> Iterator[Pair]:
        """In the order of (a, b), those behind `after`; with `of`, those of that node alone."""
        firsts = self._partners if of is None else {of, *self._partners.get(of, ())}
        for a in sorted(id_ for id_ in firsts if id_ >= after[0] and is_member(id_)):
            behind = max(a, after[1]) if a == after[0] else a
            partners = self._partners.get(a, set())
            wanted = partners if of in (None, a) else partners & {of}
            for b in sorted(id_ for id_ in wanted if id_ > behind and is_member(id_)):
                yield self._pair(a, b, is_online)

    def _pair(self, a: str, b: str, is_online: Callable[[str], bool]) -> Pair:
        found = []
        for one, other in ((a, b), (b, a)):
            node = self._nodes.get(one)
            end = None if node is None else node.ends.get(other)
            if end is not None:
                found.append((one, end, not is_online(one)))
        return Pair(a, b, tuple(found))


def report_interval(nodes: int, *, is_watched: bool) -> int:
    """Seconds between the reports of each of so many nodes."""
    if not is_watched:
        return REPORT_INTERVAL
    return int(min(max(WATCHED_INTERVAL, nodes / CHECKINS_A_SECOND), REPORT_INTERVAL))
