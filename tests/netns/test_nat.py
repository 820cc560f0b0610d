"""Nodes behind routers of every kind, each pair with real processes and nftables."""

from __future__ import annotations

import pytest

from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import wait_until


def join(mesh: Mesh, home: Home, name: str) -> Node:
    node = Node(home.host(name), mesh.network)
    node.up(mesh.token())
    return node


def path(node: Node) -> str:
    peers = node.status()["networks"][0]["peers"]
    return str(peers[0]["path"]) if peers else "none"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED),
        (Nat.FULL_CONE, Nat.SYMMETRIC),
        (Nat.ADDRESS_RESTRICTED, Nat.SYMMETRIC),
        (Nat.FIREWALL, Nat.PORT_RESTRICTED),
    ],
    ids=lambda nat: nat.value,
)
def test_two_homes_talk_directly_where_their_routers_allow_it(one: Nat, other: Nat) -> None:
    with Lab("nat") as lab:
        internet = Internet(lab)
        mesh = Mesh(internet)
        first = join(mesh, Home(internet, "home1", one), "node1")
        second = join(mesh, Home(internet, "home2", other), "node2")
        for node in (first, second):
            node.wait_up()
        wait_until(lambda: first.ping(second, "v4", timeout=1), "the first ping", timeout=20)
        for node in (first, second):
            wait_until(lambda node=node: path(node) == "direct", "a direct path", timeout=20)  # type: ignore[misc]


@pytest.mark.parametrize("nat", [Nat.SYMMETRIC, Nat.PORT_RESTRICTED], ids=lambda nat: nat.value)
def test_two_nodes_of_one_home_use_their_lan(nat: Nat) -> None:
    with Lab("nat") as lab:
        internet = Internet(lab)
        mesh = Mesh(internet)
        home = Home(internet, "home1", nat)
        first, second = join(mesh, home, "node1"), join(mesh, home, "node2")
        for node in (first, second):
            node.wait_up()
        wait_until(lambda: first.ping(second, "v4", timeout=1), "the first ping", timeout=20)
        for node, other in ((first, second), (second, first)):
            wait_until(lambda node=node: path(node) == "lan", "the LAN is used", timeout=20)  # type: ignore[misc]
            endpoint = node.status()["networks"][0]["peers"][0]["endpoint"]
            assert endpoint.startswith(f"{other.host.ipv4}:")
