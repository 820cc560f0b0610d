"""Nodes behind routers of every kind, with real processes and nftables. `make nat-matrix` has every pair."""

from __future__ import annotations

import pytest

from tests.netns.hosts import Lab
from tests.netns.meeting import PAIRS, MeetingGround

SOME = (
    "port moved – port moved",
    "address-restricted – symmetric",
    "firewall – double NAT",
    "IPv6 only – IPv6 only",
    "one LAN behind symmetric",
    "symmetric – symmetric",
    "symmetric – TCP 443 only",
    "symmetric – port mapping",
)
"""Of each way to find each other one; what takes the longest."""


@pytest.mark.parametrize("name", SOME)
def test_two_nodes_find_the_best_path_that_their_routers_allow(name: str) -> None:
    with Lab("nat") as lab:
        meeting = MeetingGround(lab).meet(PAIRS[name], patience=20)
        assert meeting.is_as_expected, meeting
        assert meeting.first_ping is not None, meeting
