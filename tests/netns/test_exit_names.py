"""Names of the rest of the world while all else leaves by an exit node: asked through the tunnel, or lost.

coordinator   laptop   exit   lan: a name server of the laptop's LAN
     └──────────┴───────┴──────┴──── internet ──── router ──── server: a name server of the world
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.processes import wait_until
from tests.netns.test_gateways import Outer, join_with_exit, use_router, world
from tests.netns.test_names import World, leads_to_us, look_up, resolv_conf
from tests.netns.test_resolvers import lay_over, own_etc, run_dnsmasq, run_resolved

pytestmark = [pytest.mark.root, pytest.mark.slow]
COORDINATOR = "coordinator.example"
WORLD = "203.0.113.9"
ASK = """
import sys; from dnslib import DNSRecord
try:
    sent = DNSRecord.question(sys.argv[2]).send(sys.argv[1], 53, tcp="tcp" in sys.argv, timeout=3)
    reply = DNSRecord.parse(sent)
    print(reply.header.rcode, *[str(each.rdata) for each in reply.rr])
except OSError as error:
    print("no answer")
"""


class Place:
    """A laptop whose LAN says that www.example is 192.0.2.1, and an exit node that hears it is 192.0.2.80."""

    def __init__(self, lab: Lab) -> None:
        self.mesh = Mesh(Internet(lab), names=(COORDINATOR,))
        self.server = world(lab, self.mesh)
        self.lan = self.mesh.internet.host("lan")
        known = (f"{COORDINATOR}={self.mesh.coordinator.ipv4}", "www.example=192.0.2.1")
        self.lan_log = World.serve(self.lan, *known, "nas.lan.example=192.0.2.2")
        World.serve_at(self.server, WORLD, "www.example=192.0.2.80")
        self.exit, self.laptop = self.mesh.node("exit"), self.mesh.node("laptop")
        self.resolver_of(self.exit, WORLD)
        self.resolver_of(self.laptop, str(self.lan.ipv4))
        for node in (self.exit, self.laptop):
            use_router(node, self.mesh)
        join_with_exit(self.mesh, self.exit, self.laptop)

    @staticmethod
    def resolver_of(node: Node, address: str) -> None:
        text = f"# by the router\nnameserver {address}\nsearch lan.example\noptions timeout:1 attempts:1\n"
        (node.host.path / "resolv.conf").write_text(text)

    def asked_in_lan(self) -> int:
        return self.lan_log.read_text().count("asked")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Lab("exit-names") as lab:
        yield Place(lab)


@pytest.fixture
def laptop(place: Place) -> Iterator[Node]:
    yield place.laptop
    place.laptop.host.run(
        "wgpy", "set", "--exit-node", "none", "--exit-lan", "on", "--kill-switch", "off", "--dns", "off"
    )


def ask(host: Host, server: str, name: str, *how: str) -> str:
    """The code and what was answered, or `no answer`."""
    return host.run(sys.executable, "-c", ASK, server, name, *how).stdout.strip()


def dns(node: Node) -> dict[str, Any]:
    """What status says of names outside of the mesh."""
    found = node.status()["networks"][0]["names"]["rest"]
    assert isinstance(found, dict)
    return found


def notes(node: Node) -> str:
    return " | ".join(node.status()["networks"][0]["problems"])


def questions(outer: Outer) -> set[str]:
    """What was asked outside of the tunnel, of whomever."""
    return {line for line in outer.leaks() if line.endswith(("port 53", "port 853"))}


def test_questions_go_through_the_tunnel_to_the_exit_nodes_own_resolver(place: Place, laptop: Node) -> None:
    host, before = laptop.host, resolv_conf(laptop.host)
    assert look_up(host, "www.example") == ["192.0.2.1"]
    outer = Outer(host)
    asked = place.asked_in_lan()
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    for name in ("missing.example", "nas.lan.example", "nas", "www.example"):
        look_up(host, name)
    assert look_up(host, "exit.home.internal")
    # A program that asks the LAN's name server by itself is held back.
    for how in ((), ("tcp",)):
        assert ask(host, str(place.lan.ipv4), "www.example", *how) == "no answer"
    assert place.asked_in_lan() == asked
    assert questions(outer) == set()
    servers = [place.exit.address("v4"), place.exit.address("v6")]
    assert dns(laptop) == {"way": "exit", "servers": servers, "by": "exit"}
    assert "by the exit node exit" in host.run("wgpy", "status").stdout
    assert "name server" not in notes(laptop)
    # The LAN itself is kept.
    assert host.run("ping", "-c1", "-W2", str(place.lan.ipv4), check=False).returncode == 0

    host.run("wgpy", "set", "--exit-node", "none")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.1"], "the LAN's answers again", 20)
    host.run("wgpy", "set", "--dns", "off")
    wait_until(lambda: resolv_conf(host) == before, "the file is as it was")


def test_the_coordinators_own_name_is_asked_where_its_packets_go(place: Place, laptop: Node) -> None:
    """Outside: without it a node that knows its exit node's old place alone would never hear of the new."""
    host, lan = laptop.host, str(place.lan.ipv4)
    outer = Outer(host)
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit", "--kill-switch", "on")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    assert questions(outer) == set()
    assert look_up(host, COORDINATOR) == [str(place.mesh.coordinator.ipv4)]
    assert questions(outer) == {f"17 to {lan} port 53"}


