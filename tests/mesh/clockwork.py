"""One path machine, its clock, and answers that are under way to it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

from wgpy.addresses import Endpoint
from wgpy.mesh.paths import PathMachine


class Clockwork(ABC):
    """Ids of PINGs count from `first_id` on. Who inherits says what becomes of actions, and adds to
    `_answers`: when, of whom, from where, what.
    """

    def __init__(self, first_id: int = 0) -> None:
        counter = itertools.count(first_id)
        self.machine = PathMachine(lambda: next(counter).to_bytes(8, "big"))
        self.now = 100.0
        self._answers: list[tuple[float, str, Endpoint, bytes]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            instants = [at for at, *_ in self._answers]
            if (deadline := self.machine.next_deadline()) is not None:
                instants.append(deadline)
            if not instants or min(instants) > end:
                break
            self.now = max(self.now, min(instants))
            due = [answer for answer in self._answers if answer[0] <= self.now]
            self._answers = [answer for answer in self._answers if answer[0] > self.now]
            for _, peer, origin, data in due:
                self.machine.handle_control(peer, origin, data, self.now)
            self.machine.handle_timeout(self.now)
            self._take()
        self.now = end

    @abstractmethod
    def _take(self) -> None:
        """Carry out the machine's actions."""
