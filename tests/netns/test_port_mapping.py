"""Ports mapped on a router by miniupnpd, which home routers run."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.netns.hosts import Host, Lab
from tests.netns.meeting import path_class
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat, RoutableInternet
from tests.netns.processes import wait_until

pytestmark = pytest.mark.skipif(shutil.which("miniupnpd") is None, reason="miniupnpd is not installed")


def mapping(host: Host) -> dict[str, str] | None:
    (network,) = json.loads(host.run("wgpy", "netcheck", "--json", check=False).stdout)["networks"]
    found: dict[str, str] | None = network["port_mapping"]
    return found


@pytest.mark.parametrize(("protocols", "method"), [(("natpmp", "upnp"), "PCP"), (("upnp",), "UPnP-IGD")])
def test_a_symmetric_nat_that_maps_a_port_on_request_is_no_obstacle(
    protocols: tuple[str, ...], method: str
) -> None:
    with Lab("portmap") as lab:
        internet = RoutableInternet(lab)
        mesh = Mesh(internet)
        homes = [Home(internet, f"home{number}", Nat.SYMMETRIC) for number in (1, 2)]
        router = homes[0].router
        assert router is not None
        homes[0].offer_ports(*protocols)
        first, second = (
            Node(home.host(f"node{number}"), mesh.network) for number, home in enumerate(homes, 1)
        )
        for node in (first, second):
            node.up(mesh.token())
        for node in (first, second):
            node.wait_up()
        wait_until(lambda: first.ping(second, "v4", timeout=1), "the first ping", timeout=30)
        for one, other in ((first, second), (second, first)):
            wait_until(lambda one=one, other=other: path_class(one, other) == "direct", "a direct path")  # type: ignore[misc]
        found = mapping(first.host)
        assert found is not None
        assert found["method"] == method
        assert found["endpoint"].startswith(f"{router.ipv4}:")
        port = found["endpoint"].rpartition(":")[2]
        assert f"dport {port}" in router.run("nft", "list", "table", "inet", "offered").stdout
        assert first.agent is not None
        first.agent.stop()
        assert f"dport {port}" not in router.run("nft", "list", "table", "inet", "offered").stdout
