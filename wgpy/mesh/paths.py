"""Which path to a peer is used, and why: the path machine of one node. Pure (docs/paths.md).

A path is a peer's candidate endpoint. Until there is a session, the bytes of each initiation go to all
candidates together, again and again for two seconds, so that the NATs of both ends open. Inside a session a
candidate is proven by one's own PING coming back as a PONG from that very endpoint, and the best proven one
is used: LAN before direct before relayed, the faster before the slower. Each end chooses its sending path
alone.

Where a peer is only heard from, at an address that nobody told us, it is sent nothing unasked: its name may
be another's. It gets the PONG for its own PING, which asks for one in return, and both are smaller than what
it sent.

While a relay carries us, each end tells the other there where it may be found (WHERE), and who is told so
sends one PING to each place: two that moved find each other with nobody between them but a relay.

The machine is told things, and leaves `actions` to be carried out. Instants are seconds of one clock that
never goes back. Peers are named by their node ids; what is never added is never sent anything.

Over 600 lines because all rules change the same few fields of a peer, and each is understood by the others.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh import path_mtu
from wgpy.mesh.bucket import Bucket
from wgpy.mesh.path_mtu import PathSize
from wgpy.mesh.probe import Probe, encode_ping, encode_pong, parse_probe_untrusted
from wgpy.mesh.relay import relay_number
from wgpy.mesh.whereabouts import MAX_WHERE, encode_where, parse_where_untrusted

PING_TIMES: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Seconds after the beginning of a round at which a candidate that has not answered yet is tried."""
COPY_TIMES: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds after an initiation at which its bytes go out again."""
LATE_COPY_TIMES: Final = (1.0,)
"""The same once `EAGER_INITIATIONS` found no answer."""
EAGER_INITIATIONS: Final = 6
INITIATION_AGE: Final = 5.0
"""Seconds after which WireGuard makes another (REKEY_TIMEOUT)."""
ROUND_INTERVAL: Final = 60.0
"""Seconds between two rounds of a session in which nothing happens."""
SUSPECT_ROUND_INTERVAL: Final = 5.0
"""The same while data goes unanswered."""
SUSPECT_TIME: Final = 1.0
"""Seconds of data sent and nothing back, after which the path is looked at."""
DOUBLE_TIME: Final = 2.0
"""The same, after which data goes by other paths too."""
LOST_PINGS: Final = 3
"""Unanswered PINGs after which a path does not work."""
DOUBT_INTERVAL: Final = 1.0
"""Seconds between two rounds because the peer says that it gets no answers."""
TELL_INTERVAL: Final = 1.0
"""Seconds between two times that a peer is told where we are because it told us."""
FRESH: Final = 1.0
"""Seconds for which an answer makes another PING needless."""
MAX_CANDIDATES: Final = 20
"""Of one peer, those told and those heard from."""
RECENT: Final = 600.0
"""Seconds for which an answer speaks for a path that is to carry doubles."""
PACKETS_A_SECOND: Final = 20.0
"""Unasked-for packets to all peers together, on average; up to `PACKETS_AT_ONCE` together."""
PACKETS_AT_ONCE: Final = 256
RESERVED: Final = 64
"""Of these, what the search for sizes leaves to all else."""
ANSWERS_A_SECOND: Final = 200.0
"""PONGs to all peers together."""

_LAN: Final = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
)


class PathKind(enum.IntEnum):
    """From the best to the last resort."""

    LAN = 0
    DIRECT = 1
    RELAYED = 2

    @property
    def word(self) -> str:
        """As in `wgpy status` and in reports."""
        return self.name.lower()


def kind_of(endpoint: Endpoint) -> PathKind:
    """LAN for addresses that are not routed on the internet."""
    if relay_number(endpoint) is not None:
        return PathKind.RELAYED
    is_private = any(endpoint.address in network for network in _LAN)
    return PathKind.LAN if is_private else PathKind.DIRECT


# --- actions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendControl:
    """Seal `data` for the peer and send it to that endpoint."""

    peer: str
    to: Endpoint
    data: bytes


@dataclass(frozen=True, slots=True)
class SendCopy:
    """Send these bytes, an initiation that went to the peer already, to that endpoint too."""

    peer: str
    to: Endpoint
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UsePath:
    """Send to the peer there, and by each of `also` too."""

    peer: str
    endpoint: Endpoint
    also: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class SetPathMtu:
    """Packets of more octets do not come through by the path in use. None: all do that the device lets
    pass.
    """

    peer: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class Initiate:
    """Shake hands with the peer, if that may be done now."""

    peer: str


@dataclass(frozen=True, slots=True)
class Rediscover:
    """Find out anew where we are seen from outside, and tell the coordinator if that changed."""


Action = SendControl | SendCopy | UsePath | SetPathMtu | Initiate | Rediscover


# --- what it looks like -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """One candidate of a peer. `state` in words, `rtt` in seconds, None: it never answered. `mtu`: octets of
    the longest packet that came through when it was used, None: nothing was too long.
    """

    endpoint: Endpoint
    kind: PathKind
    is_used: bool
    state: str
    rtt: float | None
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class PathReport:
    """The path in use; `is_proven`: it answers. `reason` says why this one, `next_try` in how many seconds
    others are looked at again (None: when something changes). `mtu`: octets of the longest packet that comes
    through, None: nothing is too long.
    """

    kind: PathKind
    endpoint: Endpoint
    is_proven: bool
    reason: str
    rtt: float | None
    attempts: int
    """Handshakes begun since one was completed."""
    next_try: float | None
    candidates: tuple[CandidateReport, ...]
    mtu: int | None = None


# --- state ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Candidate:
    endpoint: Endpoint
    kind: PathKind
    is_told: bool = True
    """The coordinator's word; else it was heard from there."""
    next_at: float | None = None
    tries: int = 0
    """PINGs since the last PONG, or since the round began."""
    rtt: float | None = None
    answered_at: float | None = None
    tried_at: float | None = None
    is_leaving: bool = False
    """It will not be there much longer."""
    size: PathSize = field(default_factory=PathSize)

    def is_fresh(self, now: float) -> bool:
        """It answered a moment ago."""
        return self.answered_at is not None and now - self.answered_at < FRESH

    def begin(self, now: float) -> None:
        self.tries, self.next_at = 0, now

    def describe(self, now: float, has_session: bool) -> str:
        if self.answered_at is not None and self.tries < LOST_PINGS:
            return f"answered {max(0, round(now - self.answered_at))} s ago"
        if self.tried_at is None:
            return "not tried yet" if has_session else "handshakes are tried there"
        if self.next_at is not None:
            return "being tried"
        return f"no answer {max(0, round(now - self.tried_at))} s ago"


