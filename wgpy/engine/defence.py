"""The first line of defence (paper §5.3): what a handshake message has to pass before the core spends a DH on
it.

Its mac1 must be right; then, under load, its mac2, for want of which it is answered with a cookie; then the
bucket of its source must have a token. Load is judged for each message from the depth of the queue it would
join; and without a cookie only so many initiations pass, whether the core keeps up or not: a flood that it
could just bear would have all of a processor.
"""

from __future__ import annotations

import enum
from typing import Final

from wgpy.protocol.actions import Origin
from wgpy.protocol.constants import UNDER_LOAD_DEPTH, UNDER_LOAD_HOLD, UNPROVEN_PER_SECOND
from wgpy.protocol.cookie import CookieChecker, MacState
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.messages import MessageType
from wgpy.protocol.ratelimiter import RateLimiter


class Verdict(enum.Enum):
    """What to do with a message."""

    PASS = enum.auto()
    INVALID_MAC1 = enum.auto()
    """Drop it."""
    COOKIE_REPLY = enum.auto()
    """Drop it, and send its sender `FirstDefence.create_reply`."""
    RATE_LIMITED = enum.auto()
    """Drop it."""


class FirstDefence:
    """Judges initiations and responses that have the size of their type."""

    def __init__(self, rng: RandomSource) -> None:
        self._checker: Final = CookieChecker(rng)
        self._limiter: Final = RateLimiter()
        self._under_load_at: float | None = None
        self._unproven = float(UNDER_LOAD_DEPTH)
        self._unproven_at = 0.0

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._checker.set_identity(mac1_key, cookie_key)

    def is_under_load(self, depth: int, now: float) -> bool:
        """An eighth of the queue is full, or was less than a second ago."""
        if depth >= UNDER_LOAD_DEPTH:
            self._under_load_at = now
            return True
        return self._under_load_at is not None and now - self._under_load_at < UNDER_LOAD_HOLD

    def judge(self, message: bytes, origin: Origin, depth: int, now: float) -> Verdict:
        state = self._checker.check(message, _source(origin), now)
        if state is MacState.INVALID_MAC1:
            return Verdict.INVALID_MAC1
        is_under_load = self.is_under_load(depth, now)
        if not is_under_load and (message[0] != MessageType.INITIATION or self._allow_unproven(now)):
            return Verdict.PASS
        if state is not MacState.VALID_MAC2:
            return Verdict.COOKIE_REPLY
        if not self._limiter.allow(origin.remote.address, now):
            return Verdict.RATE_LIMITED
        return Verdict.PASS

    def _allow_unproven(self, now: float) -> bool:
        refilled = self._unproven + (now - self._unproven_at) * UNPROVEN_PER_SECOND
        self._unproven = min(UNDER_LOAD_DEPTH, refilled)
        self._unproven_at = now
        allowed = self._unproven >= 1
        self._unproven -= allowed
        return allowed

    def create_reply(self, message: bytes, origin: Origin, now: float) -> bytes:
        """The cookie reply to a message with a valid mac1."""
        return self._checker.create_reply(message, _source(origin), now)


def _source(origin: Origin) -> bytes:
    """What a cookie is bound to."""
    return origin.remote.address.packed + origin.remote.port.to_bytes(2, "big")
