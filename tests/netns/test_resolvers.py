"""What resolves names on a host is told of ours: systemd-resolved, resolvconf, dnsmasq, each the real one.

Packages that are not installed here are laid over a host's own /usr (.ci/prepare unpacks them).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import REPOSITORY, Host, Lab
from tests.netns.mesh import Node
from tests.netns.processes import wait_until
from tests.netns.test_names import World, look_up, name_of, resolv_conf

pytestmark = pytest.mark.root
PACKAGES = REPOSITORY / ".venv" / "packages"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab("resolvers") as lab:
        world = World(lab)
        world.node("node2")
        yield world


def lay_over(host: Host, package: str) -> None:
    place = PACKAGES / package
    if not place.is_dir():
        pytest.skip(f"{package} could not be unpacked (.ci/prepare test)")
    host.run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place / 'usr'}:/usr", "/usr")


def own_etc(host: Host, **files: str) -> None:
    """A /etc that the host may write to, with these files in it (`_` in a name is a dot)."""
    host.run("mkdir", "-p", "/run/etc/upper", "/run/etc/work")
    layers = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"
    host.run("mount", "-t", "overlay", "overlay", "-o", layers, "/etc")
    for name, text in files.items():
        host.run("tee", f"/etc/{name.replace('_', '.')}", input=text)


def up(world: World, node: Node) -> None:
    node.agent = node.host.start("wgpy", "up", "--dns", "on", world.mesh.token(), log="agent")
    node.wait_up()


def is_told(node: Node, resolver: str) -> None:
    wait_until(lambda: node.status()["networks"][0]["names"]["resolver"] == resolver, f"{resolver} is told")


def answers_both(world: World, node: Node) -> None:
    other = world.mesh.nodes["node2"]
    both = {other.address("v4"), other.address("v6")}
    wait_until(lambda: set(look_up(node.host, "node2.home.internal")) == both, "names of the mesh are found")
    assert look_up(node.host, "www.example") == ["192.0.2.80"]
    assert name_of(node.host, other.address("v4")) == "node2.home.internal"
    asked = [line.split()[1] for line in world.log.read_text().splitlines() if line.startswith("asked")]
    assert not [name for name in asked if name.endswith("home.internal")], "no name of the mesh leaves it"


STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\n"
BUS = """<busconfig><type>system</type><fork/><listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/><allow eavesdrop="true"/>
<allow send_destination="*" eavesdrop="true"/></policy></busconfig>"""


def run_resolved(host: Host) -> None:
    """The real one, on a bus of its own, which the host's programs ask by its stub."""
    lay_over(host, "systemd-resolved")
    passwd, group = (Path(f"/etc/{name}").read_text() for name in ("passwd", "group"))
    own_etc(
        host,
        passwd=f"{passwd}systemd-resolve:x:991:991::/:/bin/false\n",
        group=f"{group}systemd-resolve:x:991:\n",
        resolv_conf=STUB,
    )
    host.run("mkdir", "-p", "/run/dbus", "/run/systemd/resolve", "/run/systemd/netif/links")
    host.run("chown", "991:991", "/run/systemd/resolve")
    (host.path / "bus.conf").write_text(BUS)
    host.run("dbus-daemon", f"--config-file={host.path / 'bus.conf'}")
    host.start("/usr/lib/systemd/systemd-resolved", log="resolved")
    wait_until(lambda: host.run("resolvectl", "status", check=False).returncode == 0, "resolved answers")


def test_systemd_resolved_asks_us_for_the_networks_names_and_nothing_else(world: World) -> None:
    node = world.mesh.node("resolved")
    host = node.host
    run_resolved(host)
    host.run("resolvectl", "dns", "eth0", str(world.server.ipv4))
    host.run("resolvectl", "domain", "eth0", "~.")
    up(world, node)
    is_told(node, "systemd-resolved")
    answers_both(world, node)
    assert resolv_conf(host) == STUB
    assert "home.internal" in host.run("resolvectl", "domain", node.interface).stdout
    assert "no" in host.run("resolvectl", "default-route", node.interface).stdout
    host.run("wgpy", "down")
    assert look_up(host, "www.example") == ["192.0.2.80"]
    assert "home.internal" not in host.run("resolvectl", "domain").stdout


def test_resolvconf_gets_our_server_and_we_ask_the_others_of_it(world: World) -> None:
    node = world.mesh.node("resolvconf")
    host = node.host
    lay_over(host, "openresolv")
    own_etc(host, resolvconf_conf="resolv_conf=/etc/resolv.conf\n", resolv_conf="")
    eth0 = f"nameserver {world.server.ipv4}\n"
    host.run("resolvconf", "-a", "eth0", input=eth0)
    before = resolv_conf(host)
    assert eth0 in before
    up(world, node)
    is_told(node, "resolvconf")
    answers_both(world, node)
    host.run("wgpy", "down")
    assert resolv_conf(host) == before
    assert node.interface not in host.run("resolvconf", "-i").stdout


INIT = """#!/bin/sh
# As OpenWrt's, as far as we use it: restart reads the snippets again.
[ "$1" = restart ] || exit 1
[ ! -e /run/dnsmasq.pid ] || kill "$(cat /run/dnsmasq.pid)"
while [ -e /run/dnsmasq.pid ] && kill -0 "$(cat /run/dnsmasq.pid)" 2> /dev/null; do sleep 0.05; done
exec dnsmasq --pid-file=/run/dnsmasq.pid --user=root --conf-file=/dev/null --conf-dir=/tmp/dnsmasq.d \\
    --no-resolv --server=%s --listen-address=127.0.0.1 --bind-interfaces --stop-dns-rebind \\
    --rebind-domain-ok=/example/ --no-hosts
"""


def run_dnsmasq(host: Host, server: str) -> None:
    """As on a router with OpenWrt, which asks this server."""
    host.run("mount", "-t", "tmpfs", "tmpfs", "/tmp")
    host.run("mkdir", "/tmp/dnsmasq.d")
    own_etc(host, resolv_conf="nameserver 127.0.0.1\n")
    host.run("tee", "/etc/openwrt_release", input="DISTRIB_ID='OpenWrt'\n")
    host.run("mkdir", "-p", "/etc/init.d")
    host.run("tee", "/etc/init.d/dnsmasq", input=INIT % server)
    host.run("chmod", "755", "/etc/init.d/dnsmasq")
    host.run("/etc/init.d/dnsmasq", "restart")


def test_dnsmasq_of_openwrt_is_told_by_a_snippet(world: World) -> None:
    node = world.mesh.node("openwrt")
    host = node.host
    run_dnsmasq(host, str(world.server.ipv4))
    assert look_up(host, "www.example") == ["192.0.2.80"]
    up(world, node)
    is_told(node, "dnsmasq")
    answers_both(world, node)
    assert node.agent is not None
    node.agent.kill()
    assert host.run("ls", "/tmp/dnsmasq.d").stdout, "a killed agent leaves its snippet"
    host.run("wgpy", "doctor", "--repair", check=False)
    assert not host.run("ls", "/tmp/dnsmasq.d").stdout
    assert look_up(host, "www.example") == ["192.0.2.80"]
    assert resolv_conf(host) == "nameserver 127.0.0.1\n"
