"""One node's session at one relay (docs/relay.md): registering, keeping it, noticing that it is gone. Pure.

The machine is told datagrams and instants, and leaves in `outbox` what is to be sent. Instants are seconds of
one clock that never goes back.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey
from wgpy.mesh.relay import (
    NO_COOKIE,
    RANDOM_SIZE,
    Ack,
    Cookie,
    Notice,
    NoticeReason,
    RefusalReason,
    Refused,
    Register,
    Registered,
    SessionKey,
    encode_hello,
    encode_keepalive,
    encode_register,
    parse_observed_untrusted,
    parse_relay_untrusted,
)
from wgpy.mesh.relay_ticket import Ticket
from wgpy.mesh.signing import (
    MachineKey,
    RelayPublicKey,
    relay_register_input,
    relay_registered_input,
)

KEEPALIVE_INTERVAL: Final = 20.0
"""Seconds: NATs forget a quiet mapping after 30."""
ACK_TIMES: Final = (0.3, 0.5, 1.0, 1.0)
"""Seconds after which a KEEPALIVE is sent again; after the last the session counts as gone."""
HELLO_TIMES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to register; the last for ever."""
KEPT_OUT_WAIT: Final = 5.0
"""Seconds after which a node that may be let in again at any time asks again."""
REFUSED_WAIT: Final = 30.0
"""Seconds until the next attempt after a refusal."""
MOVE_INTERVAL: Final = 0.1
"""Seconds between two answers to NOTICEs of another address, of which each run of data gets one."""
BLOCKED_TIME: Final = 0.3
"""Seconds without any answer after which another way is worth a try; more where answers take longer."""
SLOW: Final = 1.5
"""Round trips of that."""


class LinkState(enum.Enum):
    """Where a link stands."""

    IDLE = "not used"
    CONNECTING = "connecting"
    UP = "up"
    REFUSED = "refused"


