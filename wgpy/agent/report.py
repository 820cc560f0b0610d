"""What `wgpy status` says: every peer, how it is reached, and the reason in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Self

from wgpy.agent.dns.outward import RestReport
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.frames import Presence
from wgpy.mesh.paths import CandidateReport, PathKind, PathReport
from wgpy.protocol.interface import PeerStatus

SESSION_AGE: Final = 180.0
"""Seconds after the last handshake at which a session is over (REJECT_AFTER_TIME)."""
RELAY_WORD: Final = "relay "
"""In the place of an endpoint: how a relay is called, before its name."""
UNANSWERED_TIME: Final = 15.0
"""Seconds without an answer to data sent, after which WireGuard shakes hands anew."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The age of the last handshake (None: there was none), and for how long data has been sent without any
    answer; seconds.
    """

    handshake_age: float | None
    unanswered: float = 0.0

    @property
    def is_alive(self) -> bool:
        """There is a session, and nothing speaks against it."""
        has_session = self.handshake_age is not None and self.handshake_age < SESSION_AGE
        return has_session and self.unanswered < UNANSWERED_TIME


@dataclass(frozen=True, slots=True)
class TriedEndpoint:
    """A candidate of a peer: its kind of path, what became of it in words, its round trip, and its MTU where
    that was found to be less than the interface's.
    """

    endpoint: str
    path: str
    state: str
    rtt_ms: float | None
    mtu: int | None = None

    @classmethod
    def of(cls, candidate: CandidateReport) -> Self:
        rtt = None if candidate.rtt is None else round(candidate.rtt * 1000, 2)
        return cls(str(candidate.endpoint), candidate.kind.word, candidate.state, rtt, candidate.mtu)


@dataclass(frozen=True, slots=True)
class PeerReport:
    """One peer. `path` is "lan", "direct", "relayed" or "none", `latest_handshake` Unix seconds or None,
    `rtt_ms` as the path in use or the last handshake showed it, None: none did yet.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
    public_key: str
    path: str
    reason: str
    endpoint: str | None
    latest_handshake: int | None
    rx_bytes: int
    tx_bytes: int
    online: bool | None
    refused: tuple[str, ...] = ()
    rtt_ms: float | None = None
    tried: tuple[TriedEndpoint, ...] = ()
    """Its candidates, the one in use first."""
    next_try: int | None = None
    """Seconds until they are tried again; None: when something changes."""
    ranges: tuple[str, ...] = ()
    """What is routed to it beside its own addresses."""
    mtu: int | None = None
    """Octets of the longest packet that the path takes, where that is less than the interface's."""

    @property
    def is_reachable(self) -> bool:
        return self.path != "none"


@dataclass(frozen=True, slots=True)
class CoordinatorReport:
    """`state`: connecting, connected, polling, unreachable, refused. `reason` in words; "" while all is
    well.
    """

    state: str
    url: str
    reason: str
    since: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class NamesReport:
    """How names are on this host. `resolver` is what was told of ours, "" while none was."""

    is_on: bool = False
    suffix: str = ""
    resolver: str = ""
    problem: str = ""
    rest: RestReport = field(default_factory=RestReport)
    """Who answers for the rest of the world, and by which way."""


@dataclass(frozen=True, slots=True)
class RelayReport:
    """One relay as this node sees it. `state`: up, connecting, refused or not used; `reason` why not up."""

    name: str
    state: str
    reason: str
    endpoint: str | None
    rtt_ms: float | None
    draining: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One network as this host sees it."""

    name: str
    interface: str
    node: str
    addresses: tuple[str, ...]
    public_key: str
    listen_port: int
    coordinator: CoordinatorReport
    revision: int | None
    peers: tuple[PeerReport, ...]
    relays: tuple[RelayReport, ...] = ()
    problems: tuple[str, ...] = field(default=())
    """What of the map this node does not follow, or the host refused."""
    names: NamesReport = NamesReport()
    forwards: tuple[str, ...] = ()
    """The ranges that this node forwards for others."""
    exit_node: str = ""
    """By which node all else leaves; "" for none."""

    def to_json(self) -> JsonObject:
        return asdict(self)

    @property
    def reachable(self) -> int:
        return sum(peer.is_reachable for peer in self.peers)


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What is known of one peer when a report is made."""

    id: str
    name: str
    addresses: tuple[str, ...]
    public_key: str
    status: PeerStatus | None
    presence: Presence | None
    is_alive: bool
    unanswered: float
    paths: PathReport | None = None
    refused: Sequence[str] = ()
    ranges: tuple[str, ...] = ()


