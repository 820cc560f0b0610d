"""Hours of random weather, with each engine: see `weather`."""

from __future__ import annotations

import pytest

from tests.simulation.native import EXTENSION, NativeWorld
from tests.simulation.weather import Weather
from tests.simulation.world import World

TEN_MINUTES = 1 / 6
DAY = 24
SEEDS_A_TEST = 500
DAYS_A_TEST = 10

needs_native = pytest.mark.skipif(not EXTENSION.exists(), reason="not built: .ci/prepare test")
WORLDS = [pytest.param(World, id="portable"), pytest.param(NativeWorld, id="native", marks=needs_native)]
each_engine = pytest.mark.parametrize("make_world", WORLDS)


def run(seed: int, hours: float, make_world: type[World]) -> Weather:
    weather = Weather(seed, make_world)
    try:
        weather.run(hours)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return weather


@each_engine
@pytest.mark.parametrize("seed", range(25))
def test_ten_minutes_of_random_weather_keep_the_protocols_bounds(seed: int, make_world: type[World]) -> None:
    assert run(seed, TEN_MINUTES, make_world).arrivals


@each_engine
def test_the_same_seed_is_the_same_schedule(make_world: type[World]) -> None:
    schedules = [run(seed, 1, make_world).schedule for seed in (7, 7, 8)]
    assert schedules[0] == schedules[1] != schedules[2]


@each_engine
def test_a_day_of_random_weather_keeps_the_protocols_bounds(make_world: type[World]) -> None:
    weather = run(2026, DAY, make_world)
    assert weather.reboots
    assert weather.must_arrive > 1000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@each_engine
@pytest.mark.parametrize("first", range(0, 100, DAYS_A_TEST))
def test_a_hundred_days_of_random_weather_keep_the_protocols_bounds(
    first: int, make_world: type[World]
) -> None:
    for seed in range(first, first + DAYS_A_TEST):
        run(seed, DAY, make_world)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@each_engine
@pytest.mark.parametrize("first", range(0, 10_000, SEEDS_A_TEST))
def test_ten_thousand_seeds_of_ten_minutes_keep_the_protocols_bounds(
    first: int, make_world: type[World]
) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run(seed, TEN_MINUTES, make_world)
