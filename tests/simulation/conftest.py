"""The fixtures of the simulator's tests: a world, and two hosts in it that are up and know each other."""

from __future__ import annotations

import pytest

from tests.simulation.world import Host, World

DELAY = 0.05


@pytest.fixture
def world() -> World:
    """Links of 50 ms one way."""
    return World(seed=1, delay=DELAY)


@pytest.fixture
def pair(world: World) -> tuple[Host, Host]:
    return world.add_pair()
