"""People's passwords: argon2id, beside the event loop, a few at a time.

Each costs 64 MiB and a twentieth of a second or more, which is the point; so at most two run at once, and
strangers who bring more than a queue of them are asked to come back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from coordinator.errors import Refusal

T = TypeVar("T")

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
AT_ONCE: Final = 2
QUEUE: Final = 32


def check_password(password: str, name: str) -> str:
    """The password in the form that is hashed, however it was typed. Raises Refusal `malformed`."""
    text = unicodedata.normalize("NFKC", password)
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        raise Refusal(
            "malformed", f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters: a few words will do"
        )
    if name in text.lower() and len(text) < len(name) + MIN_LENGTH:
        raise Refusal("malformed", "a password is more than the name and a little: take a few words")
    if len(set(text)) < 5:
        raise Refusal("malformed", "a password has at least five different characters: a few words will do")
    return text


class Passwords:
    """`hasher` is argon2-cffi's, with the parameters of RFC 9106's second choice: 64 MiB, 3 passes."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._workers = anyio.CapacityLimiter(AT_ONCE)
        self._queued = 0
        self._nobody: str | None = None

    async def hash(self, password: str, name: str) -> str:
        """What to store. Raises Refusal `malformed`, `busy`."""
        return await self._run(self._hasher.hash, check_password(password, name))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Takes as long for somebody who does not exist (`stored` None). Raises Refusal `busy`."""
        text = unicodedata.normalize("NFKC", password[: 4 * MAX_LENGTH])
        return await self._run(self._verify, stored, text)

    def _verify(self, stored: str | None, text: str) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash("a password that opens nothing")
        try:
            return self._hasher.verify(stored or self._nobody, text) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        if self._queued >= QUEUE:
            raise Refusal("busy", "too many are signing in at this moment: try again in a few seconds")
        self._queued += 1
        try:
            return await run_sync(function, *args, limiter=self._workers)
        finally:
            self._queued -= 1
