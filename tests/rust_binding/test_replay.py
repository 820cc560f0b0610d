"""The replay window (RFC 6479): edges, duplicates, jumps, the reject limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy._engine import ReplayWindow

WINDOW = 8128
LIMIT = WINDOW + 1
REJECT = 2**64 - 2**13 - 1


@pytest.mark.parametrize(
    "cases",
    [
        [(0, True), (0, False), (1, True), (9, True), (8, True), (7, True), (7, False), (1, False)],
        [(LIMIT, True), (LIMIT - 1, True), (LIMIT - 1, False), (1, True), (1, False), (0, False)],
        [(LIMIT, True), (LIMIT + 1, True), (1, False), (2, True), (2, False)],
        [(0, True), (3 * LIMIT, True), (2 * LIMIT, False), (2 * LIMIT + 1, True), (0, False)],
        [(63, True), (64, True), (2**40, True), (64, False), (2**40 - WINDOW, True), (2**40 - LIMIT, False)],
        [
            (REJECT, False),
            (2**64 - 1, False),
            (0, True),
            (REJECT - 1, True),
            (REJECT - 1, False),
            (REJECT, False),
        ],
        [(REJECT - 1, True), (REJECT - 1 - WINDOW, True), (REJECT - 1 - LIMIT, False), (REJECT - 2, True)],
    ],
)
def test_each_counter_is_new_once_and_only_within_the_window(cases: list[tuple[int, bool]]) -> None:
    window = ReplayWindow()
    assert [(counter, window.check_and_set(counter)) for counter, _ in cases] == cases


@given(
    st.lists(st.tuples(st.integers(-2 * LIMIT, 2 * LIMIT), st.integers(0, 2))),
    st.sampled_from([0, 2**32, 2**63]),
)
def test_random_walks_agree_with_a_set(steps: list[tuple[int, int]], start: int) -> None:
    window = ReplayWindow()
    seen: set[int] = set()
    highest = 0
    for step, scale in steps:
        counter = max(0, (highest or start) + step // 10**scale)
        expected = counter not in seen and highest - counter <= WINDOW
        assert window.check_and_set(counter) is expected
        if expected:
            seen.add(counter)
            highest = max(highest, counter)


def test_a_counter_has_64_bits() -> None:
    for counter in (-1, 2**64):
        with pytest.raises(OverflowError):
            ReplayWindow().check_and_set(counter)
