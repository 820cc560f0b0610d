"""External clients with real processes: the distribution's wireguard-go and wg-quick, behind gateways."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.places import Lan, footprint
from tests.netns.processes import wait_until
from tests.netns.test_gateways import (
    SERVE,
    Outer,
    problems,
    reaches,
    source_seen_by,
    use_router,
    wait_active,
    world,
)
from tests.netns.test_names import look_up

pytestmark = [pytest.mark.root, pytest.mark.slow]

FETCH = """
import json, ssl, sys, urllib.request
context = ssl._create_unverified_context()
body = json.dumps({"link": sys.argv[2]}).encode()
request = urllib.request.Request(sys.argv[1] + "/v1/client-file", body, {"content-type": "application/json"})
sys.stdout.write(urllib.request.urlopen(request, context=context).read().decode())
"""
ASK = """
import socket, sys
name = b"".join(bytes([len(label)]) + label.encode() for label in sys.argv[2].split(".")) + b"\\0"
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(3)
asking.sendto(b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1", (sys.argv[1], 53))
print(socket.inet_ntoa(asking.recv(512)[-4:]))
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("clients") as lab:
        yield lab


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(Internet(lab))


class Phone:
    """A host with wireguard-go and wg-quick, and nothing of ours."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.name = name
        self.host = mesh.internet.host(name)
        self.file = self.host.path / "tun0.conf"

    def up(self, text: str) -> None:
        self.file.write_text(text)
        self.file.chmod(0o600)
        self._quick("up")

    def down(self) -> None:
        self._quick("down")

    def _quick(self, what: str) -> None:
        # A kernel without WireGuard takes the other way by itself.
        env = {
            "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
            "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",
        }
        self.host.run("wg-quick", what, str(self.file), env=env)

    def edit_allowed(self, ranges: str) -> None:
        """By hand, on the client."""
        [peer] = self.host.run("wg", "show", "tun0", "peers").stdout.split()
        self.host.run("wg", "set", "tun0", "peer", peer, "allowed-ips", ranges)
        for range_ in ranges.split(","):
            self.host.run("ip", "route", "replace", range_, "dev", "tun0")


def wait_pings(host: Host, address: str, timeout: float = 20.0, why: Callable[[], str] = str) -> None:
    try:
        wait_until(lambda: reaches(host, address), f"{host.name} reaches {address}", timeout)
    except Exception as error:
        raise AssertionError(f"{error}\n{why()}") from None


def listed(mesh: Mesh, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.admin("clients", "show", name, "--json"))
    return found


def make_gateway(mesh: Mesh, endpoint: str, *nodes: Node) -> None:
    names = [node.host.name for node in nodes]
    mesh.admin("clients", "gateway", "add", *names, "--endpoint", endpoint, "--no-dns")
    for node in nodes:
        node.host.run("wgpy", "set", "--advertise", "ingress")
    for name in names:
        wait_until(lambda name=name: gateway_state(mesh)[name] == ("active", True), f"{name} is ready", 30)


def gateway_state(mesh: Mesh) -> dict[str, tuple[str, bool]]:
    [group] = json.loads(mesh.admin("clients", "gateway", "list", "--json"))
    return {each["node_name"]: (each["state"], each["has_key"]) for each in group["gateways"]}


def why(mesh: Mesh, *nodes: Node) -> Callable[[], str]:
    def tell() -> str:
        told = [mesh.admin("clients", "list"), mesh.admin("clients", "gateway", "list")]
        for node in nodes:
            told.append(node.host.run("wgpy", "status", check=False).stdout)
            told.append(node.host.run("nft", "list", "ruleset").stdout)
            told.append(node.host.run("sh", "-c", "ip -br addr; ip route; wg show", check=False).stdout)
            if node.agent is not None:
                told.append(node.agent.tail())
        return "\n".join(told)

    return tell


@pytest.mark.timeout(300)
def test_a_phone_reaches_a_nas_behind_a_gateway_and_nothing_that_it_may_not(lab: Lab, mesh: Mesh) -> None:
    lan = Lan(lab, "lan")
    lan.machine("nas", 10)
    ingress, egress, laptop = mesh.node("ingress"), mesh.node("egress"), mesh.node("laptop")
    lan.plug(egress.host, 1)
    for node in (ingress, egress, laptop):
        node.up(mesh.token())
        node.wait_up()
    mesh.admin("gateway", "add", "egress", "192.168.1.0/24,fd12:1::/64")
    egress.host.run("wgpy", "set", "--advertise", "192.168.1.0/24,fd12:1::/64")
    wait_active(mesh, 2)

    # Two words here, too: the admin's and the host's.
    mesh.admin("clients", "gateway", "add", "ingress", "--endpoint", f"{ingress.host.ipv4}:51999", "--no-dns")
    wait_until(lambda: "wgpy set --advertise ingress" in problems(ingress), "it says what it waits for")
    make_gateway(mesh, f"{ingress.host.ipv4}:51999", ingress)

    # The very file that the link gave, once.
    link = mesh.admin("clients", "add", "phone", "--link", "10m").strip()
    phone = Phone(mesh, "phone")
    text = phone.host.run(sys.executable, "-c", FETCH, mesh.url, link).stdout
    assert phone.host.run(sys.executable, "-c", FETCH, mesh.url, link, check=False).returncode == 1
    phone.up(text)
    shown = why(mesh, ingress, egress)
    wait_pings(phone.host, "192.168.1.10", why=shown)
    wait_pings(phone.host, "fd12:1::a", why=shown)
    for node in (ingress, egress, laptop):
        wait_pings(phone.host, node.address("v4"), why=shown)
        wait_pings(phone.host, node.address("v6"), why=shown)
    mine = listed(mesh, "phone")["addresses"]
    for address in mine:
        wait_pings(laptop.host, address, why=shown)
    wait_until(lambda: listed(mesh, "phone")["latest_handshake_at"], "its handshake is seen", 20)
    row = wait_until(
        lambda: found if (found := listed(mesh, "phone"))["rx_bytes"] > 500 else None, "traffic", 20
    )
    assert row["endpoint"].startswith(f"{phone.host.ipv4}:")
    assert row["gateway_name"] == "ingress"
    assert time.time() - row["latest_handshake_at"] < 60
    assert "PrivateKey" not in mesh.admin("clients", "show", "phone", "--config")

    # Names: at the group's own address.
    mesh.admin("clients", "gateway", "add", "ingress", "--dns")
    dns = json.loads(mesh.admin("clients", "gateway", "list", "--json"))[0]["addresses"][0]

    def asks(name: str) -> str:
        return phone.host.run(sys.executable, "-c", ASK, dns, name, check=False).stdout.strip()

    wait_until(lambda: asks("laptop.home.internal") == laptop.address("v4"), "the phone asks for names", 20)

    # It has a name itself: for others and, back from the address, for itself.
    laptop.host.run("wgpy", "set", "--dns", "on")
    mesh.admin("clients", "edit", "phone", "--rename", "mobile")
    wait_until(lambda: look_up(laptop.host, "mobile.home.internal"), "its new name", 20)
    assert set(look_up(laptop.host, "mobile.home.internal")) <= set(mine)
    assert not look_up(laptop.host, "phone.home.internal")
    assert "mobile.home.internal" in laptop.host.run("getent", "hosts", mine[0]).stdout
    wait_until(lambda: asks("mobile.home.internal") == mine[0], "it asks for itself", 20)
    laptop.host.run("wgpy", "set", "--dns", "off")
    mesh.admin("clients", "edit", "mobile", "--rename", "phone")

    # Its own AllowedIPs are not what holds it: the gateway is.
    mesh.admin("clients", "edit", "phone", "--reach", "laptop")
    wait_until(lambda: not reaches(phone.host, "192.168.1.10"), "it is held to the laptop", 10)
    phone.edit_allowed("192.168.1.0/24,fd12:1::/64,10.0.0.0/8,fd00::/8")
    assert reaches(phone.host, laptop.address("v4"), 5)
    assert not reaches(phone.host, "192.168.1.10")
    assert not reaches(phone.host, "fd12:1::a")
    assert not reaches(phone.host, egress.address("v4"))
    assert not reaches(phone.host, ingress.address("v4"))
    assert reaches(laptop.host, mine[0], 5)
    assert not reaches(egress.host, mine[0])
    mesh.admin("clients", "edit", "phone", "--reach", "192.168.1.0/24")
    wait_pings(phone.host, "192.168.1.10", 10)
    assert not reaches(phone.host, laptop.address("v4"))


@pytest.mark.timeout(300)
def test_a_client_is_cut_within_seconds_and_its_gateway_left_as_it_was(mesh: Mesh) -> None:
    ingress, laptop = mesh.node("ingress"), mesh.join("laptop")
    before = footprint(ingress.host)
    ingress.up(mesh.token())
    ingress.wait_up()
    make_gateway(mesh, f"{ingress.host.ipv4}:51999", ingress)
    text, phone, shown = mesh.admin("clients", "add", "phone"), Phone(mesh, "phone"), why(mesh, ingress)
    target = laptop.address("v4")
    phone.up(text)
    wait_pings(phone.host, target, why=shown)

    # Off and on, and to an end.
    mesh.admin("clients", "disable", "phone")
    wait_until(lambda: not reaches(phone.host, target), "it is cut", 5)
    mesh.admin("clients", "enable", "phone")
    wait_pings(phone.host, target, 30)
    mesh.admin("clients", "edit", "phone", "--expires", "5s")
    wait_until(lambda: not reaches(phone.host, target), "its time is over", 15)
    assert listed(mesh, "phone")["state"] in ("active", "expired")
    mesh.admin("clients", "edit", "phone", "--expires", "never")
    wait_pings(phone.host, target, 30)

    # The host is left as it was: by down, and by repair after kill -9.
    phone.down()
    ingress.host.run("wgpy", "down")
    assert footprint(ingress.host) == before
    ingress.up()
    ingress.wait_up()
    phone.up(text)
    wait_pings(phone.host, target, 40, why=shown)
    assert ingress.agent is not None
    ingress.agent.kill()
    assert footprint(ingress.host) != before
    ingress.host.run("wgpy", "doctor", "--repair", check=False)
    assert footprint(ingress.host) == before
    ingress.up()
    ingress.wait_up()
    wait_pings(phone.host, target, 60, why=shown)
    ingress.host.run("wgpy", "leave")
    assert footprint(ingress.host) == before


@pytest.mark.timeout(300)
def test_a_qr_code_is_the_file_and_errors_are_a_sentence(mesh: Mesh, tmp_path: Path) -> None:
    gateway = mesh.join("gateway")
    make_gateway(mesh, "vpn.example.org:51820", gateway)
    reader = shutil.which("zbarimg")
    if reader is None:
        pytest.skip("zbarimg is not installed (the package is called zbar-tools)")
    for number, kind in enumerate(("png", "svg")):
        file, picture = tmp_path / f"{kind}.conf", tmp_path / f"code.{kind}"
        name = f"phone-{number}"
        mesh.admin("clients", "add", name, "--out", str(file), "--qr-file", str(picture))
        assert file.stat().st_mode & 0o777 == 0o600
        if kind == "png":
            read = gateway.host.run(reader, "--raw", "-q", str(picture)).stdout
            assert read.removesuffix("\n") == file.read_text()
        else:
            assert picture.read_bytes().startswith(b"<?xml")
        assert "PrivateKey" in file.read_text()
    shown = mesh.admin("clients", "add", "tablet", "--qr")
    assert "PrivateKey" not in shown
    assert "█" in shown or "▄" in shown
    for words, sentence in (
        (("add", "tablet"), "another client of this network is called 'tablet'"),
        (("add", "Big One"), "a client's name is 1 to 63 of a-z, 0-9 and inner hyphens"),
        (("add", "x", "--reach", "nobody"), "no node of this network is called 'nobody'"),
        (("add", "x", "--reach", "172.16.0.0/12"), "172.16.0.0/12 lies in no range of this network"),
        (
            ("add", "x", "--qr-file", "code.gif"),
            "a QR code is written to FILE.svg or FILE.png; got 'code.gif'",
        ),
        (("add", "x", "--link", "soon"), "a time is a number and s, m, h, d or w, such as 24h; got 'soon'"),
        (("show", "nobody"), "no client of this network is called 'nobody'"),
        (("edit", "tablet"), "say what to change"),
        (("gateway", "remove", "gateway"), "is the last gateway of clients"),
        (("gateway", "add", "gateway", "--endpoint", "nowhere"), "HOST:PORT, such as vpn.example.org:51820"),
    ):
        done = mesh.coordinator.run("wgpy", "coordinator", "clients", *words, check=False)
        assert done.returncode != 0, words
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert re.search(r"^phone-0 ", mesh.admin("clients", "list"), re.MULTILINE)


@pytest.mark.timeout(300)
def test_a_standby_takes_over_with_the_same_file_when_the_address_moves(mesh: Mesh) -> None:
    laptop, first, second = mesh.join("laptop"), mesh.join("first"), mesh.join("second")
    floating, _ = mesh.internet.next_addresses()
    first.host.ip(f"address add {floating} dev eth0")
    endpoint = f"{floating.partition('/')[0]}:51999"
    make_gateway(mesh, endpoint, first, second)
    text = mesh.admin("clients", "add", "phone")
    phone = Phone(mesh, "phone")
    phone.up(text)
    shown = why(mesh, first, second)
    wait_pings(phone.host, laptop.address("v4"), why=shown)
    address = listed(mesh, "phone")["addresses"][0]
    wait_pings(laptop.host, address, why=shown)
    wait_pings(second.host, address, why=shown)  # a standby reaches it through the other
    wait_until(lambda: listed(mesh, "phone")["gateway_name"] == "first", "it is seen at the first", 20)

    # The gateway dies, and its address moves: the same file, another host.
    assert first.agent is not None
    first.agent.kill()
    first.host.ip(f"address delete {floating} dev eth0")
    second.host.ip(f"address add {floating} dev eth0")
    mac = second.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    phone.host.ip(f"neighbour replace {endpoint.partition(':')[0]} lladdr {mac} dev eth0")
    wait_pings(phone.host, laptop.address("v4"), 60, why=shown)
    wait_pings(laptop.host, address, 60, why=shown)
    wait_until(lambda: listed(mesh, "phone")["gateway_name"] == "second", "it is seen at the second", 20)


@pytest.mark.timeout(300)
def test_all_that_a_phone_sends_goes_by_its_gateway_if_it_may(lab: Lab, mesh: Mesh) -> None:
    server, lan = world(lab, mesh), Lan(lab, "lan")
    server.start("python", "-c", SERVE, log="serve").wait_text("serving")
    lan.machine("nas", 10)
    ingress, laptop = mesh.node("ingress"), mesh.node("laptop")
    use_router(ingress, mesh)
    lan.plug(ingress.host, 1)
    before = footprint(ingress.host)
    for node in (ingress, laptop):
        node.up(mesh.token())
        node.wait_up()
    endpoint = f"{ingress.host.ipv4}:51999"
    make_gateway(mesh, endpoint, ingress)
    text = mesh.admin("clients", "add", "phone", "--internet")
    assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in text
    assert "the internet" in mesh.admin("clients", "list")
    phone, shown = Phone(mesh, "phone"), why(mesh, ingress)
    router = lab.hosts["router"]
    phone.host.ip(f"route add default via {router.ipv4}", f"route add default via {router.ipv6}")

    # Two words here, too: without that of the host the internet stays out, and both are told why.
    phone.up(text)
    wait_pings(phone.host, laptop.address("v4"), why=shown)
    told = "clients have no internet here: this host has not agreed: wgpy set --advertise exit,ingress"
    wait_until(lambda: told in problems(ingress), "the node says why", 10)
    assert "is not forwarded" not in problems(ingress)
    wait_until(lambda: told in mesh.admin("clients", "gateway", "list"), "the admin is told why", 20)
    assert source_seen_by(server, phone, "203.0.113.9") == ""
    ingress.host.run("wgpy", "set", "--advertise", "exit,ingress")
    wait_until(
        lambda: source_seen_by(server, phone, "203.0.113.9") == str(ingress.host.ipv4), "by the gateway", 20
    )
    assert source_seen_by(server, phone, "2001:db8:cb::9") == str(ingress.host.ipv6)
    wait_until(lambda: told not in mesh.admin("clients", "gateway", "list"), "all is well", 20)

    # Nothing but the tunnel is on the phone's wire.
    outer = Outer(phone.host)
    for address in ("203.0.113.9", "2001:db8:cb::9", "203.0.113.77"):
        source_seen_by(server, phone, address)
        phone.host.run("ping", "-c2", "-i0.2", "-W1", address, check=False)
    wait_until(lambda: outer.saw(str(ingress.host.ipv4)), "tunnel packets")
    assert outer.leaks(str(ingress.host.ipv4)) == set()

    # The internet is neither the gateway's LAN, nor the gateway, nor what of the mesh it may not reach.
    assert not reaches(phone.host, "192.168.1.10")
    assert not reaches(phone.host, "fd12:1::a")
    assert not reaches(phone.host, "192.168.1.1")
    mesh.admin("clients", "edit", "phone", "--reach", "ingress")
    wait_until(lambda: not reaches(phone.host, laptop.address("v4")), "it is held to the gateway", 10)
    assert source_seen_by(server, phone, "203.0.113.9") == str(ingress.host.ipv4)

    # Held at the gateway: the phone's file still names everything.
    mesh.admin("clients", "edit", "phone", "--no-internet")
    wait_until(lambda: source_seen_by(server, phone, "203.0.113.9") == "", "the internet is cut", 10)
    assert source_seen_by(server, phone, "2001:db8:cb::9") == ""
    assert reaches(phone.host, ingress.address("v4"), 5)
    mesh.admin("clients", "edit", "phone", "--internet")
    wait_until(
        lambda: source_seen_by(server, phone, "203.0.113.9") == str(ingress.host.ipv4), "it is back", 20
    )

    phone.down()
    assert source_seen_by(server, phone, "203.0.113.9") == str(phone.host.ipv4)
    ingress.host.run("wgpy", "down")
    assert footprint(ingress.host) == before
