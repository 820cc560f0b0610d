"""How this host is seen from outside, and what the NATs in between do: asked of STUN servers. Pure.

Each server is asked at its endpoint and at the other one that it names. Where all see the same address and
port, one mapping serves all destinations and a peer can be told of it; where they differ, what a peer will
see cannot be known beforehand. The first server that answers is asked again and again, so that the mapping
stays, and that a change of it is noticed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from wgpy.addresses import Endpoint
from wgpy.mesh.receipt import MAX_RECEIPTS, Receipt
from wgpy.mesh.stun import encode_binding_request, parse_binding_answer_untrusted

Family = Literal[4, 6]
FAMILIES: Final[tuple[Family, ...]] = (4, 6)

REQUEST_TIMES: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Seconds after the beginning of a round at which a place that has not answered is asked."""
REFRESH_INTERVAL: Final = 25.0
"""Seconds between two questions for nothing but the mapping: NATs forget a quiet one after 30."""
ROUND_INTERVAL: Final = 600.0
"""Seconds between two rounds of all servers."""
BLOCKED_ROUND_INTERVAL: Final = 30.0
"""The same while nobody answers."""
MIN_ROUND_INTERVAL: Final = 1.0
"""Seconds between two rounds, however often one is asked for."""
MAX_SERVERS: Final = 8


class Mapping(enum.Enum):
    """What the NATs on the way out do with the tunnel's socket."""

    UNKNOWN = "unknown"
    """Nobody was asked yet, or a single place answered."""
    BLOCKED = "blocked"
    """Nobody answers."""
    NONE = "none"
    """Seen by our own address and port."""
    INDEPENDENT = "endpoint-independent"
    """The same for all destinations."""
    DEPENDENT = "symmetric"
    """Another for each destination."""


@dataclass(frozen=True, slots=True)
class View:
    """How one address family looks from outside. `seen`: by whom, and where."""

    mapping: Mapping
    seen: tuple[tuple[Endpoint, Endpoint], ...] = ()

    @property
    def endpoint(self) -> Endpoint | None:
        """Where others may try; with a symmetric NAT the address is right, and the port a guess."""
        return self.seen[0][1] if self.seen else None


@dataclass(frozen=True, slots=True)
class Ask:
    """Send `data` to that place, from the tunnel's own socket."""

    to: Endpoint
    data: bytes = field(repr=False)


@dataclass(slots=True)
class _Place:
    """One endpoint of a server. `main` is the one that was told; else the server named this one itself."""

    main: Endpoint
    endpoint: Endpoint
    transaction: bytes = b""
    asked: int = 0
    next_at: float | None = None
    seen: Endpoint | None = None
    receipt: bytes = b""
    """Of the server, that it saw us there."""
    is_silent: bool = False


