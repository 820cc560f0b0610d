"""Two path machines and a net between them that breaks: a LAN, NATs that forget, one-way cuts, a relay.

The handshake and the session are only as real as the machines need them: who hears an initiation has a
session, who hears its answer too, and what is sealed arrives or does not. Time is a number.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh.paths import (
    Initiate,
    PathKind,
    PathMachine,
    Rediscover,
    SendControl,
    SendCopy,
    UsePath,
    kind_of,
)

DELAYS: Final = {PathKind.LAN: 0.001, PathKind.DIRECT: 0.02, PathKind.RELAYED: 0.06}
"""Seconds one way."""
MAPPING_TIME: Final = 60.0
"""Seconds for which a NAT lets answers in."""
TOLD_AFTER: Final = 0.3
"""Seconds until the coordinator has told of a change."""
DATA_INTERVAL: Final = 0.1
REKEY_TIMEOUT: Final = 5.0
RELAYS: Final = (Endpoint.parse("[fd57:4750:7900::1]:1"), Endpoint.parse("[fd57:4750:7900::2]:1"))
"""By which each end names the other behind the relay."""


@dataclass
class End:
    """One node: `name` is 0 or 1."""

    name: int
    machine: PathMachine
    lan: Endpoint
    public: Endpoint
    has_lan: bool
    opened: dict[Endpoint, float] = field(default_factory=dict)
    """Where its NAT lets answers in from, and since when."""
    current: Endpoint | None = None
    also: tuple[Endpoint, ...] = ()
    has_session: bool = False
    unanswered_since: float | None = None
    reported: Endpoint | None = None
    """Where the engine said last that the other is heard from."""
    initiated_at: float = -100.0
    answered: bytes = b""
    heard_at: list[float] = field(default_factory=list)
    """When data of the other came."""
    asked: int = 0
    """PINGs, PONGs and copies sent."""


class PathWeather:
    """`same_lan`: both are in one. Everything works at the start."""

    def __init__(self, *, same_lan: bool, has_relay: bool = True) -> None:
        self.now = 0.0
        self.same_lan, self.has_relay = same_lan, has_relay
        self.lan_is_up = [True, True]
        self.direct_is_up = [True, True]
        self.relay_is_up = has_relay
        self.coordinator_is_up = True
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count(1)
        self._ports = itertools.count(40000)
        self.ends = [self._end(0), self._end(1)]
        for end in self.ends:
            self._tell(end)
            self.at(0.0, lambda end=end: self._send_data(end))  # type: ignore[misc]
            self.at(0.0, lambda end=end: self._observe(end))  # type: ignore[misc]

    def _end(self, name: int) -> End:
        machine = PathMachine(lambda: next(self._count).to_bytes(8, "big"))
        machine.set_mtu(1380, self.now)
        lan = Endpoint.parse(f"192.168.1.{11 + name}:4000")
        return End(name, machine, lan, Endpoint.parse(f"203.0.113.{name + 1}:4000"), self.same_lan)

    def other(self, end: End) -> End:
        return self.ends[1 - end.name]

    # --- what may happen ----------------------------------------------------------------------------------

    def rebind(self, name: int) -> None:
        """A router forgets its mappings, and gives another port."""
        end = self.ends[name]
        end.opened.clear()
        end.public = Endpoint(end.public.address, next(self._ports))
        self._tell_later(end)

    def move(self, name: int) -> None:
        """Another address, as the node notices itself."""
        end = self.ends[name]
        end.opened.clear()
        end.public = Endpoint(end.public.address + 4, next(self._ports))
        end.machine.network_changed(self.now)
        self._perform(end)
        self._tell_later(end)

    def mend(self) -> None:
        """All that was broken works again."""
        self.lan_is_up, self.direct_is_up = [True, True], [True, True]
        self.relay_is_up, self.coordinator_is_up = self.has_relay, True
        for end in self.ends:
            self._tell_later(end)

    def _tell_later(self, end: End) -> None:
        self.at(self.now + TOLD_AFTER, lambda: self._tell(end))

    def _tell(self, end: End) -> None:
        """The other of where this one is."""
        if not self.coordinator_is_up:
            return
        other = self.other(end)
        told = [(end.public, PathKind.DIRECT), (end.lan, PathKind.LAN)]
        if self.has_relay:
            told.append((RELAYS[other.name], PathKind.RELAYED))
        other.machine.set_candidates("peer", told, self.now)
        self._perform(other)

    # --- time ---------------------------------------------------------------------------------------------

    def at(self, instant: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (instant, next(self._count), what))

    def run(self, seconds: float) -> None:
        end_at = self.now + seconds
        while True:
            deadlines = [(d, end) for end in self.ends if (d := end.machine.next_deadline()) is not None]
            deadline = min((d for d, _ in deadlines), default=end_at + 1)
            queued = self._queue[0][0] if self._queue else end_at + 1
            if min(deadline, queued) > end_at:
                break
            self.now = max(self.now, min(deadline, queued))
            if queued <= deadline:
                heapq.heappop(self._queue)[2]()
            else:
                for end in self.ends:
                    end.machine.handle_timeout(self.now)
                    self._perform(end)
        self.now = end_at

    def _observe(self, end: End) -> None:
        since = end.unanswered_since
        end.machine.observe("peer", 0.0 if since is None else self.now - since, end.has_session, self.now)
        self._perform(end)
        self.at(self.now + 0.5, lambda: self._observe(end))

    def _send_data(self, end: End) -> None:
        self.at(self.now + DATA_INTERVAL, lambda: self._send_data(end))
        if not end.has_session:
            self._initiate(end)
            return
        if end.unanswered_since is None:
            end.unanswered_since = self.now
        elif self.now - end.unanswered_since > 15.0:
            self._initiate(end)  # WireGuard shakes hands anew
        for endpoint in (end.current, *end.also):
            if endpoint is not None:
                self._send(end, endpoint, lambda source: self._hear_data(self.other(end), source))

    def _hear_data(self, end: End, source: Endpoint) -> None:
        if end.has_session:
            end.heard_at.append(self.now)
            self._heard(end, source)

    # --- the net ------------------------------------------------------------------------------------------

    def _send(self, end: End, to: Endpoint, arrive: Callable[[Endpoint], None]) -> None:
        """`arrive` is called with the source as the other sees it, if it arrives."""
        other = self.other(end)
        if to in RELAYS:
            if self.relay_is_up:
                self.at(self.now + DELAYS[PathKind.RELAYED], lambda: arrive(RELAYS[other.name]))
        elif kind_of(to) is PathKind.LAN:
            if self.same_lan and to == other.lan and self.lan_is_up[end.name]:
                self.at(self.now + DELAYS[PathKind.LAN], lambda: arrive(end.lan))
        else:
            end.opened[to] = self.now
            source = end.public
            is_open = self.now - other.opened.get(source, -1000.0) < MAPPING_TIME
            if to == other.public and self.direct_is_up[end.name] and is_open:
                self.at(self.now + DELAYS[PathKind.DIRECT], lambda: arrive(source))

    # --- what the machines do -----------------------------------------------------------------------------

    def _perform(self, end: End) -> None:
        while end.machine.actions:
            action = end.machine.actions.pop(0)
            match action:
                case UsePath(_, endpoint, also):
                    end.current, end.also = endpoint, also
                case Initiate():
                    self._initiate(end)
                case SendCopy(_, to, data):
                    end.asked += 1
                    self._send_initiation(end, to, data)
                case SendControl(_, to, data):
                    end.asked += 1
                    if end.has_session:
                        self._send(
                            end,
                            to,
                            lambda source, data=data: self._hear_control(self.other(end), source, data),
                        )  # type: ignore[misc]
                case Rediscover():
                    self._tell_later(end)

    def _initiate(self, end: End) -> None:
        if end.current is None or self.now - end.initiated_at < REKEY_TIMEOUT:
            return
        end.initiated_at = self.now
        data = next(self._count).to_bytes(8, "big")
        self._send_initiation(end, end.current, data)
        end.machine.initiation_sent("peer", data, self.now)
        self._perform(end)

    def _send_initiation(self, end: End, to: Endpoint, data: bytes) -> None:
        self._send(end, to, lambda source: self._hear_initiation(self.other(end), source, data))

    def _hear_initiation(self, end: End, source: Endpoint, data: bytes) -> None:
        if data != end.answered:
            end.answered = data
            self._heard(end, source)
            self._begin_session(end)
        self._send(end, source, lambda back: self._hear_response(self.other(end), back))

    def _hear_response(self, end: End, source: Endpoint) -> None:
        self._heard(end, source)
        self._begin_session(end)

    def _begin_session(self, end: End) -> None:
        end.has_session = True
        end.machine.session_begun("peer", self.now)
        self._perform(end)

    def _hear_control(self, end: End, source: Endpoint, data: bytes) -> None:
        if not end.has_session:
            return
        self._heard(end, source)
        end.machine.handle_control("peer", source, data, self.now)
        self._perform(end)

    def _heard(self, end: End, source: Endpoint) -> None:
        end.unanswered_since = None
        if source not in (end.reported, end.current, *end.also):
            end.reported = source
            kind = PathKind.RELAYED if source in RELAYS else None
            end.machine.heard_from("peer", source, self.now, kind)
            self._perform(end)

    # --- what came of it ----------------------------------------------------------------------------------

    def kinds(self) -> list[PathKind | None]:
        """Of the path that each end sends by."""
        reports = [end.machine.report("peer", self.now) for end in self.ends]
        return [None if report is None else report.kind for report in reports]

    def longest_gap(self, since: float) -> float:
        """Seconds without data of the other, the worse of the two, from then until now."""
        gaps = []
        for end in self.ends:
            heard = [since, *(at for at in end.heard_at if at >= since), self.now]
            gaps.append(max(b - a for a, b in itertools.pairwise(heard)))
        return max(gaps)
