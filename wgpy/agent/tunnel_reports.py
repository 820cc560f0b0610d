"""What this node tells the coordinator of its tunnels, and when: differences, a few at a time. Pure.

Nothing is told twice: an entry counts as told once the check-in that carried it was answered.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.agent.report import RELAY_WORD, PeerReport, TriedEndpoint
from wgpy.mesh.relay import relay_number
from wgpy.mesh.tunnels import (
    MAX_REASON,
    MAX_TRIED,
    MAX_TRIED_TEXT,
    REPORT_INTERVAL,
    ReportTerms,
    Tunnel,
    TunnelReport,
)

MAX_REPORTED: Final = 256
"""Peers of which the coordinator keeps something; of more, those with the most traffic."""
BATCH: Final = 50
"""Peers in one report."""
PACE: Final = 1.0
"""Seconds between two reports of one lot."""
FIRST_REPORT: Final = 3.0
"""Seconds after the start, for handshakes to be over."""
NEWS_DELAY: Final = 2.0
"""Seconds at least before a tunnel that came up or went down is told."""
SPREAD: Final = 0.02
"""Seconds a peer, over which the nodes of a large network spread what they all tell at once."""
TRAFFIC: Final = 1000
"""Octets that are worth a word; keepalives alone are not."""


@dataclass(frozen=True, slots=True)
class _Told:
    tunnel: Tunnel
    at: float


@dataclass(slots=True)
class TunnelReporter:
    """Instants are seconds of the caller's clock."""

    random_float: Callable[[], float] = random.random
    every: float | None = float(REPORT_INTERVAL)
    """Seconds between reports; None: the coordinator wants none."""
    _due_at: float | None = None
    _peers: int = 0
    _told: dict[str, _Told] = field(default_factory=dict)
    _perhaps_told: set[str] = field(default_factory=set)
    """In reports that were not answered: the coordinator may have them all the same."""
    _is_begun: bool = False
    _under_way: tuple[bool, dict[str, _Told]] | None = None

    def wait(self, now: float) -> float:
        """Seconds until a report is due; 0: now."""
        if self.every is None:
            return float(REPORT_INTERVAL)
        if self._due_at is None:
            self._due_at = now + FIRST_REPORT * (1 + self.random_float())
        return max(0.0, self._due_at - now)

    def note_news(self, now: float) -> bool:
        """A tunnel came up or went down → whether that makes a report due earlier than `wait` said."""
        return self._hasten(now + NEWS_DELAY + self.random_float() * self._peers * SPREAD, now)

    def _hasten(self, due_at: float, now: float) -> bool:
        if self.every is None or self.wait(now) <= due_at - now:
            return False
        self._due_at = due_at
        return True

    def make_report(self, tunnels: Mapping[str, Tunnel], now: float) -> TunnelReport | None:
        """The next report, of the peers as they are now; None when none is due."""
        if self.wait(now) > 0 or self.every is None:
            return None
        self._peers = len(tunnels)
        kept = tunnels if len(tunnels) <= MAX_REPORTED else self._choose(tunnels)
        if self._under_way is not None:
            self._perhaps_told |= self._under_way[1].keys()
        begin = not self._is_begun or not (self._told.keys() | self._perhaps_told) <= kept.keys()
        told = {} if begin else self._told
        news = [id_ for id_, tunnel in kept.items() if _is_news(told.get(id_), tunnel, now)]
        # What was told longest ago comes first: where all is news all the time, everybody has a turn.
        news.sort(key=lambda id_: told[id_].at if id_ in told else float("-inf"))
        chosen = news[:BATCH]
        self._under_way = begin, {id_: _Told(kept[id_], now) for id_ in chosen}
        is_more = len(news) > len(chosen)
        self._due_at = now + (PACE if is_more else self.every * (0.9 + 0.2 * self.random_float()))
        return TunnelReport(begin, {id_: kept[id_] for id_ in chosen})

    def _choose(self, tunnels: Mapping[str, Tunnel]) -> dict[str, Tunnel]:
        """Those told before, so that the choice is steady, and of the others those with the most traffic."""
        chosen = {id_: tunnels[id_] for id_ in self._told if id_ in tunnels}
        others = [(tunnel.rx_bytes + tunnel.tx_bytes, id_) for id_, tunnel in tunnels.items()]
        for _, id_ in nlargest(MAX_REPORTED, others):
            if len(chosen) < MAX_REPORTED:
                chosen.setdefault(id_, tunnels[id_])
        return chosen

    def handle_terms(self, terms: ReportTerms | None, now: float) -> bool:
        """A check-in was answered → whether a report is now due earlier."""
        begin, sent = self._under_way or (False, {})
        self._under_way = None
        if terms is None:
            self.every = None
            return False
        if begin:
            self._told.clear()
            self._perhaps_told.clear()
        self._told.update(sent)
        self._is_begun = terms.known
        sooner = self.handle_interval(terms.every, now)
        return (not terms.known and self._hasten(now + PACE, now)) or sooner

    def handle_interval(self, every: float, now: float) -> bool:
        """The coordinator wants to hear that often → whether a report is now due earlier."""
        before, self.every = self.every, every
        if before is not None and every >= before:
            return False
        return self._hasten(now + self.random_float() * min(every, self._peers * SPREAD), now)


