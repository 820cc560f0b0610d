"""Places behind a gateway, with real processes: a NAS that every node reaches, a host left as it was."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
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


class HasHost(Protocol):
    """A node, or who else has a host of its own."""

    @property
    def host(self) -> Host: ...


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


# --- two gateways for one range -------------------------------------------------------------------


@pytest.mark.alone
def test_when_a_gateway_dies_the_other_takes_over_in_three_seconds_and_stays(lab: Lab, mesh: Mesh) -> None:
    lan = Lan(lab, "lan")
    lan.machine("nas", 10)
    gateways = []
    for number in (1, 2):
        node = mesh.node(f"gateway{number}")
        lan.plug(node.host, number)
        node.up(mesh.token())
        node.wait_up()
        node.host.run("wgpy", "set", "--advertise", "any")
        mesh.admin("gateway", "add", f"gateway{number}", "192.168.1.0/24")
        gateways.append(node)
    laptop = mesh.join("laptop")
    wait_active(mesh, 2)
    for node in gateways:
        laptop.wait_reach(node)
    wait_reaches(laptop, "192.168.1.10")

    def in_use() -> list[str]:
        return [row["node_name"] for row in listed(mesh) if row["elected"]]

    assert in_use() == ["gateway1"]
    stream = laptop.host.start("ping", "-D", "-O", "-i", "0.1", "192.168.1.10", log="stream")
    stream.wait_text("icmp_seq=20 ")
    # The power fails: no goodbye, nothing closed.
    gateways[0].host.ip("link set eth0 down")
    died = time.time()
    answers = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from", re.MULTILINE)

    def answered_after(instant: float) -> list[float]:
        return [at for at in map(float, answers.findall(stream.text())) if at > instant + 0.05]

    wait_until(lambda: answered_after(died + 0.2), "an answer by the other gateway", 10)
    gap = min(answered_after(died + 0.2)) - died
    assert gap < 3, f"{gap:.1f} s without an answer"
    # What is elected follows, and stays when the first one comes back.
    wait_until(lambda: in_use() == ["gateway2"], "the other is elected", 60)
    gateways[0].host.ip("link set eth0 up")
    wait_until(lambda: all(row["online"] for row in listed(mesh)), "both are there", 60)
    back = time.time()
    wait_until(lambda: len(answered_after(back)) > 30, "answers go on", 10)
    gaps = [later - one for one, later in itertools.pairwise(answered_after(back - 1))]
    assert max(gaps) < 1
    assert in_use() == ["gateway2"]


# --- exit nodes -----------------------------------------------------------------------------------


class Outer:
    """What leaves a host by its link, as a packet socket on the host's own end of it sees it."""

    SCRIPT = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("eth0", 0))
print("listening", flush=True)
while True:
    frame, where = raw.recvfrom(65535)
    if where[2] != 4:  # PACKET_OUTGOING
        continue
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\\x08\\x00":
        size = (packet[0] & 15) * 4
        protocol, to = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif kind == b"\\x86\\xdd":
        size, protocol, to = 40, packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        continue
    port = int.from_bytes(packet[size + 2 : size + 4], "big") if protocol in (6, 17) else 0
    print("out", protocol, to, port, flush=True)
"""

    def __init__(self, host: Host) -> None:
        self._process = host.start("python", "-c", self.SCRIPT, log=f"outer{len(host.started)}")
        self._process.wait_text("listening")

    def leaks(self, *allowed: str) -> set[str]:
        """What left for somewhere else than these addresses, but for neighbour discovery."""
        found = set()
        for line in self._process.text().splitlines():
            if line.startswith("out "):
                _, protocol, to, port = line.split()
                if to not in allowed and not to.startswith(("ff02::", "fe80:")):
                    found.add(f"{protocol} to {to} port {port}")
        return found

    def saw(self, address: str) -> bool:
        return f" {address} " in self._process.text()


def world(lab: Lab, mesh: Mesh) -> Host:
    """A router of the internet, and behind it a server that only a default route reaches."""
    router = mesh.internet.host("router")
    server = lab.host("server")
    router.ip(f"link add eth1 type veth peer name eth0 netns {server.pid}")
    router.ip(
        "link set eth1 up",
        "address add 203.0.113.1/24 dev eth1",
        "address add 2001:db8:cb::1/64 dev eth1 nodad",
    )
    server.ip(
        "link set eth0 up",
        "address add 203.0.113.9/24 dev eth0",
        "address add 2001:db8:cb::9/64 dev eth0 nodad",
    )
    server.ip("route add default via 203.0.113.1", "route add default via 2001:db8:cb::1")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return server


def use_router(node: HasHost, mesh: Mesh) -> None:
    router = mesh.internet.lab.hosts["router"]
    node.host.ip(f"route add default via {router.ipv4}", f"route add default via {router.ipv6}")


def source_seen_by(server: Host, node: HasHost, address: str) -> str:
    """As whom the server sees this node; "" when it does not come through."""
    script = f"""