def describe_peer(facts: PeerFacts, coordinator_is_up: bool, wall_clock: float) -> PeerReport:
    """Decide the path, and say why. `wall_clock` is Unix time in seconds."""
    status = facts.status
    shaken_at = status.last_handshake_ns // 10**9 if status is not None and status.last_handshake_ns else None
    age = None if shaken_at is None else max(0, int(wall_clock) - shaken_at)
    endpoint = None if status is None or status.endpoint is None else str(status.endpoint)
    works, paths = facts.is_alive, facts.paths
    path, reason, mtu = "none", "", None
    if not works:
        reason = _why_not(facts, endpoint, age, coordinator_is_up)
    elif paths is not None and str(paths.endpoint) == endpoint:
        path, reason = paths.kind.word, paths.reason
        if paths.kind is PathKind.RELAYED:
            reason += _why_not_direct(paths)
        mtu = paths.mtu
        if mtu is not None:
            reason += f"; MTU {mtu}, for longer packets are lost there"
    else:
        path, reason = "direct", f"last handshake {describe_age(age)} ago"
    rtt = None if status is None else status.rtt
    if paths is not None and paths.is_proven:
        rtt = paths.rtt
    return PeerReport(
        id=facts.id,
        name=facts.name,
        addresses=facts.addresses,
        public_key=facts.public_key,
        path=path,
        reason=reason,
        endpoint=endpoint,
        latest_handshake=shaken_at,
        rx_bytes=0 if status is None else status.rx_bytes,
        tx_bytes=0 if status is None else status.tx_bytes,
        online=facts.presence.online if facts.presence is not None and coordinator_is_up else None,
        refused=tuple(facts.refused),
        ranges=facts.ranges,
        rtt_ms=None if rtt is None else round(rtt * 1000, 2),
        tried=() if paths is None else tuple(map(TriedEndpoint.of, paths.candidates)),
        next_try=None if paths is None or paths.next_try is None else round(paths.next_try),
        mtu=mtu,
    )


def _why_not_direct(paths: PathReport) -> str:
    own = sum(candidate.kind is not PathKind.RELAYED for candidate in paths.candidates)
    if not own:
        return "; no endpoint of its own is known"
    return "; its own endpoint does not answer" if own == 1 else f"; none of its {own} own endpoints answers"


def _why_not(facts: PeerFacts, endpoint: str | None, age: int | None, coordinator_is_up: bool) -> str:
    if not facts.addresses:
        return "none of its addresses is one that this node follows"
    presence = facts.presence
    offline = coordinator_is_up and presence is not None and not presence.online
    if endpoint is None:
        if not coordinator_is_up:
            return "no endpoint known, and the coordinator cannot be asked"
        return "offline: the coordinator does not hear from it" if offline else "no endpoint known yet"
    silence = "no handshake yet" if age is None else f"last handshake {describe_age(age)} ago"
    if offline:
        return f"offline: the coordinator does not hear from it ({silence})"
    many = 1 if facts.paths is None else len(facts.paths.candidates)
    where = f"no answer from {endpoint}" if many == 1 else f"no answer from any of its {many} endpoints"
    is_idle = facts.status is not None and not facts.status.persistent_keepalive and not facts.unanswered
    if is_idle:
        return f"idle: {silence}; the next packet makes one with {endpoint}"
    if age is None and facts.paths is not None and facts.paths.attempts <= 1:
        return f"connecting: handshakes are under way to {'it' if many == 1 else f'its {many} endpoints'}"
    if facts.unanswered:
        where += f" for {describe_age(int(facts.unanswered))}"
    return f"{where}; {silence}; is UDP blocked in between?"


def describe_age(seconds: int | None) -> str:
    """`9 s`, `3 min`, `5 h`, `2 d`."""
    if seconds is None:
        return "never"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86400} d"


def summary(peers: Mapping[str, PeerReport] | Sequence[PeerReport]) -> str:
    """`3 peers, 2 reachable`."""
    listed = list(peers.values()) if isinstance(peers, Mapping) else list(peers)
    count = len(listed)
    return f"{count} peer{'' if count == 1 else 's'}, {sum(peer.is_reachable for peer in listed)} reachable"


def with_relay_names(peers: Iterable[PeerReport], shown: Callable[[str], str]) -> tuple[PeerReport, ...]:
    """By name; `shown` puts relays' names in the place of their ids."""
    named = (
        replace(
            peer,
            reason=shown(peer.reason),
            endpoint=None if peer.endpoint is None else shown(peer.endpoint),
            tried=tuple(replace(tried, endpoint=shown(tried.endpoint)) for tried in peer.tried),
        )
        for peer in peers
    )
    return tuple(sorted(named, key=lambda peer: peer.name))