@dataclass(slots=True)
class _Peer:
    id: str
    candidates: dict[Endpoint, _Candidate] = field(default_factory=dict)
    current: Endpoint | None = None
    reason: str = ""
    also: tuple[Endpoint, ...] = ()
    mtu: int | None = None
    """As it was set last."""
    has_session: bool = False
    is_offline: bool = False
    is_quiet: bool = False
    """Nothing is sent to it unless there is data to send."""
    suspect_at: float | None = None
    doubt_after: float = 0.0
    is_doubted: bool = False
    """Perhaps the path in use is dead one way, and it did not answer since that was thought."""
    unanswered: float = 0.0
    told_at: float | None = None
    """When it was told where we are."""
    round_at: float | None = None
    next_round: float | None = None
    initiation: bytes | None = field(default=None, repr=False)
    initiated_at: float = 0.0
    initiations: int = 0
    """Since one was answered."""
    copies: int = 0
    copies_since: float = 0.0
    copy_at: float | None = None

    def trusts(self, candidate: _Candidate) -> bool:
        """Whether it may be sent something unasked: it was told, or answered, or has an address of one that
        was told.
        """
        return (
            candidate.is_told
            or candidate.answered_at is not None
            or candidate.kind is PathKind.RELAYED
            or any(
                other.is_told and other.endpoint.address == candidate.endpoint.address
                for other in self.candidates.values()
            )
        )

    @property
    def trusted(self) -> list[_Candidate]:
        return [candidate for candidate in self.candidates.values() if self.trusts(candidate)]

    @property
    def used(self) -> _Candidate | None:
        return None if self.current is None else self.candidates.get(self.current)


