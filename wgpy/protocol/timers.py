"""When a peer is due: the kernel's five timers, derived from facts (paper §6).

- retransmit_handshake: an initiation got no answer for 5 s and some.
- send_keepalive: data came, and for 10 s nothing authenticated went back.
- new_handshake: data went out, and for 15 s and some nothing authenticated came back.
- zero_key_material: no session began for 540 s; all keys go.
- persistent_keepalive: nothing authenticated either way for the interval that the user chose.

No timer is set or cancelled packet by packet. The engine notes facts, this module makes deadlines of them,
and at a deadline the facts are looked at anew: often they have moved on, and so does the deadline. What
can't be read off the facts (a handshake was sent, a session began) is reported here by functions named like
the kernel's hooks.
"""

from __future__ import annotations

import enum
from typing import Final

from wgpy.protocol.actions import Fact, Facts
from wgpy.protocol.constants import (
    KEEPALIVE_TIMEOUT,
    MAX_TIMER_HANDSHAKES,
    NEW_HANDSHAKE_TIMEOUT,
    REKEY_TIMEOUT,
    REKEY_TIMEOUT_JITTER_MAX,
    ZERO_KEY_MATERIAL_TIMEOUT,
)
from wgpy.protocol.crypto import RandomSource

GIVE_WAY_TIME: Final = 1.0
"""Seconds that the larger static key's retry stands back behind the smaller's, once both ends have
initiated.
"""


class Timer(enum.Enum):
    """In the order in which those due at one instant act."""

    ZERO_KEY_MATERIAL = enum.auto()
    RETRANSMIT_HANDSHAKE = enum.auto()
    WAIT_FOR_GATE = enum.auto()
    """Not the kernel's: a packet waits for a key, or a rekey is due, and no handshake may be sent yet."""
    NEW_HANDSHAKE = enum.auto()
    SEND_KEEPALIVE = enum.auto()
    PERSISTENT_KEEPALIVE = enum.auto()


# --- deadlines --------------------------------------------------------------------------------------------


def gate_opens_at(handshake_sent_at: float | None) -> float | None:
    """From when another initiation may be sent: REKEY_TIMEOUT after the last handshake message; None: at
    once.
    """
    return None if handshake_sent_at is None else handshake_sent_at + REKEY_TIMEOUT


def retransmit_handshake_deadline(initiated_at: float, jitter: float) -> float:
    """5 s and the jitter after the initiation."""
    return initiated_at + REKEY_TIMEOUT + jitter


def after_gate_deadline(handshake_sent_at: float, gives_way: bool) -> float:
    """When the gate opens; for the end that gives way to the other's initiation, a second later."""
    return handshake_sent_at + REKEY_TIMEOUT + (GIVE_WAY_TIME if gives_way else 0.0)


def send_keepalive_deadline(data_received_at: float) -> float:
    """10 s after the first data packet that we have not answered with anything."""
    return data_received_at + KEEPALIVE_TIMEOUT


def new_handshake_deadline(data_sent_at: float, jitter: float) -> float:
    """15 s and the jitter after the first data packet that has not been answered with anything."""
    return data_sent_at + NEW_HANDSHAKE_TIMEOUT + jitter


def zero_key_material_deadline(since: float) -> float:
    """540 s after the last session began, or after the attempts at a first one were given up."""
    return since + ZERO_KEY_MATERIAL_TIMEOUT


def persistent_keepalive_deadline(facts: Facts, fired_at: float, interval: float) -> float:
    """The interval after the latest of: authenticated packet sent, received, keepalive tried."""
    latest = fired_at
    for at in (facts.authenticated_sent_last, facts.authenticated_received_last):
        if at is not None and at > latest:
            latest = at
    return latest + interval


# --- state ------------------------------------------------------------------------------------------------


