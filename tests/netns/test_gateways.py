"""Places behind a gateway, with real processes: a NAS that every node reaches, a host left as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.places import Lan, footprint
from tests.netns.processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

FOREIGN = """
table ip filter {
  chain FORWARD { type filter hook forward priority 0; policy accept; counter; }
}
table inet mine {
  chain input { type filter hook input priority 0; policy accept; tcp dport 9 drop; }
}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("gateways") as lab:
        yield lab


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(Internet(lab))


def reaches(host: Host, address: str, timeout: int = 1) -> bool:
    return host.run("ping", "-c1", f"-W{timeout}", address, check=False).returncode == 0


def wait_reaches(node: Node, address: str, timeout: float = 20.0) -> None:
    try:
        wait_until(lambda: reaches(node.host, address), f"{node.host.name} reaches {address}", timeout)
    except Exception as error:
        status = node.host.run("wgpy", "status", check=False).stdout
        raise AssertionError(f"{error}\n{status}") from None


def network(node: Node) -> dict[str, Any]:
    [found] = node.status()["networks"]
    assert isinstance(found, dict)
    return found


def problems(node: Node) -> str:
    return " | ".join(network(node)["problems"])


def listed(mesh: Mesh) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mesh.admin("gateway", "list", "--json"))
    return found


def wait_active(mesh: Mesh, count: int) -> None:
    wait_until(
        lambda: [row["state"] for row in listed(mesh)].count("active") == count,
        f"{count} ranges are active",
    )


def test_a_nas_behind_a_gateway_is_reached_and_the_gateway_is_left_as_it_was(lab: Lab, mesh: Mesh) -> None:
    lan = Lan(lab, "lan")
    nas = lan.machine("nas", 10)
    gateway, laptop = mesh.node("gateway"), mesh.node("laptop")
    lan.plug(gateway.host, 1)
    gateway.host.run("nft", "-f", "-", input=FOREIGN)
    before, laptop_before = footprint(gateway.host), footprint(laptop.host)
    for node in (gateway, laptop):
        node.up(mesh.token())
        node.wait_up()

    # The admin names the ranges; the host has to agree.
    out = mesh.admin("gateway", "add", "gateway", "192.168.1.0/24,fd12:1::/64")
    assert "wgpy set --advertise 192.168.1.0/24" in out
    wait_until(lambda: "this host has not agreed" in problems(gateway), "the gateway says what it waits for")
    assert "192.168.1.0" not in laptop.host.run("ip", "route").stdout
    gateway.host.run("wgpy", "set", "--advertise", "192.168.1.0/24,fd12:1::/64")
    wait_active(mesh, 2)
    wait_reaches(laptop, "192.168.1.10")
    wait_reaches(laptop, "fd12:1::a")
    assert "192.168.1.0/24 dev wg-home" in laptop.host.run("ip", "route").stdout
    shown = laptop.host.run("wgpy", "status").stdout
    assert "192.168.1.0/24" in shown
    assert "forwards     192.168.1.0/24, fd12:1::/64" in gateway.host.run("wgpy", "status").stdout

    # A member that helps itself to more is stopped at the gateway, not by its own routes.
    other = Lan(lab, "other", "192.168.2.0/24", "fd12:2::/64")
    other.machine("secret", 10)
    other.plug(gateway.host, 1, "eth2")
    key = str(network(gateway)["public_key"])
    ranges = "10.0.0.0/8,192.168.0.0/16,fd00::/8"
    laptop.host.run("wg", "set", "wg-home", "peer", key, "allowed-ips", ranges)
    laptop.host.run("ip", "route", "add", "192.168.2.0/24", "dev", "wg-home")
    assert reaches(laptop.host, "192.168.1.10", 5)
    assert not reaches(laptop.host, "192.168.2.10", 1)
    laptop.host.run("ip", "route", "delete", "192.168.2.0/24", "dev", "wg-home")
    gateway.host.ip("link delete eth2")

    # Somebody flushes our table, and our foreign neighbour adds a rule: put right, and left alone.
    gateway.host.run("nft", "delete", "table", "inet", "wgpy-wg-home")
    wait_until(
        lambda: "masquerade" in gateway.host.run("nft", "list", "ruleset").stdout, "the table is back", 5
    )
    gateway.host.run("nft", "add", "rule", "inet", "mine", "input", "tcp", "dport", "10", "drop")
    wait_reaches(laptop, "192.168.1.10")

    # kill -9, and the next start; then down.
    assert gateway.agent is not None
    gateway.agent.kill()
    gateway.up()
    gateway.wait_up()
    wait_reaches(laptop, "192.168.1.10")
    gateway.host.run("wgpy", "down")
    after = footprint(gateway.host)
    assert "tcp dport 10 drop" in after["firewall"]
    gateway.host.run(
        "sh", "-c", "nft flush chain inet mine input; nft add rule inet mine input tcp dport 9 drop"
    )
    assert footprint(gateway.host) == before

    # kill -9, and doctor.
    gateway.up()
    gateway.wait_up()
    wait_until(lambda: "masquerade" in footprint(gateway.host)["firewall"], "it forwards again")
    gateway.agent.kill()
    assert footprint(gateway.host) != before
    assert "gateway add" not in (said := gateway.host.run("wgpy", "doctor", check=False).stdout)
    assert "home was killed and left changes here" in said
    repaired = gateway.host.run("wgpy", "doctor", "--repair", check=False).stdout
    assert "repair: home: delete the nftables table inet wgpy-wg-home" in repaired
    assert footprint(gateway.host) == before

    # leave, on the other side.
    laptop.host.run("wgpy", "leave")
    assert footprint(laptop.host) == laptop_before
    assert nas.run("ip", "route").stdout.count("\n") == 1


