"""How long a packet may be on one path: the search, by padded PINGs. Pure (docs/paths.md).

A PING of the device's MTU is answered: all is well. Where three of them are lost, a few sizes are tried
together, with a short one that tells whether the path works at all, and the longest that is answered is the
path's MTU. While data goes, what was found is checked by a PING of that size; where that is lost, all is
searched anew. Sizes are those of packets in the tunnel; a PING is sealed as a packet of its size is.
"""

from __future__ import annotations

from typing import Final

from wgpy.mesh.probe import PING_SIZE

TRIES: Final = 3
"""Of one size alone, and then of all sizes together."""
TRY_INTERVAL: Final = 0.5
"""Seconds between two of them."""
SIZES: Final = (1408, 1344, 1312, 1280, 1200, 1168)
"""Octets, multiples of 16 as all that is sealed. 1408 fits 1,500 by a relay, 1200 fits 1,280 over IPv6."""
SEARCH_INTERVAL: Final = 600.0
"""Seconds for which what was found holds."""
RETRY_INTERVAL: Final = 60.0
"""The same where nothing at all was answered."""
CHECK_INTERVAL: Final = 10.0
"""Seconds between two checks while data goes."""
DOUBT_INTERVAL: Final = 2.0
"""The same when data goes unanswered and PINGs do not: perhaps they are but shorter."""


class PathSize:
    """Of one path, as long as that is used."""

    __slots__ = ("_answered", "_began_at", "_expected", "_full", "_search_at", "_tries", "mtu", "next_at")

    def __init__(self) -> None:
        self.mtu: int | None = None
        """Octets of the longest packet that comes through. None: all that the device lets pass, as long as
        nobody knows better.
        """
        self.next_at: float | None = None
        """When `sizes` are to be sent; None: nothing is being searched."""
        self._full = 0
        self._expected = 0
        self._began_at = float("-inf")
        self._tries = 0
        self._answered = 0
        self._search_at: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether a search should begin."""
        return self.next_at is None and (self._search_at is None or now >= self._search_at)

    def is_check_due(self, interval: float, now: float) -> bool:
        """Whether nobody looked for so many seconds at whether what was found still holds."""
        return self.next_at is None and self._search_at is not None and now - self._began_at >= interval

    def begin(self, full: int, now: float, *, is_check: bool = False) -> None:
        """Search, for a device whose MTU is `full`. `is_check`: only if what was found does not hold."""
        self._full, self._tries, self._answered = full, 0, 0
        self._expected = self.mtu if is_check and self.mtu is not None else full
        self.next_at = self._began_at = now

    def forget(self) -> None:
        """The path is not used any more, or may have become another. What was found holds until it is
        searched anew.
        """
        self.next_at = self._search_at = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Octets of the PINGs that are to be sent at `next_at`; none: then the search is over."""
        if self._tries < TRIES:
            return (self._expected,)
        if self._tries >= 2 * TRIES:
            return ()
        tried = (self._full, *(size for size in SIZES if size < self._full), PING_SIZE)
        return tuple(size for size in tried if size > self._answered)

    def sent(self, now: float) -> None:
        """The `sizes` were sent, if there were any."""
        if self._answered:
            found = self._found
            # For a path that loses packets, less is believed only once all tries are over.
            if not self.sizes or self.mtu is None or (found is None or found > self.mtu):
                self.mtu = found
        if self.sizes:
            self._tries += 1
            self.next_at = now + TRY_INTERVAL
        else:
            self.next_at = None
            self._search_at = now + (SEARCH_INTERVAL if self._answered else RETRY_INTERVAL)

    def answered(self, size: int, now: float) -> None:
        """A PING of so many octets was answered, however late."""
        if size <= self._answered:
            return
        self._answered = size
        if size >= self._full:
            self.mtu, self.next_at, self._search_at = None, None, now + SEARCH_INTERVAL
        elif self._tries <= TRIES and size >= self._expected:
            self.next_at = None
        elif self.next_at is None or (self.mtu is not None and size > self.mtu):
            self.mtu = self._found

    @property
    def _found(self) -> int | None:
        found = max(self._answered, SIZES[-1])
        return None if found >= self._full else found
