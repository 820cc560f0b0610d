"""Where nodes may be found, as the others are told: with proof, with real processes."""

from __future__ import annotations

import pytest

from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import wait_until
from tests.netns.test_relay import start_relay, wait_relayed

pytestmark = pytest.mark.root

ELSEWHERE = "203.0.113.9:51820"


def tried(node: Node, other: Node) -> set[str]:
    peer = node.peer(other)
    return set() if peer is None else {candidate["endpoint"] for candidate in peer["tried"]}


def test_others_hear_of_both_families_by_receipts_and_of_no_address_where_the_node_was_not_seen() -> None:
    with Lab("receipts") as lab:
        mesh = Mesh(Internet(lab), is_public=True)
        one = mesh.node("one")
        one.agent = one.host.start("wgpy", "up", mesh.token(), "--endpoint", ELSEWHERE, log="agent")
        one.wait_up()
        other = mesh.join("other")
        port = one.report()["listen_port"]
        both = {f"{one.host.ipv4}:{port}", f"[{one.host.ipv6}]:{port}"}
        wait_until(lambda: both <= tried(other, one), f"the other knows {both}", 20)
        assert ELSEWHERE not in tried(other, one)
        (problem,) = one.report()["problems"]
        assert problem == (
            f"no peer is told of --endpoint {ELSEWHERE}: this host was never seen at that address"
        )


def test_nor_does_a_node_tell_them_itself_while_a_relay_carries_their_tunnel() -> None:
    with Lab("receipts") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        start_relay(mesh, "paris")
        one, other = (
            Node(Home(mesh.internet, f"{name}-home", Nat.SYMMETRIC).host(name), mesh.network)
            for name in ("one", "other")
        )
        one.agent = one.host.start("wgpy", "up", mesh.token(), "--endpoint", ELSEWHERE, log="agent")
        other.up(mesh.token())
        for node in (one, other):
            node.wait_up()
        one.wait_reach(other)
        wait_relayed(one, other)
        wait_until(lambda: one.report()["problems"], "it is told that nobody is told")
        # Of this address the other can hear by the tunnel alone.
        mesh.serving.kill()
        one.host.ip("address add 192.168.77.7/24 dev eth0")
        new = f"192.168.77.7:{one.report()['listen_port']}"
        wait_until(lambda: new in tried(other, one), f"the other is told of {new}", 30)
        assert ELSEWHERE not in tried(other, one)