class Discovery:
    """`random_transaction` gives 12 random octets. `tag` names us to servers that give receipts."""

    def __init__(self, random_transaction: Callable[[], bytes], tag: bytes = b"") -> None:
        self._tag = tag
        self.asks: list[Ask] = []
        """What is to be sent; whoever sends it takes it away."""
        self._random_transaction = random_transaction
        self._places: dict[Endpoint, _Place] = {}
        self.own: frozenset[Endpoint] = frozenset()
        """The addresses of our interfaces with the tunnel's port."""
        self._round_at: float | None = None
        self._next_round: float | None = None

    # --- what is asked --------------------------------------------------------------------------------------

    def set_servers(self, servers: Iterable[Endpoint], now: float) -> None:
        """The endpoints of STUN servers, the best first. A round begins when they are others than before."""
        wanted = dict.fromkeys(list(servers)[:MAX_SERVERS])
        if wanted.keys() == {place.main for place in self._places.values()}:
            return
        self._places = {endpoint: place for endpoint, place in self._places.items() if place.main in wanted}
        for server in wanted:
            self._places.setdefault(server, _Place(server, server))
        self._begin(now)

    def set_own(self, endpoints: Iterable[Endpoint]) -> None:
        """The addresses of our interfaces with the tunnel's port."""
        self.own = frozenset(endpoints)

    def servers(self) -> tuple[Endpoint, ...]:
        """As told."""
        return tuple(dict.fromkeys(place.main for place in self._places.values()))

    def begin(self, now: float) -> None:
        """Ask all of them anew: the network is another, or somebody cannot be reached."""
        if self._round_at is None or now - self._round_at >= MIN_ROUND_INTERVAL:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._round_at, self._next_round = now, now + ROUND_INTERVAL
        for place in self._places.values():
            place.asked, place.next_at, place.transaction = 0, now, self._random_transaction()
        self._ask_due(now)

    # --- what comes back ------------------------------------------------------------------------------------

    @property
    def transactions(self) -> frozenset[bytes]:
        """Of the answers that are waited for."""
        return frozenset(place.transaction for place in self._places.values() if place.transaction)

    def handle_answer(self, data: bytes, origin: Endpoint, now: float) -> bool:
        """A datagram of a transaction that is waited for. Whether it changes how we are seen."""
        answer = parse_binding_answer_untrusted(data)
        if answer is None:
            return False
        place = self._places.get(origin)
        if place is None or not place.transaction or place.transaction != answer.transaction:
            return False
        before = self.views()
        if place.seen is not None and place.seen != answer.mapped:
            self._ask_others(place, now)
        place.seen, place.is_silent, place.transaction = answer.mapped, False, b""
        place.receipt = answer.receipt
        place.asked, place.next_at = 0, None
        if place is self._kept(place.endpoint.address.version):
            place.next_at = now + REFRESH_INTERVAL
        self._learn_other(place, answer.other, now)
        return before != self.views()

    def _learn_other(self, place: _Place, other: Endpoint | None, now: float) -> None:
        """A server's second endpoint, which it names, is asked as soon as it is known."""
        if place.endpoint != place.main or other is None:
            return
        # Of its word the port alone counts: it is no reason to send to somebody else.
        endpoint = Endpoint(place.endpoint.address, other.port)
        if endpoint in self._places:
            return
        self._places[endpoint] = second = _Place(place.main, endpoint)
        second.next_at, second.transaction = now, self._random_transaction()
        self._ask_due(now)

    def _ask_others(self, place: _Place, now: float) -> None:
        """The mapping is another than it was: what the other places saw is of the past."""
        for other in self._places.values():
            if other is place or other.endpoint.address.version != place.endpoint.address.version:
                continue
            if other.seen is not None:
                other.seen, other.asked, other.next_at = None, 0, now
        self._ask_due(now)

    def _kept(self, version: int) -> _Place | None:
        """The place whose mapping is kept: the first that answers."""
        return next(
            (
                place
                for place in self._places.values()
                if place.seen is not None and place.endpoint.address.version == version
            ),
            None,
        )

    # --- time -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        instants = [place.next_at for place in self._places.values() if place.next_at is not None]
        if self._places and self._next_round is not None:
            instants.append(self._next_round)
        return min(instants, default=None)

    def handle_timeout(self, now: float) -> bool:
        """Whether it changes how we are seen: nobody answers any more."""
        before = self.views()
        if self._places and self._next_round is not None and now >= self._next_round:
            self._begin(now)
        self._ask_due(now)
        return self.views() != before

    def _ask_due(self, now: float) -> None:
        for place in self._places.values():
            if place.next_at is None or place.next_at > now:
                continue
            if place.asked == len(REQUEST_TIMES):
                place.seen, place.is_silent, place.next_at, place.transaction = None, True, None, b""
                continue
            if not place.transaction:
                place.transaction = self._random_transaction()
            self.asks.append(Ask(place.endpoint, encode_binding_request(place.transaction, self._tag)))
            place.asked += 1
            last = REQUEST_TIMES[place.asked - 1]
            following = REQUEST_TIMES[place.asked] if place.asked < len(REQUEST_TIMES) else last + 2.0
            place.next_at = now + following - last
        if self._is_blocked and self._next_round is not None:
            self._next_round = min(self._next_round, now + BLOCKED_ROUND_INTERVAL)

    @property
    def _is_blocked(self) -> bool:
        return bool(self._places) and all(place.is_silent for place in self._places.values())

    # --- what is known --------------------------------------------------------------------------------------

    def receipts(self) -> tuple[Receipt, ...]:
        """For each address at which we are seen, the newest."""
        found = {
            place.seen.address: Receipt(place.seen.address, place.receipt)
            for place in sorted(self._places.values(), key=lambda one: one.receipt[:4])
            if place.seen is not None and place.receipt
        }
        return tuple(found.values())[:MAX_RECEIPTS]

    def views(self) -> dict[Family, View]:
        """By address family."""
        return {family: self._view(family) for family in FAMILIES}

    def _view(self, family: Family) -> View:
        places = [place for place in self._places.values() if place.endpoint.address.version == family]
        seen = tuple((place.endpoint, place.seen) for place in places if place.seen is not None)
        if not seen:
            silent = bool(places) and all(place.is_silent for place in places)
            return View(Mapping.BLOCKED if silent else Mapping.UNKNOWN)
        mappings = {endpoint for _, endpoint in seen}
        if len(mappings) > 1:
            return View(Mapping.DEPENDENT, seen)
        if mappings <= self.own:
            return View(Mapping.NONE, seen)
        return View(Mapping.INDEPENDENT if len(seen) > 1 else Mapping.UNKNOWN, seen)
