"""Transport keypairs and the three slots they move through (paper §6, kernel noise.c).

A peer has `current`, which sends; `previous`, which still receives what was under way when it was replaced;
and `next`, which a responder made but may not send with until a message proves that the initiator has it too.

The keys themselves, the sending counter and the replay window are an object of the engine's
(`wgpy._engine.Session`), so that nothing here touches key bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from wgpy.protocol.constants import (
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_AFTER_TIME_RECEIVING,
)


class TransportKeys(Protocol):
    """The keys of one session, both directions, with what is counted under them."""

    @property
    def local_index(self) -> int: ...
    @property
    def remote_index(self) -> int: ...
    @property
    def is_initiator(self) -> bool: ...
    @property
    def created_at(self) -> float:
        """When the handshake ended, on the boot-time clock."""

    @property
    def counter(self) -> int:
        """The counter that the next packet is sent with."""

    def wipe(self) -> None:
        """Overwrite the keys; from then on they neither seal nor open."""


class Keypair:
    """A session in one of the slots, and what was decided about it."""

    __slots__ = ("expired", "keys", "rekey_said_on_receive", "rekey_said_on_send")

    def __init__(self, keys: TransportKeys) -> None:
        self.keys = keys
        self.expired = False
        """Told to stop sending: the identity changed."""
        self.rekey_said_on_send = False
        self.rekey_said_on_receive = False

    def __repr__(self) -> str:
        return f"<Keypair {self.keys.local_index:08x}>"

    def may_send(self, now: float) -> bool:
        return (
            not self.expired
            and self.keys.counter < REJECT_AFTER_MESSAGES
            and now < self.keys.created_at + REJECT_AFTER_TIME
        )

    def is_due_on_send(self, now: float) -> bool:
        """A packet was sent: does that ask for a new handshake? A responder's age never does."""
        return not self.expired and (
            self.keys.counter > REKEY_AFTER_MESSAGES
            or (self.keys.is_initiator and now >= self.keys.created_at + REKEY_AFTER_TIME)
        )

    def is_due_on_receive(self, now: float) -> bool:
        """A packet was received: is it the last chance to replace this keypair before it is too old?"""
        return (
            not self.expired
            and self.keys.is_initiator
            and now >= self.keys.created_at + REKEY_AFTER_TIME_RECEIVING
        )


class KeypairSlots:
    """`current`, `previous`, `next`. A change returns the keypairs that fell out, whose indices are free."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.current: Keypair | None = None
        self.previous: Keypair | None = None
        self.next: Keypair | None = None

    def __iter__(self) -> Iterator[Keypair]:
        return (keypair for keypair in (self.current, self.previous, self.next) if keypair is not None)

    def add(self, new: Keypair) -> list[Keypair]:
        """A handshake ended. The initiator may send at once: the response proved that the responder has the
        keys.
        """
        if not new.keys.is_initiator:
            fallen = [self.next, self.previous]
            self.next, self.previous = new, None
        elif self.next is not None:
            # We were a responder too and never saw it confirmed: what the other end may be sending with is
            # `next`.
            fallen = [self.previous, self.current]
            self.previous, self.current, self.next = self.next, new, None
        else:
            fallen = [self.previous]
            self.previous, self.current = self.current, new
        return [keypair for keypair in fallen if keypair is not None]

    def received_with(self, keypair: Keypair) -> tuple[bool, list[Keypair]]:
        """A valid transport message came with this keypair: True if it confirmed `next`, which now sends."""
        if keypair is not self.next:
            return False, []
        fallen = [] if self.previous is None else [self.previous]
        self.previous, self.current, self.next = self.current, keypair, None
        return True, fallen

    def expire(self) -> None:
        """Stop sending with any of them; they still receive, until REJECT_AFTER_TIME."""
        for keypair in (self.current, self.next):
            if keypair is not None:
                keypair.expired = True

    def wipe(self) -> list[Keypair]:
        fallen = [keypair for keypair in (self.current, self.previous, self.next) if keypair is not None]
        self.current = self.previous = self.next = None
        return fallen
