"""Other people's firewalls on a gateway, each the real one: what they drop is explained, and one rule of ours
goes into them with the host's consent, comes back after a reload, and goes with us.

Packages are laid over the host's own /usr (.ci/prepare unpacks them).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh
from tests.netns.places import Lan, footprint
from tests.netns.processes import wait_until
from tests.netns.test_gateways import SERVE, problems, source_seen_by, wait_active
from tests.netns.test_resolvers import BUS, PACKAGES, lay_over, own_etc

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("firewalls") as lab:
        yield lab


def own_etc_of(host: Host, package: str) -> None:
    """A /etc that the host may write to, with the package's files in it."""
    own_etc(host)
    host.run("cp", "-a", f"{PACKAGES / package / 'etc'}/.", "/etc/")


def run_firewalld(host: Host) -> None:
    """On a bus of its own, all interfaces in its default zone."""
    lay_over(host, "firewalld")
    own_etc_of(host, "firewalld")
    host.run("mkdir", "-p", "/run/dbus", "/run/firewalld")
    (host.path / "bus.conf").write_text(BUS)
    host.run("dbus-daemon", f"--config-file={host.path / 'bus.conf'}")
    host.start("/usr/bin/python3", "/usr/sbin/firewalld", "--nofork", "--nopid", log="firewalld")
    wait_until(lambda: firewalld(host, "--state", check=False) == "running", "firewalld runs", 30)


def firewalld(host: Host, *words: str, check: bool = True) -> str:
    return host.run("/usr/bin/python3", "/usr/bin/firewall-cmd", *words, check=check).stdout.strip()


def run_ufw(host: Host) -> None:
    """As its package sets it up, then switched on: it drops what is routed."""
    lay_over(host, "ufw")
    own_etc_of(host, "ufw")
    host.run("sh", "-c", "cp /usr/share/ufw/ufw.conf /usr/share/ufw/iptables/*.rules /etc/ufw/")
    ufw(host, "--force", "enable")


def ufw(host: Host, *words: str) -> str:
    return host.run("/usr/bin/python3", "/usr/sbin/ufw", *words).stdout


FIREWALLS = {
    "firewalld": (run_firewalld, lambda host: firewalld(host, "--reload"), ("inet", "firewalld")),
    "ufw": (run_ufw, lambda host: ufw(host, "reload"), ("ip", "filter")),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FIREWALLS)
def test_what_it_drops_is_explained_and_one_rule_goes_in_with_consent(lab: Lab, name: str) -> None:
    run, reload, table = FIREWALLS[name]
    mesh, lan = Mesh(Internet(lab)), Lan(lab, "lan")
    nas = lan.machine("nas", 10)
    nas.start("python", "-c", SERVE, log="serve").wait_text("serving")
    gateway, laptop = mesh.node("gateway"), mesh.node("laptop")
    host = gateway.host
    lan.plug(host, 1)
    run(host)
    reload(host)  # ufw's own chains are in another order after it
    before = footprint(host)
    for node in (gateway, laptop):
        node.up(mesh.token())
        node.wait_up()
    host.run("wgpy", "set", "--advertise", "any")
    mesh.admin("gateway", "add", "gateway", "192.168.1.0/24,fd12:1::/64")
    wait_active(mesh, 2)
    laptop.wait_reach(gateway)

    # Explained, and left alone.
    told = f"{name} ({' '.join(table)})"
    assert told in problems(gateway)
    assert "drops what this host forwards; to let one rule of ours in: wgpy set --open-" in problems(gateway)
    assert f"{told} drops what this host forwards" in host.run("wgpy", "doctor", check=False).stdout
    assert not source_seen_by(nas, laptop, "192.168.1.10")  # ufw lets a ping through
    assert not source_seen_by(nas, laptop, "fd12:1::a")
    assert "wgpy home" not in host.run("nft", "list", "ruleset").stdout

    # One rule, and it comes back.
    host.run("wgpy", "set", "--open-firewall", "on")
    wait_until(lambda: source_seen_by(nas, laptop, "192.168.1.10"), "the NAS is reached", 20)
    wait_until(lambda: source_seen_by(nas, laptop, "fd12:1::a"), "by IPv6, too", 20)
    assert "drops what this host forwards" not in problems(gateway)
    reload(host)
    wait_until(lambda: source_seen_by(nas, laptop, "192.168.1.10"), "the rule is back", 20)
    wait_until(lambda: source_seen_by(nas, laptop, "fd12:1::a"), "and that for IPv6", 20)

    # kill -9 leaves no rule behind for good, and neither does the end.
    assert gateway.agent is not None
    gateway.agent.kill()
    host.run("wgpy", "doctor", "--repair", check=False)
    assert footprint(host) == before
    gateway.up()
    gateway.wait_up()
    wait_until(lambda: source_seen_by(nas, laptop, "192.168.1.10"), "the NAS is reached again", 60)
    host.run("wgpy", "down")
    assert footprint(host) == before
