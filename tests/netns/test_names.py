"""Names of the mesh on real hosts: asked for as programs do, by getaddrinfo, and taken back.

coordinator     node1 (--dns on)     node2 (--dns off)     world: a name server that knows www.example
     └────────────────┴──────── internet ─────┴──────────────┘
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.processes import wait_until

pytestmark = pytest.mark.root
SERVER = Path(__file__).with_name("name_server.py")
BIG = ",".join(f"192.0.2.{n}" for n in range(1, 120))


class World:
    """A mesh, and somewhere outside of it a name server that all hosts ask."""

    def __init__(self, lab: Lab) -> None:
        self.internet = Internet(lab)
        self.mesh = Mesh(self.internet)
        self.server = self.internet.host("world")
        self.log = self.serve(self.server, "www.example=192.0.2.80", f"big.example={BIG}")

    @classmethod
    def serve(cls, host: Host, *names: str) -> Path:
        return cls.serve_at(host, str(host.ipv4), *names)

    @staticmethod
    def serve_at(host: Host, address: str, *names: str) -> Path:
        process = host.start(sys.executable, SERVER, address, *names, log="names")
        wait_until(lambda: "serving" in process.tail(), "the name server serves")
        return process.log

    def node(self, name: str, *options: str) -> Node:
        node = self.mesh.node(name)
        (node.host.path / "resolv.conf").write_text(self.resolv_conf(self.server))
        node.agent = node.host.start("wgpy", "up", *options, self.mesh.token(), log="agent")
        node.wait_up()
        return node

    @staticmethod
    def resolv_conf(server: Host) -> str:
        return (
            f"# by the router\nnameserver {server.ipv4}\nsearch lan.example\noptions timeout:1 attempts:1\n"
        )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab("names") as lab:
        yield World(lab)


@pytest.fixture(scope="module")
def pair(world: World) -> tuple[Node, Node]:
    first, second = world.node("node1", "--dns", "on", "--accept-domain", "corp.example"), world.node("node2")
    first.wait_reach(second)
    return first, second


def look_up(host: Host, name: str) -> list[str]:
    """Addresses by getaddrinfo; [] for none."""
    shown = host.run("getent", "ahosts", name, check=False).stdout
    return list(dict.fromkeys(line.split()[0] for line in shown.splitlines()))


def name_of(host: Host, address: str) -> str:
    """By getnameinfo; "" for none."""
    return "".join(host.run("getent", "hosts", address, check=False).stdout.split()[1:2])


def leads_to_us(host: Host) -> bool:
    return resolv_conf(host).startswith("# Written by wgpy")


def resolv_conf(host: Host) -> str:
    return host.run("cat", "/etc/resolv.conf").stdout


def test_nodes_have_names_and_addresses_lead_back_to_them(pair: tuple[Node, Node]) -> None:
    first, second = pair
    wait_until(lambda: leads_to_us(first.host), "node1's resolver is told")
    both = {second.address("v4"), second.address("v6")}
    assert set(look_up(first.host, "node2.home.internal")) == both
    assert set(look_up(first.host, "node2")) == both, "by the search domain"
    assert name_of(first.host, second.address("v4")) == "node2.home.internal"
    assert set(look_up(first.host, "node1.home.internal")) == {first.address("v4"), first.address("v6")}
    assert look_up(first.host, "nobody.home.internal") == []
    assert first.status()["networks"][0]["names"]["resolver"] == "resolv.conf"


def test_other_names_are_asked_of_those_who_were_asked_before(world: World, pair: tuple[Node, Node]) -> None:
    host = pair[0].host
    assert look_up(host, "www.example") == ["192.0.2.80"]
    assert len(look_up(host, "big.example")) == 119, "which takes TCP"
    assert look_up(host, "missing.example") == []
    asked = [line.split()[1] for line in world.log.read_text().splitlines() if line.startswith("asked")]
    assert asked, "the log has the questions"
    assert not [name for name in asked if name.endswith("home.internal")], "no name of the mesh leaves it"


def test_a_node_with_names_off_is_left_alone(world: World, pair: tuple[Node, Node]) -> None:
    assert resolv_conf(pair[1].host) == world.resolv_conf(world.server)


def test_who_comes_through_the_tunnel_gets_the_meshs_names_alone(pair: tuple[Node, Node]) -> None:
    first, second = pair
    ask = (
        "import sys; from dnslib import DNSRecord\n"
        "reply = DNSRecord.parse(DNSRecord.question(sys.argv[2]).send(sys.argv[1], 53, timeout=5))\n"
        "print(reply.header.rcode, *[str(each.rdata) for each in reply.rr])"
    )

    def asked(name: str) -> str:
        return second.host.run(sys.executable, "-c", ask, first.address("v4"), name).stdout.strip()

    assert asked("node1.home.internal") == f"0 {first.address('v4')}"
    assert asked("www.example") == "5", "refused"


def test_records_of_ones_own_are_followed_within_a_second(world: World, pair: tuple[Node, Node]) -> None:
    host, admin = pair[0].host, world.mesh.admin
    admin("names", "add", "nas", "192.0.2.7")
    admin("names", "add", "files", "nas")
    wait_until(
        lambda: look_up(host, "files.home.internal") == ["192.0.2.7"], "the record is known", timeout=5
    )
    assert "nas.home.internal" in admin("names", "list")
    admin("names", "remove", "files")
    wait_until(lambda: not look_up(host, "files.home.internal"), "the record is gone", timeout=15)
    refused = world.mesh.coordinator.run("wgpy", "coordinator", "names", "remove", "files", check=False)
    assert (refused.returncode, "there is: nas" in refused.stderr) == (2, True), refused


def test_a_domain_is_asked_of_its_own_servers_where_this_host_accepted_it(
    world: World, pair: tuple[Node, Node]
) -> None:
    corp = world.internet.host("corp")
    log = world.serve(corp, "git.corp.example=192.0.2.44", "git.other.example=192.0.2.66")
    world.mesh.admin("names", "domain", "corp.example", str(corp.ipv4))
    world.mesh.admin("names", "domain", "other.example", str(corp.ipv4))
    host = pair[0].host
    wait_until(lambda: look_up(host, "git.corp.example") == ["192.0.2.44"], "the domain's server is asked")
    assert look_up(host, "git.other.example") == [], "not accepted here"
    assert "other" not in log.read_text()
    world.mesh.admin("names", "domain", "corp.example")
    wait_until(lambda: look_up(host, "git.corp.example") == [], "the domain is forgotten")


def test_names_are_switched_off_and_on_while_the_node_runs(world: World, pair: tuple[Node, Node]) -> None:
    host = pair[0].host
    host.run("wgpy", "set", "--dns", "off")
    wait_until(lambda: resolv_conf(host) == world.resolv_conf(world.server), "the file is as it was")
    assert look_up(host, "node2.home.internal") == []
    host.run("wgpy", "set", "--dns", "on")
    wait_until(lambda: leads_to_us(host), "names are on again")
    assert look_up(host, "node2.home.internal")


def test_the_names_stay_while_the_coordinator_is_away(world: World, pair: tuple[Node, Node]) -> None:
    world.mesh.serving.kill()
    assert look_up(pair[0].host, "node2.home.internal")
    assert look_up(pair[0].host, "www.example")
    world.mesh.serve()


def test_after_a_change_of_network_the_new_resolver_is_asked_and_put_back(
    world: World, pair: tuple[Node, Node]
) -> None:
    node = pair[0]
    other = world.internet.host("elsewhere")
    world.serve(other, "www.example=192.0.2.99")
    (node.host.path / "resolv.conf").write_text(world.resolv_conf(other))
    wait_until(lambda: leads_to_us(node.host), "the file leads to us again")
    wait_until(lambda: look_up(node.host, "www.example") == ["192.0.2.99"], "the new server is asked")
    assert look_up(node.host, "node2.home.internal")
    node.host.run("wgpy", "down")
    assert resolv_conf(node.host) == world.resolv_conf(other)
    (node.host.path / "resolv.conf").write_text(world.resolv_conf(world.server))
    node.up()
    node.wait_up()
    wait_until(lambda: leads_to_us(node.host), "the choice was kept")


def test_what_a_killed_agent_left_is_put_right(world: World, pair: tuple[Node, Node]) -> None:
    node = pair[0]
    assert node.agent is not None
    for command in (("wgpy", "doctor", "--repair"), None):
        node.agent.kill()
        assert leads_to_us(node.host)
        assert look_up(node.host, "www.example"), "slower, but by the host's own server"
        if command is not None:
            node.host.run(*command, check=False)
            assert resolv_conf(node.host) == world.resolv_conf(world.server)
        node.up()
        node.wait_up()
        wait_until(lambda: leads_to_us(node.host), "names are on again")
        wait_until(lambda: look_up(node.host, "node2.home.internal"), "and answered")
    node.host.run("wgpy", "down")
    assert resolv_conf(node.host) == world.resolv_conf(world.server)
    node.up()
    node.wait_up()


def test_two_networks_on_one_host_answer_side_by_side(world: World, pair: tuple[Node, Node]) -> None:
    first, second = pair
    world.mesh.admin("network", "create", "work")
    for node, options in ((first, ("--dns", "on")), (second, ())):
        token = world.mesh.admin("token", "create", "work").split()[0]
        node.host.start("wgpy", "up", *options, token, log="work")
    wait_until(lambda: look_up(first.host, "node2.work.internal"), "names of the second network", timeout=30)
    assert look_up(first.host, "node2.home.internal")
    assert look_up(first.host, "www.example") == ["192.0.2.80"]
    first.host.run("wgpy", "down", "home")
    assert look_up(first.host, "node2.work.internal")
    assert look_up(first.host, "www.example") == ["192.0.2.80"]
    first.host.run("wgpy", "down", "work")
    assert resolv_conf(first.host) == world.resolv_conf(world.server)
