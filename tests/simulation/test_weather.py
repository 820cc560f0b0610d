"""Hours of random weather: see `weather`."""

from __future__ import annotations

import pytest

from tests.simulation.weather import Weather

TEN_MINUTES = 1 / 6
DAY = 24
SEEDS_A_TEST = 500


@pytest.mark.parametrize("seed", range(25))
def test_ten_minutes_of_random_weather_keep_the_protocols_bounds(seed: int) -> None:
    weather = Weather(seed)
    weather.run(TEN_MINUTES)
    assert weather.arrivals


def test_the_same_seed_is_the_same_schedule() -> None:
    schedules = []
    for seed in (7, 7, 8):
        weather = Weather(seed)
        weather.run(1)
        schedules.append(weather.schedule)
    assert schedules[0] == schedules[1] != schedules[2]


@pytest.mark.slow
def test_a_day_of_random_weather_keeps_the_protocols_bounds() -> None:
    weather = Weather(2026)
    weather.run(DAY)
    assert weather.reboots
    assert weather.arrivals > 10_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 10_000, SEEDS_A_TEST))
def test_ten_thousand_seeds_of_ten_minutes_keep_the_protocols_bounds(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        try:
            Weather(seed).run(TEN_MINUTES)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