class RelayLink:
    """`random_octets` gives as many as it is asked for. It does nothing before `start`."""

    def __init__(
        self, relay: str, key: RelayPublicKey, machine_key: MachineKey, random_octets: Callable[[int], bytes]
    ) -> None:
        self.outbox: list[bytes] = []
        """What is to be sent to the relay, in this order; whoever sends it takes it away."""
        self.state = LinkState.IDLE
        self.reason = ""
        """Why there is no session, in words."""
        self.session: int | None = None
        """The session's id, while there is one."""
        self.rtt: float | None = None
        self.observed: Endpoint | None = None
        """Where the relay sees us."""
        self.is_draining = False
        self.needs_ticket = False
        """The relay did not take the ticket: get another."""
        self.is_silent = False
        """It has answered nothing for so long that the way to it may be blocked."""
        self._relay = relay
        self._relay_key = key
        self._machine_key = machine_key
        self._random_octets = random_octets
        self._ticket: Ticket | None = None
        self._random = b""
        self._ephemeral: PrivateKey | None = None
        self._key: SessionKey | None = None
        self._counter = 0
        self._sent_at: float | None = None
        self._unanswered = 0
        self._silent_at: float | None = None
        self._is_registering = False
        self._moved_at: float | None = None
        self._attempts = 0
        self._next_at: float | None = None

    # --- what it is told ----------------------------------------------------------------------------------

    def start(self, ticket: Ticket, now: float) -> None:
        """Register with this ticket, or use it from the next time on."""
        is_other = self._ticket is None or ticket.not_after != self._ticket.not_after
        self._ticket = ticket
        if is_other:
            self.needs_ticket = False
        if self.state is LinkState.IDLE or (self.state is LinkState.REFUSED and is_other):
            self._begin(now)

    def restart(self, now: float) -> None:
        """The way to the relay is another: nothing is known of it."""
        if self._ticket is not None:
            self._note_word()
            self._begin(now)

    def check(self, now: float) -> None:
        """Is it still there? Our addresses changed, or data goes unanswered."""
        if self.state is not LinkState.UP:
            if self.state is LinkState.CONNECTING and self._attempts > 1:
                self._begin(now)
        elif self._unanswered == 0:
            self._send_keepalive(now)

    def handle_timeout(self, now: float) -> None:
        if self._silent_at is not None and now >= self._silent_at:
            self.is_silent, self._silent_at = True, None
        if self._next_at is None or now < self._next_at:
            return
        if self.state is not LinkState.UP:
            self._send_hello(now)
        elif self._unanswered >= len(ACK_TIMES):
            self.reason = "it stopped answering"
            self._begin(now)
        else:
            self._send_keepalive(now)

    def handle_datagram(self, data: bytes, now: float) -> bool:
        """A place where the relay may be sent this. Whether it is the answer to our HELLO: all that follows
        goes there.
        """
        match parse_relay_untrusted(data):
            case Cookie(random, cookie) if random == self._random and self._is_asking:
                self._note_word()
                self._send_register(cookie, now)
                return True
            case Registered() as message if message.random == self._random:
                self._handle_registered(message, now)
            case Refused(random, reason) if random == self._random and self.state is not LinkState.UP:
                self._handle_refused(reason, now)
            case Ack() as ack:
                self._handle_ack(ack, now)
            case Notice(session, reason, cookie) if session == self.session:
                self._handle_notice(reason, cookie, now)
        return False

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is wanted."""
        return min((at for at in (self._next_at, self._silent_at) if at is not None), default=None)

    @property
    def _is_asking(self) -> bool:
        """Whether a HELLO waits for its answer: of several places the first that answers is taken."""
        return self.state is not LinkState.UP and not self._is_registering

    def _note_word(self) -> None:
        self.is_silent, self._silent_at = False, None

    def _note_question(self, now: float) -> None:
        """Something was sent that is always answered."""
        if self._silent_at is None and not self.is_silent:
            self._silent_at = now + max(BLOCKED_TIME, SLOW * (self.rtt or 0.0))

    # --- registering --------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self.state, self.session, self._key, self.is_draining = LinkState.CONNECTING, None, None, False
        self._attempts = 0
        self._random = self._random_octets(RANDOM_SIZE)
        self._ephemeral = PrivateKey(self._random_octets(32))
        self._send_hello(now)

    def _send_hello(self, now: float) -> None:
        self.state, self._is_registering = LinkState.CONNECTING, False
        self._note_question(now)
        if self.is_silent:
            self.reason = "it does not answer"
        self._sent_at = now
        self.outbox.append(encode_hello(self._random))
        self._next_at = now + HELLO_TIMES[min(self._attempts, len(HELLO_TIMES) - 1)]
        self._attempts += 1

    def _send_register(self, cookie: bytes, now: float) -> None:
        assert self._ticket is not None
        assert self._ephemeral is not None
        ticket, ephemeral = self._ticket.encode(), self._ephemeral.public_key()
        signed = relay_register_input(self._relay, self._random, cookie, ephemeral, ticket)
        message = Register(self._random, cookie, ephemeral, ticket, self._machine_key.sign(signed))
        self._sent_at, self._is_registering = now, True
        self.outbox.append(encode_register(message))

    def _handle_registered(self, message: Registered, now: float) -> None:
        if self.state is LinkState.UP or self._ephemeral is None:
            return
        client = self._ephemeral.public_key()
        signed = relay_registered_input(
            message.random, message.session, client, message.ephemeral, message.observed
        )
        if not self._relay_key.verify(message.signature, signed):
            return
        try:
            key = SessionKey(self._ephemeral, message.ephemeral, message.random, client, message.ephemeral)
        except ValueError:
            return
        self.state, self.session, self._key, self.reason = LinkState.UP, message.session, key, ""
        self._counter, self._unanswered = 0, 0
        self._note_word()
        self.observed = parse_observed_untrusted(message.observed)
        self._note_rtt(now)
        self._next_at = now + KEEPALIVE_INTERVAL

    def _handle_refused(self, reason: int, now: float) -> None:
        self.state = LinkState.REFUSED
        self._note_word()
        known = reason in RefusalReason.__members__.values()
        self.reason = (
            RefusalReason(reason).words if known else f"it refused, for a reason unknown here ({reason})"
        )
        if reason in (RefusalReason.TICKET, RefusalReason.EXPIRED, RefusalReason.OTHER_RELAY):
            self.needs_ticket = True
        self._next_at = now + (KEPT_OUT_WAIT if reason == RefusalReason.KEPT_OUT else REFUSED_WAIT)

    # --- keeping it ---------------------------------------------------------------------------------------

    def _send_keepalive(self, now: float, cookie: bytes = NO_COOKIE) -> None:
        assert self._key is not None
        assert self.session is not None
        self._counter += 1
        self._unanswered += 1
        self._sent_at = now
        self.outbox.append(encode_keepalive(self.session, self._counter, self._key, cookie))
        self._note_question(now)
        patience = ACK_TIMES[min(self._unanswered, len(ACK_TIMES)) - 1]
        self._next_at = now + max(patience, SLOW * (self.rtt or 0.0))

    def _handle_ack(self, ack: Ack, now: float) -> None:
        if self._key is None or ack.session != self.session or not self._key.verify(ack):
            return
        if ack.is_draining:
            self.is_draining = True
        if ack.counter != self._counter or self._unanswered == 0:
            return
        if self._unanswered == 1:
            self._note_rtt(now)
        self._unanswered = 0
        self._note_word()
        self.observed = parse_observed_untrusted(ack.observed)
        self._next_at = now + KEEPALIVE_INTERVAL

    def _handle_notice(self, reason: int, cookie: bytes, now: float) -> None:
        if reason == NoticeReason.OTHER_ADDRESS and self._key is not None:
            if self._moved_at is None or now - self._moved_at >= MOVE_INTERVAL:
                self._moved_at = now
                self._send_keepalive(now, cookie)
        elif reason == NoticeReason.UNKNOWN_SESSION and self.state is LinkState.UP:
            self.reason = "it was started anew"
            self._begin(now)

    def _note_rtt(self, now: float) -> None:
        if self._sent_at is not None:
            rtt = now - self._sent_at
            self.rtt = rtt if self.rtt is None else min(rtt, self.rtt * 0.75 + rtt * 0.25)
