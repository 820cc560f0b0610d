"""The highest rate at which nothing is lost, by trials: doubling until one fails, then narrowing the gap.

Pure: a trial is a function from a rate to what became of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TOLERANCE = 0.001
"""A loss of up to one in a thousand counts as none: a machine's other work costs a datagram now and then."""
PRECISION = 0.05
"""The rate found is at most this part below the highest."""
CHANCES = 3
"""Trials of a rate before it counts as too high."""
MOST_DRAIN = 0.1
"""What was sent has to have come by this part of the sending time after its end."""
SHORTFALL = 0.85
"""A sender that offers less than this part of what was asked has reached its own limit."""
LOWEST = 100.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rate came to: datagrams offered, received, seconds of sending, and until the last came.

    `reordered` of those received had been overtaken by one that was sent later.
    """

    sent: int
    received: int
    seconds: float
    drain: float = 0.0
    reordered: int = 0

    @property
    def offered(self) -> float:
        """Datagrams a second."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def is_loss_free(self) -> bool:
        """Neither lost nor merely put off: a queue that fills up only hides the loss of a longer trial."""
        return (
            self.sent > 0
            and self.received >= self.sent * (1 - TOLERANCE)
            and self.drain <= self.seconds * MOST_DRAIN
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The highest rate without loss, in datagrams a second; 0 when even the lowest lost some.

    `sender_bound`: the sender could offer no more, so the rate is a lower bound.
    """

    rate: float
    sender_bound: bool
    trials: int


def loss_free_rate(
    try_rate: Callable[[float], Trial], first: float, *, growth: float = 2.0, most_trials: int = 24
) -> Found:
    """Search from `first` on, in steps of `growth` until both a good and a bad rate are known.

    A rate that loses gets further chances: a disturbance by something else decides nothing.
    """
    trials = 0

    def succeeds(rate: float) -> Trial | None:
        nonlocal trials
        starved = None
        lost = False
        for _ in range(CHANCES):
            trials += 1
            trial = try_rate(rate)
            if not trial.is_loss_free:
                lost = True
            elif trial.offered >= rate * SHORTFALL:
                return trial
            elif starved is None or trial.offered > starved.offered:
                starved = trial
        # A sender that was kept waiting now and then proves nothing; one that never keeps up is at its limit.
        return None if lost else starved

    good, bad = 0.0, math.inf
    rate = max(first, LOWEST)
    while trials < most_trials and bad > good * (1 + PRECISION) and rate >= LOWEST:
        trial = succeeds(rate)
        if trial is None:
            bad = rate
        else:
            good = max(good, trial.offered)
            if trial.offered < rate * SHORTFALL:
                return Found(good, True, trials)
        if not good:
            rate = bad / growth
        elif math.isinf(bad):
            # From the offered rate: the sender may have fallen short a little.
            rate = good * growth
        else:
            rate = math.sqrt(good * bad)
    return Found(good, False, trials)
