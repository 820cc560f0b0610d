"""Whatever breaks between two nodes: data goes on while any path works, and by the best one soon after."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.path_weather import PathWeather
from wgpy.mesh.paths import PathKind

EVENTS = {
    "LAN cut": lambda world: world.lan_is_up.__setitem__(slice(None), [False, False]),
    "LAN cut one way": lambda world: world.lan_is_up.__setitem__(0, False),
    "LAN back": lambda world: world.lan_is_up.__setitem__(slice(None), [True, True]),
    "direct cut": lambda world: world.direct_is_up.__setitem__(slice(None), [False, False]),
    "direct cut one way": lambda world: world.direct_is_up.__setitem__(1, False),
    "direct back": lambda world: world.direct_is_up.__setitem__(slice(None), [True, True]),
    "first rebound": lambda world: world.rebind(0),
    "second rebound": lambda world: world.rebind(1),
    "first moves": lambda world: world.move(0),
    "second moves": lambda world: world.move(1),
    "coordinator away": lambda world: setattr(world, "coordinator_is_up", False),
}
"""The relay works all the time, so that some path always does."""


def calm(*, same_lan: bool, has_relay: bool = True) -> PathWeather:
    world = PathWeather(same_lan=same_lan, has_relay=has_relay)
    world.run(20.0)
    return world


@pytest.mark.parametrize("same_lan", [True, False])
def test_two_nodes_begin_by_the_relay_and_have_the_best_path_within_a_second(same_lan: bool) -> None:
    world = PathWeather(same_lan=same_lan)
    world.run(1.0)
    best = PathKind.LAN if same_lan else PathKind.DIRECT
    assert world.kinds() == [best, best]
    assert world.longest_gap(0.0) < 0.5


@pytest.mark.parametrize("same_lan", [True, False])
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_alone_leaves_a_gap_under_three_seconds(event: str, same_lan: bool) -> None:
    world = calm(same_lan=same_lan)
    at = world.now
    EVENTS[event](world)
    world.run(30.0)
    assert world.longest_gap(at) < 3.0


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0.0, 12.0)), min_size=1, max_size=8),
)
def test_after_any_weather_the_best_path_is_back_within_a_minute_and_a_quiet_mesh_is_quiet(
    same_lan: bool, weather: list[tuple[str, float]]
) -> None:
    world = calm(same_lan=same_lan)
    at = world.now
    for event, pause in weather:
        EVENTS[event](world)
        world.run(pause)
    world.mend()
    world.run(62.0)
    best = PathKind.LAN if same_lan else PathKind.DIRECT
    assert world.kinds() == [best, best]
    assert world.longest_gap(at) < 7.0
    asked, began = [end.asked for end in world.ends], world.now
    world.run(60.0)
    assert world.longest_gap(began) < 0.5
    for end, before in zip(world.ends, asked, strict=True):
        assert end.asked - before < 60
