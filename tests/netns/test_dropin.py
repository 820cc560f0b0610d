"""A script that is written for wireguard-go finds wgpy-device to behave the same.

Where a test says `Pair`:

    +---- n1 -----------+   +---- n0 -------------------------------+   +---- n2 -----------+
    | wg1 10.81.0.1/24  |   | wgpy-device wg1   lo   wgpy-device wg2 |   | wg2 10.81.0.2/24  |
    |     fd81::1/64    |===| port 1   127.0.0.1, ::1    port 2      |===|     fd81::2/64    |
    +-------------------+   +----------------------------------------+   +-------------------+

Both are started in n0, where their sockets and UAPI sockets stay; the TUN devices are moved out.

The test of NAT:

    n1  eth0 192.168.9.2 --- 192.168.9.1 left  router  right 10.9.9.1 --- 10.9.9.2 eth0  n2
        wg1 10.81.0.1                     (SNAT to 10.9.9.1)                    10.81.0.2 wg2

The others have hosts on one switch (see `hosts.Internet`), each with wg0 (see `interop.tunnel.End`).
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.interop.tunnel import PORT, Implementation, Keys, Tunnel
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import process_stat, wait_until
from tests.own_network import own_network
from wgpy.device import open_device
from wgpy.engine import ENGINES, make_engine
from wgpy.netlink import Netlink

pytestmark = [pytest.mark.root, pytest.mark.slow]

MTU_MOST = 34736
UTIME, STIME = 11, 12


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("dropin") as lab:
        yield lab


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ours(engine: str) -> Implementation:
    return Implementation(f"wgpy-{engine}", ("wgpy-device", "--foreground"), (f"WGPY_ENGINE={engine}",))


def start(host: Host, engine: str, *names: str) -> None:
    """In the background, as a script would; they serve when this returns."""
    for name in names:
        host.run("wgpy-device", name, env={"WGPY_ENGINE": engine})


def device_processes(host: Host) -> dict[str, int]:
    """Process ids of the wgpy-devices of a host, by interface."""
    found = {}
    for pid in host.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"wgpy-device") for word in words):
            found[words[-2].decode()] = pid
    return found


def cpu_seconds(pid: int) -> float:
    words = process_stat(pid)
    return (int(words[UTIME]) + int(words[STIME])) / os.sysconf("SC_CLK_TCK")


def ping(host: Host, address: str, *options: str) -> bool:
    return host.run("ping", "-c1", "-W5", *options, address, check=False).returncode == 0


class Pair:
    """See the topology above."""

    def __init__(self, lab: Lab, engine: str) -> None:
        self.engine = engine
        self.n0, self.n1, self.n2 = (lab.host(name) for name in ("n0", "n1", "n2"))
        self.n0.ip("link set lo up")
        self.keys = {1: Keys.generate(), 2: Keys.generate()}
        self.hosts = {1: self.n1, 2: self.n2}
        for number in (1, 2):
            start(self.n0, engine, f"wg{number}")
            self.configure(number)

    def wg(self, *arguments: str, input: str | None = None) -> str:
        return self.n0.run("wg", *arguments, input=input).stdout.strip()

    def configure(self, number: int, *, endpoint: str = "127.0.0.1") -> None:
        """Move it out, give it its addresses, and set it up."""
        other = 3 - number
        name, host = f"wg{number}", self.hosts[number]
        self.n0.ip(f"link set {name} netns {host.pid}")
        host.ip(
            f"address add 10.81.0.{number}/24 dev {name}",
            f"address add fd81::{number}/64 dev {name} nodad",
        )
        self.wg(
            "set", name, "listen-port", str(number), "private-key", "/dev/stdin",
            "peer", self.keys[other].public, "endpoint", f"{endpoint}:{other}",
            "allowed-ips", f"10.81.0.{other}/32,fd81::{other}/128",
            input=self.keys[number].private,
        )  # fmt: skip
        host.ip(f"link set {name} up")
        wait_until(lambda: str(number) in self.ports(self.n0), f"{name} is up", timeout=5)

    def endpoint(self, number: int) -> str:
        """Where wg`number` sees its peer."""
        return self.wg("show", f"wg{number}", "endpoints").split()[1]

    def ports(self, host: Host) -> set[str]:
        lines = host.run("ss", "-ulnH").stdout.splitlines()
        return {line.split()[3].rpartition(":")[2] for line in lines}

    def check(self) -> None:
        assert ping(self.n1, "10.81.0.2")
        assert ping(self.n2, "fd81::1")


@pytest.fixture
def pair(lab: Lab, engine: str) -> Pair:
    return Pair(lab, engine)


def test_a_tun_that_was_moved_away_works_while_its_sockets_stay(pair: Pair) -> None:
    pair.check()
    assert pair.ports(pair.n0) == {"1", "2"}
    assert pair.ports(pair.n1) == pair.ports(pair.n2) == set()
    # Up and down are noticed within the second that scripts sleep; on a machine that has more to do, one of
    # three times.
    noticed: dict[str, list[float]] = {"down": [], "up": []}
    for _ in range(3):
        for way, ports in (("down", {"2"}), ("up", {"1", "2"})):
            before = time.monotonic()
            pair.n1.ip(f"link set wg1 {way}")
            wait_until(lambda ports=ports: pair.ports(pair.n0) == ports, f"{way} is noticed", timeout=5)
            noticed[way].append(time.monotonic() - before)
    assert max(min(each) for each in noticed.values()) < 1, noticed
    # The kernel takes the IPv6 addresses of what goes down.
    pair.n1.ip("address replace fd81::1/64 dev wg1 nodad")
    pair.check()


def test_the_mtu_may_be_34736_while_up(pair: Pair) -> None:
    pair.check()
    for mtu in (MTU_MOST, 1420, MTU_MOST):
        for number, host in pair.hosts.items():
            host.ip(f"link set wg{number} mtu {mtu}")
        for address in ("10.81.0.2", "fd81::2"):
            assert ping(pair.n1, address, f"-s{mtu - 48}")
    pair.n2.start("iperf3", "-s", "-1")
    wait_until(lambda: ":5201" in pair.n2.run("ss", "-tlnH").stdout, "iperf3 listens")
    sent = pair.n1.run("iperf3", "-c", "fd81::2", "-n", "64M", "-Z", check=False)
    assert sent.returncode == 0, sent.stdout + sent.stderr


def test_the_mtu_may_go_up_to_65535_while_traffic_flows(pair: Pair) -> None:
    pair.check()
    echoes = pair.n1.start("ping", "-i0.02", "-c400", "-W5", "10.81.0.2", log="echoes")
    for mtu in (65535, 1280, 65535, 9000, 65535, 1420, 65535):
        for number, host in pair.hosts.items():
            host.ip(f"link set wg{number} mtu {mtu}")
        largest = min(mtu, 65000) - 48
        for address in ("10.81.0.2", "fd81::2"):
            assert ping(pair.n1, address, f"-s{largest}"), f"{largest} octets at MTU {mtu}"
    # A packet that fills it makes a message that no datagram can carry: it is lost, and it alone.
    assert pair.n1.run("ping", "-c1", "-W1", "-s65507", "10.81.0.2", check=False).returncode
    assert echoes.wait(60) == 0
    assert " 0% packet loss" in echoes.text()
    pair.check()


def test_deleting_the_interface_ends_it_and_the_name_is_free_at_once(pair: Pair) -> None:
    for _ in range(3):
        pair.check()
        pair.n1.ip("link del wg1")
        start(pair.n0, pair.engine, "wg1")
        pair.configure(1)
        pair.wg("set", "wg2", "peer", pair.keys[1].public, "endpoint", "127.0.0.1:1")
    pair.check()
    assert sorted(device_processes(pair.n0)) == ["wg1", "wg2"]
    pair.n1.ip("link del wg1")
    pair.n2.ip("link del wg2")
    wait_until(lambda: not device_processes(pair.n0), "both end")
    assert pair.n0.run("ls", "/run/wireguard").stdout == ""


def test_a_socket_that_a_killed_one_left_is_reclaimed(pair: Pair) -> None:
    pair.check()
    os.kill(device_processes(pair.n0)["wg1"], signal.SIGKILL)
    wait_until(lambda: "wg1" not in device_processes(pair.n0), "it is dead")
    assert "wg1.sock" in pair.n0.run("ls", "/run/wireguard").stdout
    start(pair.n0, pair.engine, "wg1")
    pair.configure(1)
    pair.check()


def test_a_namespace_deleted_underneath_ends_its_interfaces_device_alone(pair: Pair) -> None:
    pair.check()
    pair.n1.close()
    wait_until(lambda: list(device_processes(pair.n0)) == ["wg2"], "wg1 ends with its namespace")
    assert pair.n0.run("ls", "/run/wireguard").stdout == "wg2.sock\n"
    assert pair.wg("show", "interfaces") == "wg2"


def test_an_end_whose_address_and_port_change_is_followed(pair: Pair) -> None:
    pair.check()
    pair.n0.ip("address del 127.0.0.1/8 dev lo", "address add 127.212.121.99/8 dev lo")
    pair.wg("set", "wg1", "listen-port", "9999", "peer", pair.keys[2].public, "endpoint", "127.0.0.1:2")
    wait_until(lambda: ping(pair.n1, "10.81.0.2", "-W1"), "an echo from the new address")
    assert pair.endpoint(2) == "127.212.121.99:9999"
    pair.wg("set", "wg1", "listen-port", "9998", "peer", pair.keys[2].public, "endpoint", "[::1]:2")
    wait_until(lambda: ping(pair.n1, "fd81::2", "-W1"), "an echo over IPv6")
    assert pair.endpoint(2) == "[::1]:9998"
    assert ping(pair.n2, "10.81.0.1")


def test_a_keepalive_holds_a_nat_open(lab: Lab, engine: str) -> None:
    n1, n2, router = (lab.host(name) for name in ("n1", "n2", "router"))
    router.ip(
        f"link add left type veth peer name eth0 netns {n1.pid}",
        f"link add right type veth peer name eth0 netns {n2.pid}",
        "address add 192.168.9.1/24 dev left", "link set left up",
        "address add 10.9.9.1/24 dev right", "link set right up",
    )  # fmt: skip
    n1.ip("address add 192.168.9.2/24 dev eth0", "link set eth0 up", "route add default via 192.168.9.1")
    n2.ip("address add 10.9.9.2/24 dev eth0", "link set eth0 up")
    router.run(
        "nft",
        "-f",
        "-",
        input="""
