"""A token bucket: so many at once, so many a second. Pure."""

from __future__ import annotations


class Bucket:
    """`burst` at once, `rate` a second for ever. Full at the start."""

    __slots__ = ("at", "level")

    def __init__(self, burst: float, now: float) -> None:
        self.level = burst
        self.at = now

    def take(self, rate: float, burst: float, now: float) -> float:
        """0 when there was one to take, else the seconds until there will be."""
        self.level = min(burst, self.level + max(0.0, now - self.at) * rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / rate
