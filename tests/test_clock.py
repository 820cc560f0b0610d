"""The boot-time clock (docs/engine.md, rule 7)."""

from __future__ import annotations

import math
import os
import time

import pytest
import trio

from wgpy import clock


def test_boottime_counts_what_monotonic_counts_and_suspend_besides() -> None:
    counted = time.monotonic()
    before = clock.boottime()
    assert clock.boottime() >= before >= counted


def test_the_wall_clock_is_unix_time() -> None:
    assert abs(clock.wall_clock_ns() / 1e9 - time.time()) < 1


@pytest.fixture(params=["timerfd", "blind"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "blind":
        monkeypatch.setattr(clock, "_HAS_TIMERFD", False)
    elif not clock._HAS_TIMERFD:
        pytest.fail("the extension is built on Linux, and has timerfds there")


@pytest.mark.usefixtures("either_way")
async def test_sleeping_ends_at_the_deadline_and_not_before() -> None:
    deadline = clock.boottime() + 0.05
    with trio.fail_after(5):
        await clock.sleep_until(deadline)
    assert clock.boottime() >= deadline


@pytest.mark.usefixtures("either_way")
async def test_a_deadline_in_the_past_is_only_a_checkpoint() -> None:
    with trio.fail_after(1):
        await clock.sleep_until(clock.boottime() - 10)
        await clock.sleep_until(-math.inf)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("deadline", [math.inf, 1e9])
async def test_sleeping_can_be_cancelled_and_leaves_no_descriptor_open(deadline: float) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with trio.move_on_after(0.02) as scope:
        await clock.sleep_until(clock.boottime() + deadline)
    assert scope.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before