table ip nat {
  chain out { type nat hook postrouting priority srcnat ; oifname "right" masquerade ; }
}
table ip guard {
  chain forward {
    type filter hook forward priority filter ; policy drop ;
    iifname "left" accept
    ct state established accept
  }
}
""",
    )
    for setting in (
        "net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_udp_timeout=2",
        "net.netfilter.nf_conntrack_udp_timeout_stream=2",
    ):  # fmt: skip
        name, _, value = setting.partition("=")
        router.run("sh", "-c", f"echo {value} > /proc/sys/{name.replace('.', '/')}")
    keys = {1: Keys.generate(), 2: Keys.generate()}
    for number, host, endpoint in ((1, n1, ["endpoint", "10.9.9.2:2"]), (2, n2, [])):
        start(host, engine, f"wg{number}")
        host.run(
            "wg", "set", f"wg{number}", "listen-port", str(number), "private-key", "/dev/stdin",
            "peer", keys[3 - number].public, *endpoint, "allowed-ips", f"10.81.0.{3 - number}/32",
            input=keys[number].private,
        )  # fmt: skip
        host.ip(f"address add 10.81.0.{number}/24 dev wg{number}", f"link set wg{number} up")
    assert ping(n1, "10.81.0.2")
    assert n2.run("wg", "show", "wg2", "endpoints").stdout.split()[1].startswith("10.9.9.1:")
    assert ping(n2, "10.81.0.1")
    # Without keepalives the way back closes.
    wait_until(
        lambda: not router.run("grep", "udp", "/proc/net/nf_conntrack", check=False).stdout
        and not ping(n2, "10.81.0.1", "-W1"),
        "the NAT forgets", timeout=30, interval=3,
    )  # fmt: skip
    n1.run("wg", "set", "wg1", "peer", keys[2].public, "persistent-keepalive", "1")
    wait_until(lambda: ping(n2, "10.81.0.1", "-W1"), "a keepalive opens it again")
    for _ in range(2):
        time.sleep(3)  # longer than the NAT remembers
        assert ping(n2, "10.81.0.1")


def test_wireguard_goes_through_wireguard(lab: Lab, ours: Implementation, engine: str) -> None:
    tunnel = Tunnel(Internet(lab), "outer", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    keys = {1: Keys.generate(), 2: Keys.generate()}
    for number, end, other in ((1, one, two), (2, two, one)):
        start(end.host, engine, "wg1")
        end.wg(
            "set", "wg1", "listen-port", "4000", "private-key", "/dev/stdin",
            "peer", keys[3 - number].public, "endpoint", f"{other.inner['v4']}:4000",
            "allowed-ips", f"10.82.0.{3 - number}/32",
            input=keys[number].private,
        )  # fmt: skip
        end.host.ip(f"address add 10.82.0.{number}/24 dev wg1", "link set wg1 mtu 1340 up")
    assert ping(one.host, "10.82.0.2", "-s1312", "-Mdo")
    assert ping(two.host, "10.82.0.1")


def test_a_routing_loop_does_not_melt(lab: Lab, ours: Implementation) -> None:
    tunnel = Tunnel(Internet(lab), "loop", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    [pid] = device_processes(one.host).values()
    # Now what is sealed for two, who has a session, is routed into the tunnel to two.
    one.wg("set", "wg0", "peer", two.keys.public, "allowed-ips", "0.0.0.0/0")
    one.host.ip(f"route add {two.host.ipv4}/32 dev wg0")
    before, sent = cpu_seconds(pid), one.transfer[1]
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        one.host.run("ping", "-c1", "-W0.5", two.inner["v4"], check=False)
    assert cpu_seconds(pid) - before < 1
    assert one.transfer[1] - sent < 100_000
    one.host.ip(f"route del {two.host.ipv4}/32 dev wg0")
    wait_until(lambda: one.ping(two, timeout=1), "the tunnel works without the loop", timeout=30)


def test_the_source_is_chosen_anew_when_another_interface_takes_the_route(
    lab: Lab, ours: Implementation
) -> None:
    tunnel = Tunnel(Internet(lab), "source", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    assert two.endpoint == one.outer("v4")
    one.host.ip(f"link add eth1 type veth peer name eth1 netns {two.host.pid}")
    one.host.ip("address add 203.0.113.1/24 dev eth1", "link set eth1 up")
    two.host.ip("address add 203.0.113.2/24 dev eth1", "link set eth1 up")
    one.host.ip(f"route add {two.host.ipv4}/32 via 203.0.113.2 dev eth1")
    wait_until(
        lambda: one.ping(two, timeout=1) and two.endpoint == f"203.0.113.1:{PORT}", "the new source is used"
    )
    one.host.ip(f"route del {two.host.ipv4}/32", "link del eth1")
    wait_until(lambda: one.ping(two, timeout=1) and two.endpoint == one.outer("v4"), "the old one again")


def test_the_source_is_chosen_anew_when_its_interface_goes_down_or_a_rule_leads_elsewhere(
    lab: Lab, ours: Implementation
) -> None:
    tunnel = Tunnel(Internet(lab), "failover", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    one.host.ip(f"link add eth1 type veth peer name eth1 netns {two.host.pid}")
    one.host.ip("address add 203.0.113.1/24 dev eth1", "link set eth1 up")
    two.host.ip("address add 203.0.113.2/24 dev eth1", "link set eth1 up")
    second = f"203.0.113.1:{PORT}"

    def sends_from(endpoint: str) -> bool:
        return one.ping(two, timeout=1) and two.endpoint == endpoint

    one.host.ip(f"route add {two.host.ipv4}/32 via 203.0.113.2 dev eth1")
    wait_until(lambda: sends_from(second), "the second uplink is used")
    # The kernel takes the route away without a word, and would still send from the address. Silence would be
    # noticed after 15 s.
    one.host.ip("link set eth1 down")
    wait_until(lambda: sends_from(one.outer("v4")), "the first uplink is used", timeout=8)
    one.host.ip("link set eth1 up", "route add default via 203.0.113.2 dev eth1 table 99")
    time.sleep(2.5)  # no change of routes is still to be dealt with when the rule comes
    assert sends_from(one.outer("v4"))
    one.host.ip(f"rule add to {two.host.ipv4} table 99")
    wait_until(lambda: sends_from(second), "the rule is followed", timeout=8)


def leave(host: Host, way: int) -> None:
    if way == 0:
        os.kill(device_processes(host)["wg0"], signal.SIGTERM)
    elif way == 1:
        host.run("rm", "/run/wireguard/wg0.sock")
    else:
        host.ip("link del wg0")


def start_and_stop(lab: Lab, engine: str, times: int) -> None:
    host = lab.host("host")
    keys, peer = Keys.generate(), Keys.generate()
    host.ip("link set lo up")
    for number in range(times):
        start(host, engine, "wg0")
        host.run(
            "wg", "set", "wg0", "listen-port", "51820", "private-key", "/dev/stdin", "peer", peer.public,
            "endpoint", "127.0.0.1:9", "allowed-ips", "10.83.0.0/24", "persistent-keepalive", "1",
            input=keys.private,
        )  # fmt: skip
        host.ip("link set wg0 up", "address add 10.83.0.1/24 dev wg0", "route add 10.84.0.0/16 dev wg0")
        wait_until(lambda: "51820" in host.run("ss", "-ulnH").stdout, "its port is open")
        leave(host, number % 3)
        wait_until(lambda: not device_processes(host), "it ends")
        assert host.run("ls", "/run/wireguard").stdout == ""
        assert host.run("ls", "/sys/class/net").stdout.split() == ["lo"]
        assert host.run("ip", "route").stdout == ""
        assert host.run("ss", "-ulnH").stdout == ""
    assert host.processes() == []


def test_started_and_stopped_20_times_it_leaves_nothing(lab: Lab, engine: str) -> None:
    start_and_stop(lab, engine, 20 if engine == ENGINES[0] else 6)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_started_and_stopped_500_times_it_leaves_nothing(lab: Lab, engine: str) -> None:
    start_and_stop(lab, engine, 500)


def test_a_device_that_goes_up_and_down_opens_nothing_that_it_does_not_close(
    lab: Lab, ours: Implementation
) -> None:
    tunnel = Tunnel(Internet(lab), "updown", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    [pid] = device_processes(one.host).values()

    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    def cycle(number: int) -> None:
        one.host.ip("link set wg0 down")
        wait_until(lambda: not one.host.run("ss", "-ulnH").stdout, "it is down")
        one.host.ip("link set wg0 up")
        one.wg("set", "wg0", "listen-port", str(4000 + number))
        wait_until(lambda: one.ping(two, timeout=1), "an echo")

    looks = []
    for number in range(3):
        cycle(number)
        looks.append(held())
    # One may be open at one moment and not at another.
    most = tuple(map(max, *looks))
    for number in range(10):
        cycle(number)

    def is_bounded() -> bool:
        return all(now <= then for now, then in zip(held(), most, strict=True))

    wait_until(is_bounded, f"no more than {most} descriptors and threads; {held()}")


async def test_devices_opened_and_closed_in_one_process_leave_no_descriptor_and_no_thread(
    engine: str,
) -> None:
    async def once() -> None:
        with open_device("leak0", engine=make_engine(engine)) as device:
            async with trio.open_nursery() as nursery:
                await nursery.start(device.run)
                with Netlink() as netlink:
                    netlink.set_link(netlink.link("leak0").index, up=True)
                with trio.fail_after(10):
                    await device.wait_up()
                nursery.cancel_scope.cancel()

    with own_network():
        for _ in range(2):
            await once()
        gc.collect()
        descriptors, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(20):
            await once()
        gc.collect()  # a device and its interface know each other
        assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
        assert threading.active_count() <= threads
        with Netlink() as netlink:
            assert [link.name for link in netlink.links()] == ["lo"]