import socket
s = socket.create_connection(({address!r}, 7000), 3)
print(s.recv(100).decode())
"""
    return node.host.run("python", "-c", script, check=False, timeout=20).stdout.strip()


SERVE = """
import socket
s = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("serving", flush=True)
while True:
    c, who = s.accept()
    c.sendall(who[0].removeprefix("::ffff:").encode())
    c.close()
"""


def join_with_exit(mesh: Mesh, exit_: Node, laptop: Node) -> None:
    """Both join, and `exit_`, which has that name, is an exit node that anybody may use."""
    for node in (exit_, laptop):
        node.up(mesh.token())
        node.wait_up()
    laptop.wait_reach(exit_)
    exit_.host.run("wgpy", "set", "--advertise", "exit")
    mesh.admin("gateway", "add", "exit", "--exit")
    wait_active(mesh, 2)


def test_all_leaves_by_the_exit_node_and_nothing_another_way(lab: Lab, mesh: Mesh) -> None:
    server = world(lab, mesh)
    server.start("python", "-c", SERVE, log="serve").wait_text("serving")
    exit_, laptop = mesh.node("exit"), mesh.node("laptop")
    for node in (exit_, laptop):
        use_router(node, mesh)
    exit_before, before = footprint(exit_.host), footprint(laptop.host)
    join_with_exit(mesh, exit_, laptop)
    assert source_seen_by(server, laptop, "203.0.113.9") == str(laptop.host.ipv4)
    laptop.host.run("wgpy", "set", "--exit-node", "exit", "--kill-switch", "on")
    wait_until(
        lambda: source_seen_by(server, laptop, "203.0.113.9") == str(exit_.host.ipv4), "IPv4 by the exit", 20
    )
    assert source_seen_by(server, laptop, "2001:db8:cb::9") == str(exit_.host.ipv6)
    assert "exit node    exit" in laptop.host.run("wgpy", "status").stdout

    # Nothing but the tunnel, to the exit node and the coordinator, is on the wire.
    outer = Outer(laptop.host)
    ours = [str(a) for h in (exit_.host, mesh.coordinator) for a in (h.ipv4, h.ipv6)]
    for address in ("203.0.113.9", "2001:db8:cb::9", "203.0.113.77"):
        source_seen_by(server, laptop, address)
        laptop.host.run("ping", "-c2", "-i0.2", "-W1", address, check=False)
    wait_until(lambda: outer.saw(str(exit_.host.ipv4)) or outer.saw(str(exit_.host.ipv6)), "tunnel packets")
    assert outer.leaks(*ours) == set()
    # The LAN is kept (the internet's switch is one), until it is not.
    assert reaches(laptop.host, str(mesh.internet.lab.hosts["router"].ipv4), 5)

    # The exit node goes: nothing comes through, and nothing gets out.
    exit_.host.ip("link set eth0 down")
    assert source_seen_by(server, laptop, "203.0.113.9") == ""
    exit_.host.ip("link set eth0 up")  # it took the IPv6 address along
    exit_.host.readdress(f"{exit_.host.ipv4}/24", f"{exit_.host.ipv6}/64")
    use_router(exit_, mesh)
    wait_until(
        lambda: source_seen_by(server, laptop, "203.0.113.9") == str(exit_.host.ipv4), "IPv4 is back", 40
    )

    # kill -9: the switch holds; doctor lifts it.
    assert laptop.agent is not None
    laptop.agent.kill()
    outer = Outer(laptop.host)
    for address in ("203.0.113.9", "2001:db8:cb::9"):
        assert source_seen_by(server, laptop, address) == ""
    router = lab.hosts["router"]  # in the LAN, which is kept
    assert outer.leaks(*ours, str(router.ipv4), str(router.ipv6)) == set()
    said = laptop.host.run("wgpy", "doctor", "--repair", check=False).stdout
    assert "delete the nftables table inet wgpy-wg-home-lock" in said
    assert source_seen_by(server, laptop, "203.0.113.9") == str(laptop.host.ipv4)
    assert footprint(laptop.host) == before

    # The choice is kept for the next start; without it all is as it was.
    laptop.up()
    laptop.wait_up()
    wait_until(
        lambda: source_seen_by(server, laptop, "203.0.113.9") == str(exit_.host.ipv4), "by the exit again", 20
    )
    laptop.host.run("wgpy", "set", "--exit-node", "none")
    assert source_seen_by(server, laptop, "203.0.113.9") == str(laptop.host.ipv4)
    laptop.host.run("wgpy", "down")
    exit_.host.run("wgpy", "down")
    assert footprint(laptop.host) == before
    assert footprint(exit_.host) == exit_before


def test_where_udp_is_blocked_the_exit_node_is_reached_by_a_relay_over_tls_that_stays_outside(
    lab: Lab,
) -> None:
    mesh = Mesh(Internet(lab), is_public=True)
    server = world(lab, mesh)
    server.start("python", "-c", SERVE, log="serve").wait_text("serving")
    exit_ = mesh.node("exit")
    use_router(exit_, mesh)
    # Not even the coordinator is in its LAN: an unmarked connection to it would go by the exit node.
    laptop = Node(Home(mesh.internet, "hotel", Nat.UDP_BLOCKED).host("laptop"), mesh.network)
    join_with_exit(mesh, exit_, laptop)

    def comes_by_the_exit() -> bool:
        return source_seen_by(server, laptop, "203.0.113.9") == str(exit_.host.ipv4)

    laptop.host.run("wgpy", "set", "--exit-node", "exit", "--kill-switch", "on")
    wait_until(comes_by_the_exit, "IPv4 by the exit", 20)
    outer = Outer(laptop.host)
    # The connection that stands was there before the exit node; this one is made while it is used.
    mesh.serving.kill()
    mesh.serve()
    wait_until(comes_by_the_exit, "IPv4 by the exit again", 40)
    peer = laptop.peer(exit_)
    assert peer is not None
    assert peer["path"] == "relayed"
    assert [relay["endpoint"] for relay in laptop.report()["relays"]] == [mesh.url]
    leaks = {each for each in outer.leaks(str(mesh.coordinator.ipv4)) if each.startswith("6 ")}
    assert leaks == set(), "of TCP nothing but the coordinator's"


# --- beside others --------------------------------------------------------------------------------

DOCKER = """
table ip filter {
  chain DOCKER-USER { }
  chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
}
"""


def test_a_firewall_that_drops_what_it_does_not_know_gets_one_rule_with_consent(lab: Lab, mesh: Mesh) -> None:
    lan = Lan(lab, "lan")
    lan.machine("nas", 10)
    gateway, laptop = mesh.node("gateway"), mesh.node("laptop")
    lan.plug(gateway.host, 1)
    gateway.host.run("nft", "-f", "-", input=DOCKER)
    before = footprint(gateway.host)
    for node in (gateway, laptop):
        node.up(mesh.token())
        node.wait_up()
    gateway.host.run("wgpy", "set", "--advertise", "any")
    mesh.admin("gateway", "add", "gateway", "192.168.1.0/24")
    wait_active(mesh, 1)
    assert "Docker (ip filter) drops what this host forwards" in problems(gateway)
    assert "Docker (ip filter) drops" in gateway.host.run("wgpy", "doctor", check=False).stdout
    laptop.wait_reach(gateway)
    assert not reaches(laptop.host, "192.168.1.10", 1)
    gateway.host.run("wgpy", "set", "--open-firewall", "on")
    wait_reaches(laptop, "192.168.1.10")
    assert (
        gateway.host.run("nft", "list", "chain", "ip", "filter", "DOCKER-USER").stdout.count("comment") == 1
    )
    # Docker makes its chains anew.
    gateway.host.run("nft", "-f", "-", input="table ip filter {}\ndelete table ip filter\n" + DOCKER)
    wait_until(lambda: reaches(laptop.host, "192.168.1.10"), "the rule is back", 10)
    gateway.host.run("wgpy", "down")
    assert footprint(gateway.host) == before


KUBE_PROXY = """
table ip kube-proxy {
  chain services {
    ip daddr 10.96.0.10 tcp dport 80 dnat to 10.244.1.7:8080
  }
  chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }
  chain output { type nat hook output priority -100; policy accept; jump services; }
}
"""


def test_pods_and_services_of_a_cluster_are_reached_through_a_node_of_it(lab: Lab, mesh: Mesh) -> None:
    node, laptop = mesh.node("worker"), mesh.node("laptop")
    pod = lab.host("pod")
    node.host.ip(f"link add cni0 type veth peer name eth0 netns {pod.pid}")
    node.host.ip("link set cni0 up", "address add 10.244.1.1/24 dev cni0")
    pod.ip("link set eth0 up", "address add 10.244.1.7/24 dev eth0", "route add default via 10.244.1.1")
    pod.run("sh", "-c", "mkdir -p /run/www; echo pod > /run/www/name")
    pod.start("python3", "-m", "http.server", "8080", "--directory", "/run/www", log="www")
    # A cluster's node has a default route, by which a service's address would leave; kube-proxy catches it.
    world(lab, mesh)
    use_router(node, mesh)
    node.host.run("nft", "-f", "-", input=KUBE_PROXY)
    for each in (node, laptop):
        each.up(mesh.token())
        each.wait_up()
    node.host.run("wgpy", "set", "--advertise", "10.244.0.0/16,10.96.0.0/12")
    mesh.admin("gateway", "add", "worker", "10.244.0.0/16,10.96.0.0/12")
    wait_active(mesh, 2)

    def fetched(url: str) -> str:
        script = f"import urllib.request as r; print(r.urlopen('{url}', timeout=2).read().decode().strip())"
        return laptop.host.run("python", "-c", script, check=False).stdout.strip()

    wait_until(lambda: fetched("http://10.244.1.7:8080/name") == "pod", "the pod answers", 20)
    wait_until(lambda: fetched("http://10.96.0.10/name") == "pod", "the service answers", 20)
