"""What a host must do and may not do, told from outside by what passes: the paper's slots and timers, stated
a second time.

An `Observer` hears of each datagram of one host with one peer, as it leaves and before it arrives, and of the
sessions that begin. It reads nothing of the core or the engine, so it works for each engine, and a constant
that is changed there is noticed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.paper import (
    JITTER,
    KEEPALIVE_TIMEOUT,
    NEW_HANDSHAKE_TIMEOUT,
    RECEIVING_REKEY_AGE,
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
    REPLAY_WINDOW,
    SENDS_IN_ALL,
)

GIVE_WAY = 1.0
"""Ours: of two retries that would cross, the larger static key's goes a second later (decision 7)."""
ROUNDING = 1e-6


@dataclass(eq=False)
class Session:
    """The keys of one handshake at one end."""

    local_index: int
    remote_index: int
    is_initiator: bool
    created_at: float
    received: set[int] = field(default_factory=set)
    highest: int = -1
    rekeyed_on_receiving: bool = False
    dropped_at: float | None = None
    """When it left its slot."""

    def is_young(self, now: float) -> bool:
        return now - self.created_at < REJECT_AFTER_TIME


class Observer:
    """See the module. Methods raise AssertionError when the host breaks a rule."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: dict[int, Session] = {}
        """All there have been, by local index."""
        self.current: Session | None = None
        self.previous: Session | None = None
        self.next: Session | None = None
        self._handshake_sent_at: float | None = None
        self._sends = 0
        """Initiations since the last handshake that completed."""
        self._initiation_due: dict[str, float] = {}
        """Latest instants of the next initiation, and why."""
        self._keepalive_due: float | None = None
        self._owed_since: float | None = None
        """When the data came that the keepalive is owed for; None: the one before it said nothing of it."""
        self._another_keepalive = False
        self._silent_since: float | None = None
        """When data was first sent that nothing has answered and no initiation followed."""
        self._unanswered_since: float | None = None
        """When data was first sent that nothing has answered."""

    def may_send(self, now: float) -> bool:
        return self.current is not None and self.current.is_young(now)

    # --- what is seen ---

    def session_begun(self, session: Session, now: float) -> None:
        """A response was consumed, or an initiation, whose response is sent next."""
        self._heard()
        self.sessions[session.local_index] = session
        if session.is_initiator:
            self._put(current=session, previous=self.next or self.current, next=None, now=now)
            self._complete()
        else:
            self._put(current=self.current, previous=None, next=session, now=now)

    def initiation_sent(self, now: float) -> None:
        opens_at = self._gate_opens_at()
        assert now >= opens_at - ROUNDING, f"{self.name}: initiation {opens_at - now} s before the gate opens"
        assert self._has_reason(now), f"{self.name}: an initiation without a reason"
        self._sends += 1
        self._handshake_sent(now)
        self._silent_since = None
        self._initiation_due.clear()
        if self._sends < SENDS_IN_ALL:
            self._initiation_due["retry"] = now + REKEY_TIMEOUT + JITTER

    def response_sent(self, now: float) -> None:
        self._handshake_sent(now)
        for reason in self._initiation_due:
            self._initiation_due[reason] = self._gate_opens_at() + GIVE_WAY

    def transport_sent(self, remote_index: int, counter: int, is_data: bool, now: float) -> None:
        session = self.current
        assert session is not None, f"{self.name}: sends before a session is confirmed"
        assert session.remote_index == remote_index, f"{self.name}: sends with another session"
        assert session.is_young(now), f"{self.name}: sends with a session of {now - session.created_at} s"
        if self._keepalive_due is not None and now >= self._keepalive_due - ROUNDING and not is_data:
            again_at = now + KEEPALIVE_TIMEOUT if self._another_keepalive else None
            self._sent_anything()
            self._keepalive_due = again_at
        else:
            assert is_data or counter == 0, f"{self.name}: a keepalive that nobody is owed"
            self._sent_anything()
        if is_data:
            if self._silent_since is None:
                # After an initiation that silence began, ours looks for more of it as often as it retries.
                self._silent_since = now if self._unanswered_since is None else now + REKEY_TIMEOUT + JITTER
            if self._unanswered_since is None:
                self._unanswered_since = now
        if session.is_initiator and now - session.created_at > REKEY_AFTER_TIME + ROUNDING:
            self._rekey(now)

    def transport_arrives(self, local_index: int, counter: int, is_data: bool, now: float) -> bool:
        """Whether the host must accept it (if not, it must not)."""
        session = self.sessions.get(local_index)
        if session is None or session.dropped_at is not None or not session.is_young(now):
            return False
        if counter in session.received or counter + REPLAY_WINDOW <= session.highest:
            return False
        session.received.add(counter)
        session.highest = max(session.highest, counter)
        self._heard()
        if session is self.next:
            self._put(current=session, previous=self.current, next=None, now=now)
            self._complete()
        if is_data:
            self._keepalive_owed(now)
        age = now - session.created_at
        if session is self.current and session.is_initiator and age > RECEIVING_REKEY_AGE + ROUNDING:
            if not session.rekeyed_on_receiving:
                self._rekey(now)
            session.rekeyed_on_receiving = True
        return True

    def packet_staged(self, now: float) -> None:
        """A program sent a packet for which there is no session."""
        if "retry" not in self._initiation_due:
            self._initiation_due["staged"] = max(now, self._gate_opens_at() + GIVE_WAY)

    def check(self, now: float) -> None:
        """Nothing is overdue. For any instant, once all that was to happen before has happened."""
        for reason, due in self._initiation_due.items():
            assert now <= due + ROUNDING, f"{self.name}: an initiation ({reason}) was due at {due:.3f}"
        due = self._keepalive_due
        if due is not None and now > due + ROUNDING:
            # Giving up the attempts cancels it.
            excused = self._may_have_given_up() or not self.may_send(due)
            assert excused, f"{self.name}: a keepalive was due at {due:.3f}"
            self._sent_anything()
        if self._silent_since is not None:
            due = max(self._silent_since + NEW_HANDSHAKE_TIMEOUT + JITTER, self._gate_opens_at() + GIVE_WAY)
            assert now <= due + ROUNDING, f"{self.name}: no initiation after silence since {due:.3f}"

    # --- what follows from it ---

    def _put(
        self, *, current: Session | None, previous: Session | None, next: Session | None, now: float
    ) -> None:
        kept = (current, previous, next)
        for session in (self.current, self.previous, self.next):
            if session is not None and session not in kept:
                session.dropped_at = now
        self.current, self.previous, self.next = kept

    def _complete(self) -> None:
        self._sends = 0
        self._initiation_due.clear()

    def _heard(self) -> None:
        self._silent_since = self._unanswered_since = None

    def _handshake_sent(self, now: float) -> None:
        self._handshake_sent_at = now
        self._sent_anything()

    def _sent_anything(self) -> None:
        self._keepalive_due = self._owed_since = None
        self._another_keepalive = False

    def _keepalive_owed(self, now: float) -> None:
        if self._keepalive_due is None:
            self._keepalive_due, self._owed_since = now + KEEPALIVE_TIMEOUT, now
        elif self._owed_since is None or now > self._owed_since:
            self._another_keepalive = True

    def _may_have_given_up(self) -> bool:
        """Requests that begin the count anew are not all seen from outside."""
        return self._sends >= SENDS_IN_ALL

    def _gate_opens_at(self) -> float:
        return 0.0 if self._handshake_sent_at is None else self._handshake_sent_at + REKEY_TIMEOUT

    def _rekey(self, now: float) -> None:
        if "retry" not in self._initiation_due:
            opens_at = self._gate_opens_at()
            due = now if now >= opens_at + GIVE_WAY else opens_at + GIVE_WAY
            self._initiation_due["rekey"] = min(self._initiation_due.get("rekey", due), due)

    def _has_reason(self, now: float) -> bool:
        session = self.current
        return (
            bool(self._initiation_due)
            or self._may_have_given_up()
            or not self.may_send(now)
            or (
                session is not None
                and session.is_initiator
                and now - session.created_at >= REKEY_AFTER_TIME - ROUNDING
            )
            or (
                self._unanswered_since is not None
                and now >= self._unanswered_since + NEW_HANDSHAKE_TIMEOUT - ROUNDING
            )
        )
