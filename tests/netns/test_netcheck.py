"""`wgpy netcheck` behind routers of several kinds."""

from __future__ import annotations

import json

from tests.netns.hosts import Host, Lab
from tests.netns.meeting import MeetingGround
from tests.netns.nat import Home, Nat

KINDS = {
    Nat.PORT_MOVED: "endpoint-independent",
    Nat.SYMMETRIC: "symmetric",
    Nat.FIREWALL: "none",
    Nat.UDP_BLOCKED: "blocked",
}


def nat_of(host: Host, *words: str) -> tuple[str, int]:
    done = host.run("wgpy", "netcheck", "--json", *words, check=False)
    (network,) = json.loads(done.stdout)["networks"]
    return str(network["views"]["ipv4"]["nat"]), done.returncode


def test_netcheck_tells_the_kind_of_nat_with_and_without_a_running_network() -> None:
    with Lab("netcheck") as lab:
        ground = MeetingGround(lab)
        server = f"{ground.mesh.coordinator.ipv4}:443"
        hosts = {nat: Home(ground.internet, f"home{n}", nat).host(f"node{n}") for n, nat in enumerate(KINDS)}
        for nat, host in hosts.items():
            expected = KINDS[nat], int(nat is Nat.UDP_BLOCKED)
            assert nat_of(host, "--server", server) == expected, nat
        del hosts[Nat.UDP_BLOCKED]  # patience is tried once
        with ground.join(*hosts.values()):
            for nat, host in hosts.items():
                assert nat_of(host) == (KINDS[nat], 0), nat
            words = hosts[Nat.SYMMETRIC].run("wgpy", "netcheck", check=False).stdout
            assert "symmetric NAT, with another port for each destination" in words
            assert "this host has no IPv6 address that others could reach" in words


def test_netcheck_without_a_network_or_with_a_bad_server_says_what_to_do() -> None:
    with Lab("netcheck") as lab:
        host = lab.host("node")
        done = host.run("wgpy", "netcheck", check=False)
        assert done.returncode == 1
        assert "wgpy netcheck --server HOST:PORT" in done.stderr
        done = host.run("wgpy", "netcheck", "--server", "nonsense", check=False)
        assert done.returncode == 2
        assert "--server is HOST:PORT" in done.stderr
