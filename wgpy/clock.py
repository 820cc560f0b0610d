"""The two clocks (docs/engine.md, rule 7): boot-time for every interval, wall clock for what others are told.

CLOCK_BOOTTIME counts suspend, CLOCK_MONOTONIC, on which trio sleeps, does not: after a night's suspend a
timer of two minutes would still have two minutes to go. So sleeping is done on a timerfd of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import math
import os
import time
from typing import Final

import trio

try:
    from wgpy import _engine
except ImportError:  # no extension for this host
    _HAS_TIMERFD = False
else:
    _HAS_TIMERFD = hasattr(_engine, "timerfd_create")

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

LONGEST_BLIND_SLEEP: Final = 1.0
"""Without a timerfd: the longest sleep before looking at the clock again, which a suspend may have moved."""


def boottime() -> float:
    """Seconds since boot, suspend included; only differences mean something."""
    return time.clock_gettime(_CLOCK)


def wall_clock_ns() -> int:
    """Nanoseconds since 1970, for TAI64N stamps and reported handshake times alone: it may jump."""
    return time.time_ns()


async def sleep_until(deadline: float) -> None:
    """Sleep until `boottime()` is `deadline`: a checkpoint when it is past, for ever when it is infinite."""
    if deadline == math.inf:
        await trio.sleep_forever()
    if deadline <= boottime():
        await trio.lowlevel.checkpoint()
    elif _HAS_TIMERFD:
        await _sleep_on_timerfd(deadline)
    else:
        while (left := deadline - boottime()) > 0:  # noqa: ASYNC110 (the clock has no event)
            await trio.sleep(min(left, LONGEST_BLIND_SLEEP))


async def _sleep_on_timerfd(deadline: float) -> None:
    fd = _engine.timerfd_create()
    try:
        _engine.timerfd_settime(fd, deadline)
        await trio.lowlevel.wait_readable(fd)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