class Timers:
    """The deadlines of one peer, and what they are made of apart from the engine's facts."""

    def __init__(self, rng: RandomSource) -> None:
        self._rng = rng
        self._at: dict[Timer, float] = {}
        self.attempts = 0
        """Retries since the last request for a handshake that was not one."""
        self.handshake_sent_at: float | None = None
        """When an initiation or response was last sent; None: the gate is open."""
        # The engine's `authenticated_sent_last` then: a later one is of a transport packet.
        self._sent_with_handshake: float | None = None
        # The values of facts that have been acted on.
        self._settled_data_received: float | None = None
        self._settled_data_sent: float | None = None
        self._settled_sent: float | None = None
        # What silence is counted from after a handshake that it began has brought nothing.
        self._silent_again_since: float | None = None
        self._new_handshake_jitter: float | None = None
        self._persistent_keepalive_sent_at: float | None = None
        # Another keepalive is due at the instant, unless `authenticated_sent_last` moves on from the fact.
        self._another_keepalive: tuple[float, float | None] | None = None

    def next_deadline(self) -> float | None:
        return min(self._at.values(), default=None)

    def deadline(self, timer: Timer) -> float | None:
        return self._at.get(timer)

    def is_due(self, timer: Timer, now: float) -> bool:
        at = self._at.get(timer)
        return at is not None and at <= now

    # --- what the kernel's hooks report ---

    def gate_is_open(self, now: float) -> bool:
        opens_at = gate_opens_at(self.handshake_sent_at)
        return opens_at is None or now >= opens_at

    def open_gate(self) -> None:
        self.handshake_sent_at = None

    def handshake_initiated(self, sent_last: float | None, now: float) -> None:
        """An initiation was sent; `sent_last` is the engine's `authenticated_sent_last` after that."""
        self._handshake_sent(sent_last, now)
        self._at.pop(Timer.WAIT_FOR_GATE, None)
        self._at[Timer.RETRANSMIT_HANDSHAKE] = retransmit_handshake_deadline(now, self._jitter())

    def handshake_responded(self, sent_last: float | None, gives_way: bool, now: float) -> None:
        """A response was sent: it closes the gate as an initiation does.

        If a retry of our own is pending, both ends have initiated, each has responded, and neither will
        accept the other's response. One of the two retries is enough, but sent within one way of each other
        they would cross again, and again: so it is put off to the opening of the gate, and for the end that
        gives way (the larger static key) to a second later.
        """
        self._handshake_sent(sent_last, now)
        if Timer.RETRANSMIT_HANDSHAKE in self._at:
            self._at[Timer.RETRANSMIT_HANDSHAKE] = after_gate_deadline(now, gives_way)

    def handshake_complete(self) -> None:
        """A response was consumed, or the peer's first packet with the new keypair came."""
        self.attempts = 0
        self._at.pop(Timer.RETRANSMIT_HANDSHAKE, None)
        self._at.pop(Timer.WAIT_FOR_GATE, None)

    def session_derived(self, now: float) -> None:
        """There are new transport keys."""
        self._at[Timer.ZERO_KEY_MATERIAL] = zero_key_material_deadline(now)

    def persistent_keepalive_sent(self, now: float) -> None:
        """One was tried; the next is due an interval later even if this one found no key."""
        self._persistent_keepalive_sent_at = now

    # --- what happens at a deadline ---

    def retransmit_handshake_expired(self, now: float) -> bool | None:
        """True: send another initiation. False: attempts are given up. None: not yet, the gate is closed.

        A retry that the gate refuses is put off to its opening. Dropped, as the kernel does, it ends the
        chain.
        """
        opens_at = gate_opens_at(self.handshake_sent_at)
        if opens_at is not None and now < opens_at:
            self._at[Timer.RETRANSMIT_HANDSHAKE] = opens_at
            return None
        del self._at[Timer.RETRANSMIT_HANDSHAKE]
        if self.attempts > MAX_TIMER_HANDSHAKES:
            return False
        self.attempts += 1
        return True

    def handshake_given_up(self, facts: Facts, now: float) -> None:
        """The last attempt got no answer: no keepalive is owed any more, and old keys go in the end."""
        self._settled_data_received = facts.data_received_last
        self._another_keepalive = None
        self._at.pop(Timer.SEND_KEEPALIVE, None)
        self._at.setdefault(Timer.ZERO_KEY_MATERIAL, zero_key_material_deadline(now))

    def wait_for_gate(self, gives_way: bool) -> None:
        """A packet waits for a key, or a rekey is due, and the gate is closed. A retry under way will see to
        it, else we come back.
        """
        if self.handshake_sent_at is not None and Timer.RETRANSMIT_HANDSHAKE not in self._at:
            self._at[Timer.WAIT_FOR_GATE] = after_gate_deadline(self.handshake_sent_at, gives_way)

    def wait_for_gate_expired(self) -> None:
        del self._at[Timer.WAIT_FOR_GATE]

    def zero_key_material_expired(self) -> None:
        del self._at[Timer.ZERO_KEY_MATERIAL]

    def new_handshake_expired(self, facts: Facts) -> None:
        """A handshake is asked for on behalf of the data sent so far."""
        self._settled_data_sent = facts.data_sent_first
        self._settled_sent = facts.authenticated_sent_last
        self._silent_again_since = None
        self._new_handshake_jitter = None

    def send_keepalive_expired(self, before: Facts, after: Facts, now: float) -> None:
        """A keepalive was tried; `before` and `after` are the facts around that.

        When more data came after the packet that began the wait, another is due in 10 s, unless something
        else is sent before.
        """
        sent = before.authenticated_sent_last != after.authenticated_sent_last
        first, last = before.data_received_first, before.data_received_last
        if self._another_keepalive is not None:
            more_came = first is not None
        else:
            more_came = first is not None and last is not None and last > first
        again_at = send_keepalive_deadline(now)
        self._another_keepalive = (again_at, after.authenticated_sent_last) if sent and more_came else None
        self._settled_data_received = None if sent else last

    # --- facts to deadlines ---

    def observe(self, facts: Facts, persistent_keepalive: int, now: float) -> Fact:
        """Derive the deadlines that hang on the engine's facts, and say which facts to watch.

        Only what is not there is watched: a watch never reports at once what has been seen already.
        """
        self._arm(
            Timer.PERSISTENT_KEEPALIVE, self._persistent_keepalive_at(facts, persistent_keepalive, now), now
        )
        # These two, once armed, are looked at when they are due and not before: a fact that comes and goes
        # with every packet wakes us once in an interval.
        if not self._is_pending(Timer.SEND_KEEPALIVE, now):
            self._arm(Timer.SEND_KEEPALIVE, self._send_keepalive_at(facts), now)
        if not self._is_pending(Timer.NEW_HANDSHAKE, now):
            self._arm(Timer.NEW_HANDSHAKE, self._new_handshake_at(facts, now), now)
        watch = Fact(0)
        if facts.data_received_first is None and Timer.SEND_KEEPALIVE not in self._at:
            watch |= Fact.DATA_RECEIVED
        if facts.data_sent_first is None and Timer.NEW_HANDSHAKE not in self._at:
            watch |= Fact.DATA_SENT
        return watch

    def _send_keepalive_at(self, facts: Facts) -> float | None:
        if self._another_keepalive is not None:
            at, sent_last = self._another_keepalive
            if facts.authenticated_sent_last == sent_last:
                return at
            self._another_keepalive = None
        settled = self._settled_data_received
        for received_at in (facts.data_received_first, facts.data_received_last):
            if received_at is not None and (settled is None or received_at > settled):
                return send_keepalive_deadline(received_at)
        return None

    def _new_handshake_at(self, facts: Facts, now: float) -> float | None:
        data_sent_at = facts.data_sent_first
        if data_sent_at is None or data_sent_at != self._settled_data_sent:
            self._silent_again_since = None
        else:
            # That one was acted on, whatever came of it. What was sent since, with a key that still works,
            # waits anew.
            last = facts.authenticated_sent_last
            if self._silent_again_since is None and last not in (
                self._sent_with_handshake,
                self._settled_sent,
            ):
                self._silent_again_since = last
            data_sent_at = self._silent_again_since
            if data_sent_at is None and facts.current is not None and facts.current.may_send:
                # No watch tells of the next data, for the first is there: so we look.
                self._new_handshake_jitter = None
                return now + REKEY_TIMEOUT
        if data_sent_at is None:
            self._new_handshake_jitter = None
            return None
        if self._new_handshake_jitter is None:
            self._new_handshake_jitter = self._jitter()
        return new_handshake_deadline(data_sent_at, self._new_handshake_jitter)

    def _persistent_keepalive_at(self, facts: Facts, interval: int, now: float) -> float | None:
        if not interval:
            return None
        sent_at = self._persistent_keepalive_sent_at
        return persistent_keepalive_deadline(facts, now if sent_at is None else sent_at, interval)

    def _is_pending(self, timer: Timer, now: float) -> bool:
        at = self._at.get(timer)
        return at is not None and at > now

    def _arm(self, timer: Timer, at: float | None, now: float) -> None:
        if at is None:
            self._at.pop(timer, None)
        else:
            self._at[timer] = max(at, now)  # a deadline in the past is due now

    def _handshake_sent(self, sent_last: float | None, now: float) -> None:
        self.handshake_sent_at = now
        self._sent_with_handshake = sent_last

    def _jitter(self) -> float:
        return self._rng.random() * REKEY_TIMEOUT_JITTER_MAX