def test_an_accepted_domain_is_asked_of_its_server_in_the_lan_while_that_is_kept(
    place: Place, laptop: Node
) -> None:
    host, lan = laptop.host, str(place.lan.ipv4)
    place.mesh.admin("names", "domain", "lan.example", lan)
    host.run("wgpy", "set", "--accept-domain", "lan.example")
    outer = Outer(host)
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit", "--kill-switch", "on")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    wait_until(lambda: look_up(host, "nas.lan.example") == ["192.0.2.2"], "the LAN's own name", 10)
    assert questions(outer) == {f"17 to {lan} port 53"}
    assert ask(host, lan, "nas.lan.example") == "no answer", "programs are held back all the same"

    # A LAN that is left out is not asked either.
    host.run("wgpy", "set", "--exit-lan", "off")
    wait_until(lambda: not look_up(host, "nas.lan.example"), "the LAN is left out", 20)
    outer = Outer(host)
    assert not look_up(host, "nas.lan.example")
    assert questions(outer) == set()
    host.run("wgpy", "set", "--accept-domain", "none")
    place.mesh.admin("names", "domain", "lan.example")


def test_with_names_off_status_tells_what_leaves_outside_and_what_is_lost(place: Place, laptop: Node) -> None:
    host, lan = laptop.host, str(place.lan.ipv4)
    before = resolv_conf(host)
    host.run("wgpy", "set", "--dns", "off", "--exit-node", "exit")
    wait_until(lambda: dns(laptop)["way"] == "outside", "status tells")
    assert look_up(host, "www.example") == ["192.0.2.1"], "off touches nothing"
    assert f"questions to the name server {lan} leave outside of the tunnel" in notes(laptop)
    host.run("wgpy", "set", "--exit-lan", "off")
    wait_until(lambda: dns(laptop)["way"] == "lost", "status tells")
    assert look_up(host, "www.example") == []
    assert f"questions to the name server {lan} are lost" in notes(laptop)
    place.resolver_of(laptop, WORLD)
    wait_until(lambda: dns(laptop)["way"] == "tunnel", "status tells")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "by the tunnel")
    assert "name server" not in notes(laptop)
    (host.path / "resolv.conf").write_text(before)


def test_an_exit_node_without_an_answer_is_passed_over_for_a_server_by_the_tunnel(
    place: Place, laptop: Node
) -> None:
    host = laptop.host
    before = resolv_conf(host)
    # Another program has the port on the exit node, and never answers.
    place.exit.host.run("wgpy", "down")
    silent = place.exit.host.start(sys.executable, "-c", SILENT, log="silent")
    silent.wait_text("silent")
    place.exit.up()
    place.exit.wait_up()
    wait_until(lambda: "cannot answer names" in notes(place.exit), "the exit node says so")
    outer = Outer(host)
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit")
    laptop.wait_reach(place.exit)
    wait_until(lambda: leads_to_us(host), "our names are asked for")
    wait_until(lambda: not look_up(host, "www.example") and dns(laptop)["way"] == "lost", "lost", 30)
    assert "the exit node exit answers no names" in notes(laptop)
    assert look_up(host, "www.example") == []
    place.resolver_of(laptop, WORLD)
    wait_until(lambda: leads_to_us(host), "our names are asked for again")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "by the tunnel", 20)
    assert dns(laptop) == {"way": "tunnel", "servers": [WORLD], "by": "exit"}
    assert "answers no names" not in notes(laptop)
    assert questions(outer) == set()
    silent.kill()
    host.run("wgpy", "set", "--exit-node", "none", "--dns", "off")
    assert resolv_conf(host).count(WORLD) == 1
    (host.path / "resolv.conf").write_text(before)
    place.exit.host.run("wgpy", "down")
    place.exit.up()
    place.exit.wait_up()


SILENT = """
import socket, time
held = [socket.socket(family, kind) for family in (socket.AF_INET, socket.AF_INET6) for kind in (1, 2)]
for each in held:
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    each.bind(("", 53))
    if each.type == socket.SOCK_STREAM:
        each.listen()
print("silent", flush=True)
time.sleep(3600)
"""