_FIGURES: Final = re.compile(r"\d+")


def _is_news(told: _Told | None, tunnel: Tunnel, now: float) -> bool:
    """Whether it is worth a word. Ages grow by themselves and in a reason's text: they are no news."""
    if told is None:
        return True
    before = told.tunnel
    if (before.path, before.endpoint) != (tunnel.path, tunnel.endpoint):
        return True
    if _words(before) != _words(tunnel):
        return True
    if max(tunnel.rx_bytes - before.rx_bytes, tunnel.tx_bytes - before.tx_bytes) >= TRAFFIC:
        return True
    if before.handshake_age is None or tunnel.handshake_age is None:
        return before.handshake_age is not tunnel.handshake_age
    return tunnel.handshake_age + 2 < before.handshake_age + (now - told.at)


def _words(tunnel: Tunnel) -> list[str]:
    return [_FIGURES.sub("", text) for text in (tunnel.reason, *tunnel.tried)]


def tunnels_of(peers: Iterable[PeerReport], wall_clock: float) -> dict[str, Tunnel]:
    """By node id; relays are called by their names. `wall_clock` is Unix time in seconds: what left this host
    is ages alone.
    """
    return {peer.id: _tunnel(peer, wall_clock) for peer in peers}


def _tunnel(peer: PeerReport, wall_clock: float) -> Tunnel:
    shaken_at = peer.latest_handshake
    needs_words = peer.path in ("relayed", "none")
    tried = [_ascii(_describe(each), MAX_TRIED_TEXT) for each in peer.tried[:MAX_TRIED]]
    return Tunnel(
        path=peer.path,
        reason=_ascii(peer.reason, MAX_REASON) if needs_words else "",
        endpoint=_endpoint(peer.endpoint),
        handshake_age=None if shaken_at is None else max(0, int(wall_clock) - shaken_at),
        rtt_us=None if peer.rtt_ms is None else min(int(peer.rtt_ms * 1000), 60_000_000),
        rx_bytes=peer.rx_bytes,
        tx_bytes=peer.tx_bytes,
        tried=tuple(tried) if needs_words else (),
        next_try=peer.next_try if needs_words and tried else None,
    )


def _describe(tried: TriedEndpoint) -> str:
    kind = "" if tried.endpoint.startswith(RELAY_WORD) else f"{tried.path} "
    return f"{kind}{tried.endpoint}: {tried.state}"


def _ascii(text: str, limit: int) -> str:
    text = text.encode("ascii", "replace").decode()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _endpoint(text: str | None) -> Endpoint | None:
    """Where others reach the peer; None: behind a relay."""
    if text is None or text.startswith(RELAY_WORD):
        return None
    endpoint = Endpoint.parse(text)
    return None if relay_number(endpoint) is not None else endpoint
