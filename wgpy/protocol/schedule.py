"""Which of many peers is due next: a heap whose stale entries are passed over."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

K = TypeVar("K")


class Schedule(Generic[K]):
    """At most one instant for each key. Setting is O(log n), also for ten thousand peers."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()  # keys need not compare, and equal instants stay in order

    def set(self, key: K, at: float | None) -> None:
        """The key is due at this instant, and at no other; None: at none."""
        if self._at.get(key) == at:
            return
        if at is None:
            del self._at[key]
        else:
            self._at[key] = at
            heapq.heappush(self._heap, (at, next(self._order), key))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._heap = [(at, next(self._order), key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest instant, None when there is none."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[K]:
        """The keys due by now, earliest first; they are no longer scheduled."""
        due: list[K] = []
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
        return due

    def _drop_stale(self) -> None:
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
