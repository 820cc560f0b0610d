"""A token bucket: so many at once, so many a second. Pure."""

from __future__ import annotations


class Bucket:
    """`burst` at once, `rate` a second for ever. Full at the start."""

    __slots__ = ("at", "level")

    def __init__(self, burst: float, now: float) -> None:
        self.level = burst
        self.at = now

    def take(self, rate: float, burst: float, now: float, count: int = 1, leave: int = 0) -> float:
        """0 when there were `count` to take and `leave` more for others, else the seconds until there are."""
        self.level = min(burst, self.level + max(0.0, now - self.at) * rate)
        self.at = now
        if self.level >= count + leave:
            self.level -= count
            return 0.0
        return (count + leave - self.level) / rate
