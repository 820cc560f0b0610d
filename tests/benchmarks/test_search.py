"""The search for the loss-free rate, on links that are functions."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from benchmarks.search import LOWEST, PRECISION, Trial, loss_free_rate


def link(capacity: float, *, sender: float = float("inf")) -> Callable[[float], Trial]:
    """Takes `capacity` datagrams a second and loses the rest; the sender offers at most `sender`."""

    def try_rate(rate: float) -> Trial:
        sent = int(min(rate, sender))
        return Trial(sent=sent, received=int(min(sent, capacity)), seconds=1.0)

    return try_rate


@pytest.mark.parametrize("capacity", [250, 9_999, 10_000, 123_456, 5_000_000])
@pytest.mark.parametrize("growth", [1.1, 2.0])
def test_the_rate_found_is_just_below_what_the_link_takes(capacity: float, growth: float) -> None:
    found = loss_free_rate(link(capacity), 10_000, growth=growth, most_trials=1000)
    assert capacity * (1 - PRECISION) * 0.99 <= found.rate <= capacity * 1.002
    assert not found.sender_bound


def test_a_good_guess_takes_few_trials() -> None:
    found = loss_free_rate(link(100_000), 97_000, growth=1.1)
    assert found.rate >= 100_000 * (1 - PRECISION)
    assert found.trials <= 8


def test_a_sender_that_can_offer_no_more_ends_the_search_and_says_so() -> None:
    found = loss_free_rate(link(1_000_000, sender=60_000), 10_000)
    assert found.sender_bound
    assert found.rate == 60_000


def test_disturbances_of_every_other_trial_decide_nothing() -> None:
    steady, calls = link(100_000), []

    def disturbed(rate: float) -> Trial:
        calls.append(rate)
        # Every second trial of a rate is spoiled by something else.
        if len(calls) % 2:
            return Trial(sent=int(rate), received=int(rate) // 2, seconds=1.0)
        return steady(rate)

    assert loss_free_rate(disturbed, 10_000).rate > 90_000


def test_a_link_that_carries_nothing_has_rate_zero() -> None:
    asked = []

    def dead(rate: float) -> Trial:
        asked.append(rate)
        return Trial(sent=int(rate), received=0, seconds=1.0)

    assert loss_free_rate(dead, 10_000).rate == 0.0
    assert min(asked) >= LOWEST


def test_trials_are_limited_even_if_the_link_makes_no_sense() -> None:
    rng = random.Random(1)
    found = loss_free_rate(
        lambda rate: Trial(int(rate), int(rate * rng.choice((0.5, 1))), 1.0), 10_000, most_trials=20
    )
    assert found.trials <= 22


def test_a_sender_that_sent_nothing_is_not_without_loss() -> None:
    assert not Trial(sent=0, received=0, seconds=1.0).is_loss_free
    assert Trial(sent=0, received=0, seconds=0.0).offered == 0.0


def test_one_in_a_thousand_is_no_loss_and_two_are() -> None:
    assert Trial(1000, 999, 1.0).is_loss_free
    assert not Trial(1000, 998, 1.0).is_loss_free


def test_what_comes_late_was_only_put_off() -> None:
    assert Trial(1000, 1000, 1.0, drain=0.05).is_loss_free
    assert not Trial(1000, 1000, 1.0, drain=0.5).is_loss_free


def test_a_sender_that_was_kept_waiting_once_does_not_end_the_search() -> None:
    steady, calls = link(100_000), []

    def starved(rate: float) -> Trial:
        calls.append(rate)
        return Trial(sent=500, received=500, seconds=1.0) if len(calls) % 2 else steady(rate)

    found = loss_free_rate(starved, 10_000, most_trials=60)
    assert found.rate > 90_000
    assert not found.sender_bound
