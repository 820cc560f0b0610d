"""The first line of defence (paper §5.3): what a handshake message has to pass before the core spends a DH on
it.

Its mac1 must be right; then, under load, its mac2, for want of which it is answered with a cookie; then the
bucket of its source must have a token. Load is judged for each message from the depth of the queue it would
join; and from how many initiations come without a cookie, whether the core keeps up or not: a flood that it
could just bear would have all of a processor.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, Protocol

from wgpy.protocol.constants import UNDER_LOAD_DEPTH, UNDER_LOAD_HOLD, UNPROVEN_PER_SECOND
from wgpy.protocol.cookie import CookieChecker, MacState
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.messages import MessageType
from wgpy.protocol.ratelimiter import RateLimiter


class Defence(Protocol):
    """Judges initiations and responses that have the size of their type."""

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """Keys made of our static public key; None: no message passes."""

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """Those of one that we had before: its messages pass as well."""

    def judge(self, message: bytes, source: bytes, port: int, depth: int, now: float) -> bytes | str | None:
        """`source`: 4 or 16 octets. None: it is worth a DH. A `str` is why it is dropped, `bytes` the cookie
        reply that its sender gets instead.
        """


class FirstDefence:
    """In Python: for ends in memory, where chance is handed in. On a host it is `_engine.FirstDefence`."""

    def __init__(self, rng: RandomSource) -> None:
        self._checker: Final = CookieChecker(rng)
        self._limiter: Final = RateLimiter()
        self._under_load_at: float | None = None
        self._unproven = float(UNDER_LOAD_DEPTH)
        self._unproven_at = 0.0

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._checker.set_identity(mac1_key, cookie_key)

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._checker.set_previous_identity(mac1_key, cookie_key)

    def is_under_load(self, depth: int, now: float) -> bool:
        """An eighth of the queue is full, or was less than a second ago."""
        if depth >= UNDER_LOAD_DEPTH:
            self._under_load_at = now
            return True
        return self._under_load_at is not None and now - self._under_load_at < UNDER_LOAD_HOLD

    def judge(self, message: bytes, source: bytes, port: int, depth: int, now: float) -> bytes | str | None:
        bound_to = source + port.to_bytes(2, "big")
        state = self._checker.check(message, bound_to, now)
        if state is MacState.INVALID_MAC1:
            return "invalid mac1"
        is_under_load = self.is_under_load(depth, now)
        if not is_under_load and (message[0] != MessageType.INITIATION or self._allow_unproven(now)):
            return None
        if state is not MacState.VALID_MAC2:
            return self._checker.create_reply(message, bound_to, now)
        return None if self._limiter.allow(ip_address(source), now) else "rate limited"

    def _allow_unproven(self, now: float) -> bool:
        """Each initiation takes its part, whether it passes or not: during a flood the bucket stays empty."""
        refilled = self._unproven + (now - self._unproven_at) * UNPROVEN_PER_SECOND
        self._unproven = min(UNDER_LOAD_DEPTH, refilled)
        self._unproven_at = now
        allowed = self._unproven >= 1
        self._unproven = self._unproven - 1 if allowed else 0.0
        return allowed
