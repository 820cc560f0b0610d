"""The fixtures of the simulator's tests: a world, and two hosts in it that are up and know each other; all
with each engine.
"""

from __future__ import annotations

import pytest

from tests.simulation.native import EXTENSION, NativeWorld
from tests.simulation.world import Host, World

DELAY = 0.05

needs_native = pytest.mark.skipif(not EXTENSION.exists(), reason="not built: .ci/prepare test")


@pytest.fixture(
    params=[
        pytest.param(World, id="portable"),
        pytest.param(NativeWorld, id="native", marks=needs_native),
    ]
)
def make_world(request: pytest.FixtureRequest) -> type[World]:
    """Worlds whose hosts have one of the engines."""
    kind: type[World] = request.param
    return kind


@pytest.fixture
def world(make_world: type[World]) -> World:
    """Links of 50 ms one way."""
    return make_world(seed=1, delay=DELAY)


@pytest.fixture
def pair(world: World) -> tuple[Host, Host]:
    return world.add_pair()