def test_without_nat_both_sides_begin_and_the_lan_sees_real_addresses(lab: Lab, mesh: Mesh) -> None:
    lan = Lan(lab, "lan")
    nas = lan.machine("nas", 10)
    gateway = mesh.node("gateway")
    lan.plug(gateway.host, 1)
    gateway.up(mesh.token())
    gateway.wait_up()
    laptop = mesh.join("laptop")
    # Offered by the node, then approved.
    gateway.host.run("wgpy", "set", "--advertise", "192.168.1.0/24")
    wait_until(lambda: [row["state"] for row in listed(mesh)] == ["pending"], "it is offered")
    mesh.admin("gateway", "add", "gateway", "192.168.1.0/24", "--no-nat", "--interface", "eth1")
    wait_active(mesh, 1)
    mesh_route = f"{laptop.address('v4')}/32"
    nas.run("ip", "route", "add", mesh_route, "via", "192.168.1.1")
    wait_reaches(laptop, "192.168.1.10")
    # And the LAN reaches the node: its route is the admin's.
    assert reaches(nas, laptop.address("v4"), 5)
    # A range withdrawn is gone everywhere at once.
    mesh.admin("gateway", "remove", "gateway", "192.168.1.0/24")
    wait_until(lambda: "192.168.1.0" not in laptop.host.run("ip", "route").stdout, "the route is gone")
    wait_until(lambda: "wgpy" not in gateway.host.run("nft", "list", "ruleset").stdout, "the table is gone")


def test_the_same_lan_in_two_places_is_reached_under_two_ranges(lab: Lab, mesh: Mesh) -> None:
    nodes, virtual = [], []
    for number in (1, 2):
        lan = Lan(lab, f"lan{number}")
        nas = lan.machine(f"nas{number}", 10)
        nas.run("sh", "-c", f"mkdir -p /run/www; echo nas{number} > /run/www/name")
        nas.start("python3", "-m", "http.server", "80", "--directory", "/run/www", log="www")
        node = mesh.node(f"gateway{number}")
        lan.plug(node.host, 1)
        node.up(mesh.token())
        node.wait_up()
        node.host.run("wgpy", "set", "--advertise", "any")
        nodes.append(node)
    laptop = mesh.join("laptop")
    for number in (1, 2):
        virtual.append(f"10.200.{number}.0/24")
        mesh.admin("gateway", "add", f"gateway{number}", "192.168.1.0/24", "--virtual", virtual[-1])
    wait_active(mesh, 2)

    def name(address: str) -> str:
        url = f"http://{address}/name"
        script = f"import urllib.request as r; print(r.urlopen('{url}', timeout=2).read().decode().strip())"
        return laptop.host.run("python", "-c", script, check=False).stdout.strip()

    for number in (1, 2):
        address = f"10.200.{number}.10"
        wait_until(lambda a=address, n=number: name(a) == f"nas{n}", f"{address} is nas{number}", 20)  # type: ignore[misc]
    # The gateways reach each other's LAN as well, though it has the addresses of their own.
    wait_reaches(nodes[0], "10.200.2.10")


def test_a_range_that_is_ones_own_lan_too_is_not_taken_and_both_sides_are_named(lab: Lab, mesh: Mesh) -> None:
    lan, home = Lan(lab, "lan"), Lan(lab, "home", ipv6="fd99::/64")
    gateway, laptop = mesh.node("gateway"), mesh.node("laptop")
    lan.plug(gateway.host, 1)
    home.plug(laptop.host, 7)
    home.machine("printer", 10)
    for node in (gateway, laptop):
        node.up(mesh.token())
        node.wait_up()
    gateway.host.run("wgpy", "set", "--advertise", "any")
    mesh.admin("gateway", "add", "gateway", "192.168.1.0/24")
    wait_active(mesh, 1)

    def refusals() -> str:
        return " ".join(text for peer in network(laptop)["peers"] for text in peer["refused"])

    wait_until(lambda: "192.168.1.0/24 behind gateway overlaps 192.168.1.0/24 of eth1" in refusals(), "said")
    assert reaches(laptop.host, "192.168.1.10")
    assert "dev eth1" in laptop.host.run("ip", "route", "get", "192.168.1.10").stdout
    # What a node does not want it does not take.
    home.switch.ip("link set br0 down")
    laptop.host.ip("link delete eth1")
    wait_until(
        lambda: "192.168.1.0/24 dev wg-home" in laptop.host.run("ip", "route").stdout, "it is free now"
    )
    laptop.host.run("wgpy", "set", "--refuse", "192.168.1.0/24")
    assert "192.168.1.0" not in laptop.host.run("ip", "route").stdout
    preview = laptop.host.run("wgpy", "set", "--dry-run", "--accept", "192.168.1.0/24").stdout
    assert "let gateway have 192.168.1.0/24" in preview
    assert "add the route 192.168.1.0/24 by wg-home" in preview
    laptop.host.run("wgpy", "set", "--accept", "192.168.1.0/24", "--accept-routes", "off")
    assert "192.168.1.0/24 dev wg-home" in laptop.host.run("ip", "route").stdout
