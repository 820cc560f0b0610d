"""What breaks between two nodes heals by itself. `python -m benchmarks.breaking` has every event."""

from __future__ import annotations

import pytest

from tests.netns.breaking import BREAKS, heal
from tests.netns.hosts import Lab
from tests.netns.meeting import MeetingGround

SOME = (
    "both ends get other addresses at once",
    "the cable between the two is unplugged",
)
GAP: float = 10.0
"""Seconds. The goal is 3, on a machine that has nothing else to do."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_two_nodes_find_each_other_again(name: str) -> None:
    with Lab("breaking") as lab:
        healing = heal(MeetingGround(lab), BREAKS[name])
        assert healing.gap is not None, healing
        assert healing.gap < GAP, healing
        assert healing.best_path is not None, healing
