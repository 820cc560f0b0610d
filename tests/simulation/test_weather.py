"""Hours of random weather, with each engine: see `weather`."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.simulation.conftest import needs_native
from tests.simulation.native import NativeWorld
from tests.simulation.weather import Weather
from tests.simulation.world import World
from wgpy.protocol import keypairs, timers

TEN_MINUTES = 1 / 6
DAY = 24
SEEDS_A_TEST = 500
DAYS_A_TEST = 10


def run(seed: int, hours: float, make_world: type[World]) -> Weather:
    weather = Weather(seed, make_world)
    try:
        weather.run(hours)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return weather


@pytest.mark.parametrize("seed", range(25))
def test_ten_minutes_of_random_weather_keep_the_protocols_bounds(seed: int, make_world: type[World]) -> None:
    assert run(seed, TEN_MINUTES, make_world).arrivals


def test_the_same_seed_is_the_same_schedule(make_world: type[World]) -> None:
    schedules = [run(seed, 1, make_world).schedule for seed in (7, 7, 8)]
    assert schedules[0] == schedules[1] != schedules[2]


def test_a_day_of_random_weather_keeps_the_protocols_bounds(make_world: type[World]) -> None:
    weather = run(2026, DAY, make_world)
    assert weather.reboots
    assert weather.must_arrive > 1000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 100, DAYS_A_TEST))
def test_a_hundred_days_of_random_weather_keep_the_protocols_bounds(
    first: int, make_world: type[World]
) -> None:
    for seed in range(first, first + DAYS_A_TEST):
        run(seed, DAY, make_world)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 10_000, SEEDS_A_TEST))
def test_ten_thousand_seeds_of_ten_minutes_keep_the_protocols_bounds(
    first: int, make_world: type[World]
) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run(seed, TEN_MINUTES, make_world)


MUTATIONS = [
    (timers, "REKEY_TIMEOUT", 1.0),
    (timers, "REKEY_TIMEOUT", 30.0),
    (timers, "REKEY_TIMEOUT_JITTER_MAX", 3.0),
    (timers, "KEEPALIVE_TIMEOUT", 5.0),
    (timers, "KEEPALIVE_TIMEOUT", 60.0),
    (timers, "NEW_HANDSHAKE_TIMEOUT", 10.0),
    (timers, "NEW_HANDSHAKE_TIMEOUT", 60.0),
    (timers, "MAX_TIMER_HANDSHAKES", 3),
]
OF_THE_PORTABLE_ENGINE = [
    (keypairs, "REKEY_AFTER_TIME", 60.0),
    (keypairs, "REKEY_AFTER_TIME", 170.0),
    (keypairs, "REKEY_AFTER_TIME_RECEIVING", 100.0),
    (keypairs, "REKEY_AFTER_TIME_RECEIVING", 179.0),
    (keypairs, "REJECT_AFTER_TIME", 150.0),
    (keypairs, "REJECT_AFTER_TIME", 200.0),
]


@pytest.mark.parametrize(
    ("make_world", "mutation"),
    [
        *(
            pytest.param(World, each, id=f"portable-{each[1]}={each[2]}")
            for each in MUTATIONS + OF_THE_PORTABLE_ENGINE
        ),
        *(
            pytest.param(NativeWorld, each, id=f"native-{each[1]}={each[2]}", marks=needs_native)
            for each in MUTATIONS
        ),
    ],
)
def test_the_weather_notices_a_constant_that_is_not_the_papers(
    make_world: type[World], mutation: tuple[ModuleType, str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, value = mutation
    assert getattr(module, name) != value
    monkeypatch.setattr(module, name, value)
    for seed in range(200):
        try:
            run(seed, TEN_MINUTES, make_world)
        except AssertionError:
            return
    pytest.fail(f"200 times ten minutes with {name} = {value} were found in order")
