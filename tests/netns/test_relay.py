"""Nodes that cannot reach each other, and the relay that carries their packets, with real processes."""

from __future__ import annotations

from typing import Any

from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import wait_until


def behind(mesh: Mesh, name: str, nat: Nat) -> Node:
    """A node behind a router of its own."""
    node = Node(Home(mesh.internet, f"{name}-home", nat).host(name), mesh.network)
    mesh.nodes[name] = node
    node.up(mesh.token())
    node.wait_up()
    return node


def wait_relayed(one: Node, other: Node) -> dict[str, Any]:
    """Until one says that it reaches the other by a relay, and that it answered; what it says."""

    def is_proven() -> dict[str, Any] | None:
        peer = one.peer(other) or {}
        return peer if "relayed: it answers there" in peer.get("reason", "") else None

    return wait_until(is_proven, f"{one.host.name} is relayed to {other.host.name}", timeout=20)


def test_two_nodes_behind_hard_nats_talk_through_the_coordinators_relay() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab))
        one, other = behind(mesh, "one", Nat.SYMMETRIC), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        peer = wait_relayed(one, other)
        assert (peer["path"], peer["endpoint"]) == ("relayed", "relay coordinator"), peer
        (relay,) = one.report()["relays"]
        assert (relay["name"], relay["state"], relay["reason"]) == ("coordinator", "up", ""), relay


def test_where_udp_is_blocked_the_relay_is_reached_over_tls_and_by_udp_once_that_passes() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), is_public=True)
        home = Home(mesh.internet, "one-home", Nat.SYMMETRIC)
        home.block_udp()
        one = Node(home.host("one"), mesh.network)
        one.up(mesh.token())
        one.wait_up()
        other = behind(mesh, "other", Nat.TCP_443_ONLY)
        one.wait_reach(other)
        assert wait_relayed(one, other)["path"] == "relayed"
        (relay,) = one.report()["relays"]
        assert relay["state"] == "up", relay
        assert relay["endpoint"] == mesh.url, relay
        home.block_udp(blocked=False)

        def uses_udp() -> bool:
            (relay,) = one.report()["relays"]
            return relay["state"] == "up" and relay["endpoint"] != mesh.url

        wait_until(uses_udp, "the relay is reached by UDP", timeout=40)
        one.wait_reach(other)
