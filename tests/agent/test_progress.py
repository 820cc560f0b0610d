"""How often `wgpy up` looks at its agent to say what changed."""

from __future__ import annotations

import pytest

from wgpy.agent.progress import LONGEST_INTERVAL, pause_after


@pytest.mark.parametrize(
    ("took", "is_ready", "pause"),
    [
        (0.0001, False, 0.25),
        (0.02, False, 2.0),
        (0.0005, True, 1.0),
        # A thousand idle peers: half of what the agent did was this look.
        (0.02, True, LONGEST_INTERVAL),
        (0.005, True, 5.0),
        # Ten thousand: never more than a hundredth of a processor.
        (0.2, True, 20.0),
    ],
)
def test_a_look_at_many_peers_is_taken_less_often(took: float, is_ready: bool, pause: float) -> None:
    assert pause_after(took, is_ready=is_ready) == pause
