"""The boot-time clock and timers on it."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterator

import pytest

from wgpy import _engine


@pytest.fixture
def timer() -> Iterator[int]:
    fd = _engine.timerfd_create()
    yield fd
    os.close(fd)


def is_readable(fd: int, timeout: float) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def test_the_clock_is_that_of_boot_time() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = _engine.boottime_ns()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_timer_fires_at_its_deadline_and_not_before(timer: int) -> None:
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.05
    _engine.timerfd_settime(timer, deadline)
    assert not os.get_blocking(timer)
    assert not os.get_inheritable(timer)
    assert is_readable(timer, 5)
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= deadline - 1e-6
    assert int.from_bytes(os.read(timer, 8), "little") == 1
    with pytest.raises(BlockingIOError):
        os.read(timer, 8)


@pytest.mark.parametrize("deadline", [0.0, -1.0, -math.inf, 1e-12, 1.0])
def test_a_deadline_that_is_past_fires_at_once(timer: int, deadline: float) -> None:
    _engine.timerfd_settime(timer, deadline)
    assert is_readable(timer, 5)


def test_infinity_disarms_a_timer(timer: int) -> None:
    _engine.timerfd_settime(timer, 0.0)
    assert is_readable(timer, 5)
    _engine.timerfd_settime(timer, math.inf)
    assert not is_readable(timer, 0)


def test_mistakes_raise(timer: int) -> None:
    with pytest.raises(ValueError, match="NaN"):
        _engine.timerfd_settime(timer, math.nan)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _engine.timerfd_settime(-1, 1.0)