def test_after_kill_9_nothing_is_asked_outside_until_it_is_put_right(place: Place, laptop: Node) -> None:
    host, before = laptop.host, resolv_conf(laptop.host)
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    assert laptop.agent is not None
    laptop.agent.kill()
    outer, asked = Outer(host), place.asked_in_lan()
    assert look_up(host, "www.example") == []
    assert (questions(outer), place.asked_in_lan()) == (set(), asked)
    host.run("wgpy", "doctor", "--repair", check=False)
    assert resolv_conf(host) == before
    assert look_up(host, "www.example") == ["192.0.2.1"]
    laptop.up()
    laptop.wait_up()
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the choice is kept", 30)


def test_systemd_resolved_asks_nobody_on_another_link(place: Place) -> None:
    """Not even where the LAN's link is to be asked for everything, as NetworkManager has it."""
    node = place.mesh.node("resolved")
    host, lan = node.host, str(place.lan.ipv4)
    use_router(node, place.mesh)
    run_resolved(host)
    host.run("resolvectl", "dns", "eth0", lan)
    host.run("resolvectl", "domain", "eth0", "~.", "lan.example")
    host.run("resolvectl", "llmnr", "eth0", "no")
    before = link_of_resolved(host)
    node.up(place.mesh.token())
    node.wait_up()
    node.wait_reach(place.exit)
    host.run("wgpy", "set", "--exit-node", "exit")
    wait_until(lambda: dns(node)["way"] == "outside", "status tells")
    assert f"questions to the name server {lan} leave outside of the tunnel" in notes(node)
    assert look_up(host, "www.example") == ["192.0.2.1"], "its questions keep to the link"

    outer, asked = Outer(host), place.asked_in_lan()
    host.run("wgpy", "set", "--dns", "on")
    wait_until(lambda: "home.internal" in host.run("resolvectl", "domain", node.interface).stdout, "told", 20)
    host.run("resolvectl", "flush-caches")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    for name in ("missing.example", "nas.lan.example", "nas", "www.example"):
        look_up(host, name)
    assert look_up(host, "exit.home.internal")
    assert place.asked_in_lan() == asked
    assert questions(outer) == set()
    assert dns(node)["way"] == "exit"

    host.run("wgpy", "set", "--exit-node", "none")
    host.run("resolvectl", "flush-caches")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.1"], "the LAN's answers again", 20)
    assert "no" in host.run("resolvectl", "default-route", node.interface).stdout
    host.run("wgpy", "down")
    assert link_of_resolved(host) == before


def link_of_resolved(host: Host) -> list[str]:
    return [host.run("resolvectl", what, "eth0").stdout for what in ("dns", "domain", "default-route")]


def test_dnsmasq_of_a_router_asks_the_exit_node_for_all_names(place: Place) -> None:
    node = place.mesh.node("openwrt")
    host, lan = node.host, str(place.lan.ipv4)
    use_router(node, place.mesh)
    run_dnsmasq(host, lan)
    node.up(place.mesh.token())
    node.wait_up()
    node.wait_reach(place.exit)
    outer, asked = Outer(host), place.asked_in_lan()
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    for name in ("missing.example", "nas.lan.example", "www.example"):
        look_up(host, name)
    assert look_up(host, "exit.home.internal")
    assert (questions(outer), place.asked_in_lan()) == (set(), asked)
    host.run("wgpy", "down")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.1"], "the LAN's answers again", 20)
    assert not host.run("ls", "/tmp/dnsmasq.d").stdout


def test_servers_that_resolvconf_has_of_the_lan_are_not_asked(place: Place) -> None:
    node = place.mesh.node("resolvconf")
    host, lan = node.host, str(place.lan.ipv4)
    use_router(node, place.mesh)
    lay_over(host, "openresolv")
    own_etc(host, resolvconf_conf="resolv_conf=/etc/resolv.conf\n", resolv_conf="")
    host.run("resolvconf", "-a", "eth0", input=f"nameserver {lan}\n")
    before = resolv_conf(host)
    node.up(place.mesh.token())
    node.wait_up()
    node.wait_reach(place.exit)
    outer, asked = Outer(host), place.asked_in_lan()
    host.run("wgpy", "set", "--dns", "on", "--exit-node", "exit")
    wait_until(lambda: look_up(host, "www.example") == ["192.0.2.80"], "the exit node's resolver answers", 20)
    assert look_up(host, "missing.example") == []
    assert (questions(outer), place.asked_in_lan()) == (set(), asked)
    host.run("wgpy", "down")
    assert resolv_conf(host) == before
    assert look_up(host, "www.example") == ["192.0.2.1"]
