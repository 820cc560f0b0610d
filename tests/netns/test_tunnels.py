"""What the coordinator says of the tunnels is what they are: real nodes, over a line with a known delay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.hosts import Internet, Lab
from tests.netns.impairment import Impairment, Line
from tests.netns.mesh import Mesh
from tests.netns.processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

DELAY = 0.04
"""Seconds, either way, of the slow node's line."""


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Lab("tunnels") as lab:
        yield Mesh(Internet(lab))


def tunnels(mesh: Mesh) -> dict[frozenset[str], dict[str, Any]]:
    found = json.loads(mesh.admin("tunnels", mesh.network, "--json"))
    return {frozenset((pair["a_name"], pair["b_name"])): pair for pair in found}


def states(mesh: Mesh) -> dict[frozenset[str], str]:
    return {names: pair["state"] for names, pair in tunnels(mesh).items()}


def test_the_coordinator_shows_the_truth_of_the_tunnels_from_both_ends(mesh: Mesh) -> None:
    near, far = mesh.join("near"), mesh.join("far", Line(Impairment(delay=DELAY)))
    lone = mesh.join("lone")
    pairs = [frozenset(names) for names in (("near", "far"), ("near", "lone"), ("far", "lone"))]
    near.wait_reach(far)

    def all_up() -> bool:
        found = tunnels(mesh)
        return states(mesh) == dict.fromkeys(pairs, "up") and all(len(p["ends"]) == 2 for p in found.values())

    wait_until(all_up, "every pair is up from both ends", 60)
    found = tunnels(mesh)
    slow = [end["rtt_ms"] for end in found[pairs[0]]["ends"]]
    quick = [end["rtt_ms"] for end in found[pairs[1]]["ends"]]
    assert all(rtt is not None and rtt >= 2000 * DELAY for rtt in slow), slow
    assert min(quick) < min(slow)
    assert {end["path"] for pair in found.values() for end in pair["ends"]} == {"direct"}

    # What flows is seen from either side.
    near.host.run("ping", "-c20", "-i0.01", "-s1000", "-q", far.address("v4"))

    def traffic_is_told() -> bool:
        ends = tunnels(mesh)[pairs[0]]["ends"]
        return len(ends) == 2 and all(min(end["rx_bytes"], end["tx_bytes"]) > 20_000 for end in ends)

    wait_until(traffic_is_told, "both ends told of 20 echoes each way", 60)
    # A person's table says the same.
    table = mesh.admin("tunnels", mesh.network, "--node", "far")
    assert len(table.splitlines()) == 3
    assert table.splitlines()[0].split()[:4] == ["A", "B", "STATE", "PATH"]
    assert "direct" in table

    # The coordinator forgets when it is killed, and asks again.
    mesh.serving.kill()
    mesh.serve()
    wait_until(all_up, "a coordinator that started anew knows it all again", 90)

    # A node that dies takes its word along; whoever sends to it in vain says so.
    address = lone.address("v4")
    assert lone.agent is not None
    lone.agent.kill()
    near.host.run("ping", "-c1", "-W1", address, check=False)
    wait_until(lambda: states(mesh)[pairs[1]] == "down", "a tunnel to a dead node is called down", 60)
    pair = tunnels(mesh)[pairs[1]]
    words = {end["from"]: (end["path"], end["stale"]) for end in pair["ends"]}
    near_id = pair["a"] if pair["a_name"] == "near" else pair["b"]
    assert words.pop(near_id) == ("none", False)
    assert list(words.values()) == [("direct", True)]
    assert states(mesh)[pairs[0]] == "up"
