"""Who may have a session at a relay. Pure: it judges, somebody else listens and sends.

Instants are seconds: `now` of one clock that never goes back, `wall_clock` of Unix time, for tickets.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey
from wgpy.mesh.relay import (
    RefusalReason,
    Register,
    Registered,
    SessionKey,
    encode_observed,
    encode_refused,
    encode_registered,
    parse_relay_untrusted,
    relay_id_of,
)
from wgpy.mesh.relay_ticket import Ticket
from wgpy.mesh.signing import (
    IdentityPublicKey,
    RelayKey,
    relay_register_input,
    relay_registered_input,
)

logger = logging.getLogger(__name__)

CLOCK_SLACK: Final = 300.0
"""Seconds by which our clock may be ahead of the coordinator's."""
ANSWER_AGE: Final = 30.0
"""Seconds for which the answer to a REGISTER is kept, for one that comes again."""
MOST_ANSWERS: Final = 16384
FIGHT_TIME: Final = 60.0
"""Seconds within which sessions of one node from several addresses are a fight."""
FIGHT_COUNT: Final = 4


class Node(NamedTuple):
    """A node by its network and its id."""

    network: str
    id: str


Admit = Callable[[bytes, int, bytes], int | None]
"""Network id, relay id, session key → the id of a new session; None: there is no room."""


@dataclass
class Admission:
    """Of one relay. `random_octets` gives as many as it is asked for."""

    key: RelayKey
    identity: IdentityPublicKey
    random_octets: Callable[[int], bytes]
    refused: dict[RefusalReason, int] = field(default_factory=dict)
    """How many of each."""
    removed: set[Node] = field(default_factory=set)
    kept_out: frozenset[Node] = frozenset()
    """Members that may not use the network for now."""
    fights: dict[Node, float] = field(default_factory=dict)
    """Nodes that are at several addresses at once, and when that was seen last."""

    def __post_init__(self) -> None:
        self.id = self.key.public_key().id
        self._answers: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._seen: dict[Node, deque[tuple[float, Endpoint]]] = {}

    def remove(self, nodes: Iterable[Node]) -> list[Node]:
        """These are members no more → those of them that were not known to be gone."""
        fresh = [node for node in nodes if node not in self.removed]
        self.removed.update(fresh)
        return fresh

    def keep_out(self, nodes: Iterable[Node]) -> list[Node]:
        """These and no others are kept out for now → those of them that were not."""
        before, self.kept_out = self.kept_out, frozenset(nodes)
        return sorted(self.kept_out - before)

    def judge(
        self, data: bytes, origin: Endpoint, admit: Admit, now: float, wall_clock: float
    ) -> bytes | None:
        """The answer to a REGISTER whose cookie was right; None: it gets none."""
        message = parse_relay_untrusted(data)
        if not isinstance(message, Register):
            return None
        if (before := self._answers.get(data)) is not None and now - before[0] < ANSWER_AGE:
            return before[1]
        ticket = Ticket.parse_untrusted(message.ticket)
        reason = self._refusal(ticket, message, wall_clock)
        if reason is None and ticket is not None:
            answer = self._admit(ticket, message, origin, admit, now)
            if answer is not None:
                self._keep(data, answer, now)
                return answer
            reason = RefusalReason.FULL
        assert reason is not None
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return encode_refused(message.random, reason)

    def _refusal(self, ticket: Ticket | None, message: Register, wall_clock: float) -> RefusalReason | None:
        if ticket is None:
            return RefusalReason.TICKET
        if ticket.relay != self.id:
            return RefusalReason.OTHER_RELAY
        if Node(ticket.network, ticket.node) in self.removed:
            return RefusalReason.REVOKED
        if Node(ticket.network, ticket.node) in self.kept_out:
            return RefusalReason.KEPT_OUT
        if ticket.not_after + CLOCK_SLACK < wall_clock:
            return RefusalReason.EXPIRED
        # The dear part last, the ticket first: whoever has none costs one check.
        if not ticket.verify(self.identity):
            return RefusalReason.TICKET
        signed = relay_register_input(
            self.id, message.random, message.cookie, message.ephemeral, message.ticket
        )
        return None if ticket.machine_key.verify(message.signature, signed) else RefusalReason.TICKET

    def _admit(
        self, ticket: Ticket, message: Register, origin: Endpoint, admit: Admit, now: float
    ) -> bytes | None:
        ephemeral = PrivateKey(self.random_octets(32))
        public = ephemeral.public_key()
        try:
            key = SessionKey(ephemeral, message.ephemeral, message.random, message.ephemeral, public)
        except ValueError:
            return encode_refused(message.random, RefusalReason.TICKET)
        session = admit(bytes.fromhex(ticket.network), relay_id_of(ticket.node), bytes(key))
        if session is None:
            return None
        self._note_session(Node(ticket.network, ticket.node), origin, now)
        observed = encode_observed(origin)
        signed = relay_registered_input(message.random, session, message.ephemeral, public, observed)
        return encode_registered(Registered(message.random, session, public, observed, self.key.sign(signed)))

    def _keep(self, data: bytes, answer: bytes, now: float) -> None:
        self._answers[data] = (now, answer)
        while self._answers:
            oldest, (kept_at, _) = next(iter(self._answers.items()))
            if now - kept_at < ANSWER_AGE and len(self._answers) <= MOST_ANSWERS:
                break
            del self._answers[oldest]

    def _note_session(self, node: Node, origin: Endpoint, now: float) -> None:
        seen = self._seen.setdefault(node, deque(maxlen=FIGHT_COUNT))
        seen.append((now, origin))
        addresses = {endpoint for at, endpoint in seen if now - at < FIGHT_TIME}
        back_and_forth = sum(
            1 for one, other in zip(seen, list(seen)[1:], strict=False) if one[1] != other[1]
        )
        if len(seen) == FIGHT_COUNT and now - seen[0][0] < FIGHT_TIME and len(addresses) < back_and_forth + 1:
            if node not in self.fights:
                logger.warning(
                    "node %s of network %s is at several addresses at once (%s): was its state copied to "
                    "another host?", node.id[:8], node.network[:8], ", ".join(sorted(map(str, addresses))),
                )  # fmt: skip
            self.fights[node] = now

    def tidy(self, now: float) -> None:
        """Forget what is over. To be called every minute or so."""
        self._seen = {node: seen for node, seen in self._seen.items() if now - seen[-1][0] < FIGHT_TIME}
        self.fights = {node: at for node, at in self.fights.items() if now - at < 10 * FIGHT_TIME}