class PathMachine:
    """`random_id` makes the ids of PINGs: 8 octets. `may_try` has the last word on places that a peer
    names.
    """

    def __init__(
        self, random_id: Callable[[], bytes], may_try: Callable[[Endpoint], bool] = lambda _: True
    ) -> None:
        self.actions: list[Action] = []
        """What is to be done, in this order; whoever does it takes it away."""
        self._random_id = random_id
        self._may_try = may_try
        self._own: tuple[Endpoint, ...] = ()
        self._seen_by: dict[int, Endpoint] = {}
        self._mtu: int | None = None
        self._peers: dict[str, _Peer] = {}
        self._waiting: dict[bytes, tuple[str, Endpoint, float]] = {}
        self._waiting_sizes: dict[bytes, tuple[str, Endpoint, float, int]] = {}
        self._asked = Bucket(PACKETS_AT_ONCE, 0.0)
        self._answers = Bucket(ANSWERS_A_SECOND, 0.0)

    def _may_ask(self, now: float) -> bool:
        return not self._asked.take(PACKETS_A_SECOND, PACKETS_AT_ONCE, now)

    # --- who there is -------------------------------------------------------------------------------------

    def keep_only(self, peers: Iterable[str]) -> None:
        """Forget all others."""
        for gone in self._peers.keys() - set(peers):
            del self._peers[gone]

    def forget(self, peer_id: str) -> None:
        """Of this peer nothing is known any more."""
        self._peers.pop(peer_id, None)

    def set_candidates(
        self,
        peer_id: str,
        told: Iterable[tuple[Endpoint, PathKind]],
        now: float,
        *,
        is_offline: bool = False,
        leaving: Iterable[Endpoint] = (),
    ) -> None:
        """Where the coordinator says that a peer is, the likeliest first. `is_offline`: it does not hear from
        it. `leaving`: of relays that are about to stop, and are left while they still carry packets.

        What proved itself stays a candidate, whatever is said.
        """
        peer = self._peers.setdefault(peer_id, _Peer(peer_id))
        came_online = peer.is_offline and not is_offline
        peer.is_offline = is_offline
        wanted = dict(list(dict(told).items())[:MAX_CANDIDATES])
        known = {endpoint for endpoint, candidate in peer.candidates.items() if candidate.is_told}
        for endpoint, candidate in list(peer.candidates.items()):
            candidate.is_told = endpoint in wanted
            if not candidate.is_told and endpoint != peer.current and candidate.answered_at is None:
                del peer.candidates[endpoint]
        new = [endpoint for endpoint in wanted if endpoint not in peer.candidates]
        for endpoint in new:
            peer.candidates[endpoint] = _Candidate(endpoint, wanted[endpoint])
        stopping = set(leaving)
        is_to_move = any(
            candidate.endpoint in stopping and not candidate.is_leaving and candidate.endpoint == peer.current
            for candidate in peer.candidates.values()
        )
        for candidate in peer.candidates.values():
            candidate.is_leaving = candidate.endpoint in stopping
        self._bound(peer)
        if not peer.has_session:
            self._look_for(peer, new if not came_online else list(peer.candidates), now)
        elif (wanted.keys() - known and not peer.is_quiet) or is_to_move:
            self._begin_round(peer, now, peer.candidates.values())

    def set_quiet(self, peer_id: str, is_quiet: bool, now: float) -> None:
        """With thousands of peers, those without data for a while are left in peace: no PINGs, and no
        handshake that nobody needs.
        """
        peer = self._peers.setdefault(peer_id, _Peer(peer_id))
        was_quiet, peer.is_quiet = peer.is_quiet, is_quiet
        if was_quiet and not is_quiet:
            if peer.has_session:
                self._begin_round(peer, now, peer.candidates.values())
            elif peer.current is not None and not peer.is_offline:
                self.actions.append(Initiate(peer.id))

    def _look_for(self, peer: _Peer, new: list[Endpoint], now: float) -> None:
        """There is no session: begin where nothing was known, else add what is new."""
        used = peer.used
        if peer.candidates and (used is None or not used.is_told):
            first = next((c for c in peer.candidates.values() if c.is_told), None)
            if first is not None:
                self._use(peer, first, "the first to be tried")
        if not new or peer.is_offline or peer.is_quiet or peer.current is None:
            return
        peer.initiations = 0
        if peer.initiation is not None and now - peer.initiated_at < INITIATION_AGE:
            self._begin_copies(peer, new, now)
        self.actions.append(Initiate(peer.id))

    def _bound(self, peer: _Peer) -> None:
        """Of too many candidates the oldest that are neither told nor used go."""
        excess = len(peer.candidates) - MAX_CANDIDATES
        for candidate in [
            c for c in peer.candidates.values() if not c.is_told and c.endpoint != peer.current
        ]:
            if excess <= 0:
                break
            del peer.candidates[candidate.endpoint]
            excess -= 1

    def set_own(
        self, endpoints: Iterable[Endpoint], now: float, seen_by: Mapping[int, Endpoint] | None = None
    ) -> None:
        """Where we may be found, the likeliest first. `seen_by`: where relays, by their numbers, say that we
        are, which is told by that relay alone. It carries itself what its word makes peers send, and more.
        """
        own, seen = tuple(endpoints)[:MAX_WHERE], dict(seen_by or {})
        if (own, seen) != (self._own, self._seen_by):
            self._own, self._seen_by = own, seen
            for peer in self._peers.values():
                if not peer.is_quiet and peer.used is not None and peer.used.kind is PathKind.RELAYED:
                    self._tell(peer, peer.used.endpoint, now)

    def set_mtu(self, mtu: int, now: float) -> None:
        """The device's MTU. From now on the path in use of each peer is searched for what it carries of
        it.
        """
        if mtu == self._mtu:
            return
        self._mtu = mtu
        for peer in self._peers.values():
            for candidate in peer.candidates.values():
                candidate.size = PathSize()
            self._set_path_mtu(peer)
            self._search_size(peer, now)

    def _tell(self, peer: _Peer, by: Endpoint, now: float) -> None:
        """Where we are, by this relay."""
        number = relay_number(by)
        seen = None if number is None else self._seen_by.get(number)
        own = tuple(dict.fromkeys((*([] if seen is None else [seen]), *self._own)))
        if peer.has_session and own and self._may_ask(now):
            peer.told_at = now
            self.actions.append(SendControl(peer.id, by, encode_where(own)))

    # --- handshakes ---------------------------------------------------------------------------------------

    def initiation_sent(self, peer_id: str, data: bytes, now: float) -> None:
        """An initiation went to the path in use; where that is not known to work, it goes everywhere."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        is_first = peer.initiation is None
        peer.initiation, peer.initiated_at, peer.copy_at = data, now, None
        peer.initiations += 1
        used = peer.used
        works = used is not None and used.answered_at is not None and used.tries < LOST_PINGS
        if peer.is_offline or (peer.has_session and works and is_first and peer.suspect_at is None):
            return
        others = [c.endpoint for c in peer.trusted if c.endpoint != peer.current]
        self._begin_copies(peer, others, now)

    def _begin_copies(self, peer: _Peer, endpoints: Iterable[Endpoint], now: float) -> None:
        """To these at once, and to all from then on."""
        self._send_copies(peer, endpoints, now)
        peer.copies, peer.copies_since = 0, now
        self._schedule_copy(peer)

    def _schedule_copy(self, peer: _Peer) -> None:
        times = COPY_TIMES if peer.initiations <= EAGER_INITIATIONS else LATE_COPY_TIMES
        at = peer.copies_since + times[peer.copies] if peer.copies < len(times) else None
        peer.copy_at = at if at is not None and at < peer.initiated_at + INITIATION_AGE else None

    def _send_copies(self, peer: _Peer, endpoints: Iterable[Endpoint], now: float) -> None:
        assert peer.initiation is not None
        for endpoint in endpoints:
            if self._may_ask(now):
                self.actions.append(SendCopy(peer.id, endpoint, peer.initiation))

    def session_begun(self, peer_id: str, now: float) -> None:
        """A handshake was completed. The first of a session, or one after trouble, is followed by a round."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        is_new = not peer.has_session or peer.initiations > 1
        peer.has_session = True
        peer.initiation, peer.initiations, peer.copy_at = None, 0, None
        if is_new:
            self._begin_round(peer, now, peer.candidates.values())

    # --- packets ------------------------------------------------------------------------------------------

    def heard_from(self, peer_id: str, endpoint: Endpoint, now: float, kind: PathKind | None = None) -> None:
        """An authenticated packet of the peer came from another place than the one in use."""
        peer = self._peers.setdefault(peer_id, _Peer(peer_id))
        candidate = peer.candidates.get(endpoint)
        if candidate is None:
            candidate = _Candidate(endpoint, kind_of(endpoint) if kind is None else kind, is_told=False)
            peer.candidates[endpoint] = candidate
            self._bound(peer)
        used = peer.used
        is_trusted = peer.trusts(candidate)
        if used is None or (
            is_trusted
            and (used.answered_at is None or used.tries >= LOST_PINGS or peer.suspect_at is not None)
        ):
            self._use(peer, candidate, "it was heard from there")
        if not peer.has_session:
            return
        if is_trusted and candidate.next_at is None and not candidate.is_fresh(now):
            candidate.begin(now)
            self._ping_due(peer, now)
        if used is not None and not used.is_fresh(now) and now >= peer.doubt_after:
            # It sends by another path than we do: perhaps because ours is dead one way.
            peer.doubt_after = now + SUSPECT_ROUND_INTERVAL
            self._doubt(peer, now)

    def handle_control(self, peer_id: str, origin: Endpoint, data: bytes, now: float) -> None:
        """A control message came from there: a PING is answered there, a PONG proves the path of its PING."""
        probe = parse_probe_untrusted(data)
        peer = self._peers.get(peer_id)
        if peer is not None and (where := parse_where_untrusted(data)):
            self._try(peer, where, origin, now)
        if probe is None or peer is None:
            return
        if not probe.is_pong or probe.return_id is not None:
            self._answer(peer, origin, probe, now)
        if not probe.is_pong:
            if probe.is_urgent:
                self._doubt(peer, now)
            return
        if probe.id in self._waiting_sizes:
            self._size_answered(peer, origin, probe.id, now)
            return
        asked_peer, endpoint, sent_at = self._waiting.get(probe.id, ("", origin, 0.0))
        candidate = peer.candidates.get(origin)
        if asked_peer != peer_id or endpoint != origin or candidate is None:
            return
        del self._waiting[probe.id]
        rtt = now - sent_at
        candidate.rtt = rtt if candidate.rtt is None else min(rtt, candidate.rtt * 0.75 + rtt * 0.25)
        candidate.answered_at, candidate.tries, candidate.next_at = now, 0, None
        was_suspect = peer.suspect_at is not None
        self._choose(peer, now)
        self._search_size(peer, now)
        if was_suspect and candidate is peer.used:
            self._check_size(peer, path_mtu.DOUBT_INTERVAL, now)

    def _try(self, peer: _Peer, where: Iterable[Endpoint], origin: Endpoint, now: float) -> None:
        """It says that it is there: one PING to each, and the same of us in return, for both ends' NATs must
        open.
        """
        used = peer.used
        if used is not None and used.kind is not PathKind.RELAYED and used.is_fresh(now):
            return
        for endpoint in where:
            if not self._may_try(endpoint) or not self._may_ask(now):
                continue
            candidate = peer.candidates.get(endpoint)
            if candidate is None:
                candidate = _Candidate(endpoint, kind_of(endpoint), is_told=False)
                peer.candidates[endpoint] = candidate
                self._bound(peer)
            self._ping(peer, candidate, now)
        if peer.told_at is None or now - peer.told_at >= TELL_INTERVAL:
            self._tell(peer, origin, now)

    def _answer(self, peer: _Peer, origin: Endpoint, probe: Probe, now: float) -> None:
        """There, with a PING in return where we may not ask by ourselves."""
        if self._answers.take(ANSWERS_A_SECOND, ANSWERS_A_SECOND, now):
            return
        if probe.return_id is not None:
            self.actions.append(SendControl(peer.id, origin, encode_pong(probe.return_id)))
            return
        candidate = peer.candidates.get(origin)
        return_id = None
        if peer.has_session and (candidate is None or not peer.trusts(candidate)):
            if candidate is None:
                candidate = _Candidate(origin, kind_of(origin), is_told=False)
                peer.candidates[origin] = candidate
                self._bound(peer)
            return_id = self._random_id()
            self._waiting[return_id] = (peer.id, origin, now)
            candidate.tried_at = now
        self.actions.append(SendControl(peer.id, origin, encode_pong(probe.id, return_id)))

    def _doubt(self, peer: _Peer, now: float) -> None:
        """We hear the peer and it does not hear us: nothing but its word tells that our path is dead."""
        if peer.round_at is None or now - peer.round_at >= DOUBT_INTERVAL:
            peer.is_doubted = True
            self._begin_round(peer, now, peer.candidates.values())

    def observe(self, peer_id: str, unanswered: float, has_session: bool, now: float) -> None:
        """What the engine knows: for how long data has been sent without anything authenticated coming back,
        0: it was answered. To be told every half second of peers with which data is exchanged, and when that
        ends.
        """
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        peer.has_session, peer.unanswered = has_session, unanswered
        if not has_session or unanswered < SUSPECT_TIME:
            if peer.suspect_at is not None or peer.also:
                peer.suspect_at = None
                self._send_also(peer, ())
            self._check_size(peer, path_mtu.CHECK_INTERVAL, now)
            return
        if peer.suspect_at is None:
            peer.suspect_at = now
            self.actions.append(Rediscover())
            self._begin_round(peer, now, peer.candidates.values())
        if unanswered >= DOUBLE_TIME and not peer.also:
            self._send_also(peer, tuple(self._second_best(peer, now)))

    def _second_best(self, peer: _Peer, now: float) -> list[Endpoint]:
        others = [
            candidate
            for candidate in peer.candidates.values()
            if candidate.endpoint != peer.current
            and (
                candidate.kind is PathKind.RELAYED
                or (candidate.answered_at is not None and now - candidate.answered_at < RECENT)
            )
        ]
        return [candidate.endpoint for candidate in sorted(others, key=_rank)[:2]]

    def network_changed(self, now: float) -> None:
        """Our own addresses are others: nothing that was proven before counts."""
        for peer in self._peers.values():
            for candidate in peer.candidates.values():
                candidate.size.forget()
            if peer.is_quiet:
                continue
            if peer.has_session:
                self._begin_round(peer, now, peer.candidates.values())
            elif peer.current is not None and not peer.is_offline:
                self.actions.append(Initiate(peer.id))

    # --- time ---------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is wanted."""
        return min((at for _, at in self._timed()), default=None)

    def _timed(self) -> Iterator[tuple[_Peer, float]]:
        """Peers for which something is to be done, and when. Of a thousand idle ones none is, and each costs
        a glance.
        """
        for peer in self._peers.values():
            if (peer.has_session or peer.copy_at is not None) and (at := _due_at(peer)) is not None:
                yield peer, at

    def handle_timeout(self, now: float) -> None:
        for peer, due in self._timed():
            if due > now:
                continue
            if peer.copy_at is not None and peer.copy_at <= now:
                self._send_copies(peer, [candidate.endpoint for candidate in peer.trusted], now)
                peer.copies += 1
                self._schedule_copy(peer)
            if not peer.has_session:
                continue
            if peer.next_round is not None and peer.next_round <= now:
                if peer.is_quiet:
                    peer.next_round = None
                else:
                    self._begin_round(peer, now, self._worth_a_look(peer))
            self._ping_due(peer, now)
            self._choose(peer, now)
            self._try_sizes(peer, now)
        has_session = any(peer.has_session for peer in self._peers.values())
        if len(self._waiting) > 4096 or (self._waiting and not has_session):
            self._waiting = {id_: asked for id_, asked in self._waiting.items() if now - asked[2] < 10.0}
        if len(self._waiting_sizes) > 4096 or (self._waiting_sizes and not has_session):
            sizes = self._waiting_sizes.items()
            self._waiting_sizes = {id_: asked for id_, asked in sizes if now - asked[2] < 10.0}

    def _worth_a_look(self, peer: _Peer) -> list[_Candidate]:
        """The path in use, and what may be better; all of them where that does not work."""
        used = peer.used
        if used is None or used.tries >= LOST_PINGS or peer.suspect_at is not None:
            return list(peer.candidates.values())
        return [candidate for candidate in peer.candidates.values() if candidate.kind <= used.kind]

    def _begin_round(self, peer: _Peer, now: float, candidates: Iterable[_Candidate]) -> None:
        if not peer.has_session:
            return
        peer.round_at = now
        interval = ROUND_INTERVAL if peer.suspect_at is None else SUSPECT_ROUND_INTERVAL
        peer.next_round = now + interval
        for candidate in candidates:
            if peer.trusts(candidate):
                candidate.begin(now)
        self._ping_due(peer, now)

    def _ping_due(self, peer: _Peer, now: float) -> None:
        for candidate in peer.candidates.values():
            if candidate.next_at is None or candidate.next_at > now:
                continue
            if not self._may_ask(now):
                candidate.next_at = now + 1.0
                continue
            self._ping(peer, candidate, now)
            candidate.tries += 1
            is_needed = candidate.tries > 1 or candidate.endpoint == peer.current
            if candidate.kind is PathKind.RELAYED and is_needed:
                self._tell(peer, candidate.endpoint, now)
            if candidate.tries < len(PING_TIMES):
                candidate.next_at = now + PING_TIMES[candidate.tries] - PING_TIMES[candidate.tries - 1]
            else:
                candidate.next_at = None

    def _ping(self, peer: _Peer, candidate: _Candidate, now: float) -> None:
        ping_id = self._random_id()
        self._waiting[ping_id] = (peer.id, candidate.endpoint, now)
        ping = encode_ping(ping_id, is_urgent=peer.suspect_at is not None)
        self.actions.append(SendControl(peer.id, candidate.endpoint, ping))
        candidate.tried_at = now

    # --- sizes --------------------------------------------------------------------------------------------

    def _search_size(self, peer: _Peer, now: float) -> None:
        """Of the path in use, once it has proved itself."""
        used = peer.used
        if self._mtu is None or used is None or not peer.has_session or peer.is_quiet:
            return
        if used.is_fresh(now) and used.size.is_due(now):
            used.size.begin(self._mtu, now)
            self._try_sizes(peer, now)

    def _check_size(self, peer: _Peer, interval: float, now: float) -> None:
        """Of the path in use, by which data goes: it may have shrunk."""
        used = peer.used
        if self._mtu is None or used is None or not peer.has_session or peer.is_quiet:
            return
        if used.size.is_check_due(interval, now):
            used.size.begin(self._mtu, now, is_check=True)
            self._try_sizes(peer, now)

    def _try_sizes(self, peer: _Peer, now: float) -> None:
        used = peer.used
        if used is None or used.size.next_at is None or used.size.next_at > now:
            return
        sizes = used.size.sizes
        if sizes and self._asked.take(PACKETS_A_SECOND, PACKETS_AT_ONCE, now, len(sizes), RESERVED):
            used.size.next_at = now + 1.0
            return
        for size in sizes:
            ping_id = self._random_id()
            self._waiting_sizes[ping_id] = (peer.id, used.endpoint, now, size)
            self.actions.append(SendControl(peer.id, used.endpoint, encode_ping(ping_id, size=size)))
        used.size.sent(now)
        self._set_path_mtu(peer)

    def _size_answered(self, peer: _Peer, origin: Endpoint, ping_id: bytes, now: float) -> None:
        asked_peer, endpoint, _, size = self._waiting_sizes[ping_id]
        candidate = peer.candidates.get(origin)
        if asked_peer == peer.id and endpoint == origin and candidate is not None:
            del self._waiting_sizes[ping_id]
            candidate.size.answered(size, now)
            self._set_path_mtu(peer)

    def _set_path_mtu(self, peer: _Peer) -> None:
        used = peer.used
        mtu = None if used is None else used.size.mtu
        if mtu != peer.mtu:
            peer.mtu = mtu
            self.actions.append(SetPathMtu(peer.id, mtu))

    # --- choice -------------------------------------------------------------------------------------------

    def _choose(self, peer: _Peer, now: float) -> None:
        """Use the best candidate that answered in this round; the one in use keeps its place while it
        answers, and nothing is better or clearly faster.
        """
        round_at = peer.round_at if peer.round_at is not None else now
        answered = [
            candidate
            for candidate in peer.candidates.values()
            if candidate.answered_at is not None and candidate.answered_at >= round_at
        ]
        if not answered:
            return
        best, used = min(answered, key=_rank), peer.used
        if used is best:
            peer.is_doubted = False
            if peer.also or peer.suspect_at is not None:
                peer.suspect_at = None
                self._send_also(peer, ())
            if not peer.reason or not peer.reason.startswith(best.kind.word):
                peer.reason = _describe_choice(best)
            return
        limit = LOST_PINGS if peer.suspect_at is None and not peer.is_doubted else LOST_PINGS - 1
        if used is None or used.answered_at is None:
            why = _describe_choice(best)
        elif used.tries >= limit:
            why = f"{_describe_choice(best)}; {used.endpoint} ({used.kind.word}) stopped answering"
        elif best.kind < used.kind:
            why = f"{_describe_choice(best)}, better than {used.kind.word} by {used.endpoint}"
        elif used.is_leaving and not best.is_leaving:
            why = f"{_describe_choice(best)}; {used.endpoint} is about to stop"
        elif best.kind == used.kind and used in answered and _is_clearly_faster(best, used):
            assert used.rtt is not None
            why = f"{_describe_choice(best)}, faster than {used.endpoint} ({used.rtt * 1000:.3g} ms)"
        else:
            return
        peer.suspect_at, peer.is_doubted = None, False
        self._use(peer, best, why)
        if best.kind is PathKind.RELAYED:
            self._tell(peer, best.endpoint, now)

    def _use(self, peer: _Peer, candidate: _Candidate, reason: str) -> None:
        is_same = peer.current == candidate.endpoint and not peer.also
        if peer.used is not None and peer.used is not candidate:
            peer.used.size.forget()
        peer.current, peer.also, peer.reason = candidate.endpoint, (), reason
        if not is_same:
            self.actions.append(UsePath(peer.id, candidate.endpoint))
        self._set_path_mtu(peer)

    def _send_also(self, peer: _Peer, also: tuple[Endpoint, ...]) -> None:
        if peer.current is not None and also != peer.also:
            peer.also = also
            self.actions.append(UsePath(peer.id, peer.current, also))

    # --- what it looks like -------------------------------------------------------------------------------

    def proven(self, peer_id: str) -> Endpoint | None:
        """The path in use, if it ever answered."""
        peer = self._peers.get(peer_id)
        used = None if peer is None else peer.used
        return None if used is None or used.answered_at is None else used.endpoint

    def has_session(self, peer_id: str) -> bool:
        """As it was told last."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.has_session

    def report(self, peer_id: str, now: float) -> PathReport | None:
        """None: no candidate is known."""
        peer = self._peers.get(peer_id)
        used = None if peer is None else peer.used
        if peer is None or used is None:
            return None
        ranked = sorted(peer.candidates.values(), key=lambda c: (c is not used, *_rank(c)))
        next_round = peer.next_round if peer.has_session else None
        return PathReport(
            kind=used.kind,
            endpoint=used.endpoint,
            is_proven=peer.has_session and used.answered_at is not None and used.tries < LOST_PINGS,
            reason=peer.reason,
            rtt=used.rtt,
            attempts=peer.initiations,
            next_try=None if next_round is None else max(0.0, next_round - now),
            candidates=tuple(
                CandidateReport(
                    c.endpoint, c.kind, c is used, c.describe(now, peer.has_session), c.rtt, c.size.mtu
                )
                for c in ranked
            ),
            mtu=used.size.mtu,
        )


def _due_at(peer: _Peer) -> float | None:
    instants = [peer.copy_at] if peer.copy_at is not None else []
    if peer.has_session:
        instants += [c.next_at for c in peer.candidates.values() if c.next_at is not None]
        if (used := peer.used) is not None and used.size.next_at is not None:
            instants.append(used.size.next_at)
        if peer.next_round is not None:
            instants.append(peer.next_round)
    return min(instants, default=None)


def _is_clearly_faster(one: _Candidate, other: _Candidate) -> bool:
    return one.rtt is not None and other.rtt is not None and one.rtt * 1.25 + 0.002 < other.rtt


def _rank(candidate: _Candidate) -> tuple[int, bool, float]:
    return candidate.kind, candidate.is_leaving, float("inf") if candidate.rtt is None else candidate.rtt


def _describe_choice(candidate: _Candidate) -> str:
    return f"{candidate.kind.word}: it answers there" + (
        "" if candidate.rtt is None else f" in {candidate.rtt * 1000:.3g} ms"
    )
