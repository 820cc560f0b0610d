"""`wgpy up FILE.conf` on a host, from end to end: what comes up, and that nothing is left when it goes."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import Process, wait_until
from wgpy.config import parse_config
from wgpy.keys import PrivateKey

pytestmark = pytest.mark.root

LAPTOP = PrivateKey(bytes([1] * 32))
SERVER = PrivateKey(bytes([2] * 32))
_numbers = itertools.count()
FAR = "203.0.113.7"
"""An address far behind the server."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("quick") as lab:
        yield lab


@pytest.fixture
def internet(lab: Lab) -> Internet:
    return Internet(lab)


@pytest.fixture
def server(internet: Internet) -> Host:
    """A WireGuard server made with stock tools around wgpy-device, which is the way to 203.0.113.7."""
    host = internet.host("server")
    host.run("wgpy-device", "wg0")
    config = (
        f"[Interface]\nPrivateKey = {SERVER.to_base64()}\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {LAPTOP.public_key()}\nAllowedIPs = 10.0.0.2/32, fd00::2/128\n"
    )
    host.run("sh", "-c", "cat > /run/wg0.conf; wg setconf wg0 /run/wg0.conf", input=config)
    host.run("ip", "link", "set", "wg0", "up")
    for address in ("10.0.0.1/24", "fd00::1/64", f"{FAR}/32"):
        host.run("ip", "address", "add", address, "dev", "wg0")
    return host


@pytest.fixture
def laptop(internet: Internet, server: Host) -> Host:
    return internet.host("laptop")


def write(host: Host, *, interface: str = "", peer: str = "", name: str = "home", server: Host) -> str:
    path = f"/run/{name}.conf"
    text = (
        f"[Interface]\nPrivateKey = {LAPTOP.to_base64()}\nAddress = 10.0.0.2/24, fd00::2/64\n{interface}\n"
        f"[Peer]\nPublicKey = {SERVER.public_key()}\nEndpoint = {server.ipv4}:51820\n"
        f"{peer or 'AllowedIPs = 10.0.0.0/24, fd00::/64'}\n"
    )
    host.run("sh", "-c", f"umask 077; cat > {path}", input=text)
    return path


def start(host: Host, path: str) -> Process:
    process = host.start("python", "-P", "-m", "wgpy.quick", path, log=f"tunnel-{next(_numbers)}")
    process.wait_text("it is up")
    return process


def state(host: Host) -> dict[str, str]:
    """All of the host that a tunnel touches, by name."""
    commands = {
        "links": "ls /sys/class/net",
        "addresses": "ip -o address show scope global",
        "routes": "ip route show table all; ip -6 route show table all | grep -v fe80 | grep -v '^multicast'",
        "rules": "ip rule; ip -6 rule",
        "firewall": "nft list ruleset",
        "src_valid_mark": "cat /proc/sys/net/ipv4/conf/all/src_valid_mark",
        "resolv.conf": "cat /etc/resolv.conf",
        "sockets": "ls /run/wireguard 2>/dev/null; true",
        "records": "ls /run/wgpy 2>/dev/null; true",
    }
    return {name: host.run("sh", "-c", command).stdout for name, command in commands.items()}


def ping(host: Host, address: str) -> None:
    host.run("ping", "-c1", "-W5", address)


def test_a_tunnel_comes_up_carries_packets_and_leaves_nothing(laptop: Host, server: Host) -> None:
    before = state(laptop)
    process = start(laptop, write(laptop, server=server))
    ping(laptop, "10.0.0.1")
    ping(laptop, "fd00::1")
    assert "home: it is up, 10.0.0.2, fd00::2, port " in process.text()
    assert "latest handshake" in laptop.run("wg", "show", "home").stdout
    assert process.stop() == 0
    assert process.text().endswith("home: it is down\n")
    assert state(laptop) == before


def test_ctrl_c_takes_it_down(laptop: Host, server: Host) -> None:
    before = state(laptop)
    process = start(laptop, write(laptop, server=server))
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert state(laptop) == before


def test_a_default_route_takes_everything_but_the_tunnels_own_packets(laptop: Host, server: Host) -> None:
    laptop.run("sh", "-c", "echo 'nameserver 192.0.2.53' > /etc/resolv.conf")
    laptop.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter")
    before = state(laptop)
    peer = "AllowedIPs = 0.0.0.0/0, ::/0"
    process = start(laptop, write(laptop, interface="DNS = 10.0.0.1, home.example", peer=peer, server=server))
    ping(laptop, FAR)
    ping(laptop, "fd00::1")
    up = state(laptop)
    assert "suppress_prefixlength 0" in up["rules"]
    assert "not from all fwmark 0xca6c lookup 51820" in up["rules"]
    assert "default dev home table 51820" in up["routes"]
    assert "table inet wgpy-home" in up["firewall"]
    assert up["src_valid_mark"] == "1\n"
    assert "nameserver 10.0.0.1\nsearch home.example\n" in up["resolv.conf"]
    assert laptop.run("wg", "show", "home", "fwmark").stdout == "0xca6c\n"
    route = laptop.run("ip", "route", "get", str(server.ipv4), "mark", "51820").stdout
    assert "dev eth0" in route
    assert process.stop() == 0
    assert state(laptop) == before


def test_two_default_routes_have_a_table_each_and_go_one_by_one(laptop: Host, server: Host) -> None:
    before = state(laptop)
    first = start(laptop, write(laptop, peer="AllowedIPs = 0.0.0.0/0", server=server))
    with_first = state(laptop)
    second_file = write(laptop, name="work", peer="AllowedIPs = ::/0, 10.9.0.0/16", server=server)
    laptop.run("sed", "-i", "s/10.0.0.2.24, fd00::2/fd00::3/", second_file)
    second = start(laptop, second_file)
    assert "lookup 51821" in state(laptop)["rules"]
    assert second.stop() == 0
    assert state(laptop) == with_first
    assert first.stop() == 0
    assert state(laptop) == before


def test_a_table_of_the_files_choice_and_none(laptop: Host, server: Host) -> None:
    process = start(laptop, write(laptop, interface="Table = 1234\nFwMark = 7", server=server))
    assert "10.0.0.0/24 dev home" in laptop.run("ip", "route", "show", "table", "1234").stdout
    assert laptop.run("wg", "show", "home", "fwmark").stdout == "0x7\n"
    process.stop()
    process = start(
        laptop, write(laptop, interface="Table = off", peer="AllowedIPs = 10.9.0.0/16", server=server)
    )
    assert "10.9" not in laptop.run("ip", "route", "show", "table", "all").stdout
    process.stop()


def test_the_mtu_is_the_paths_less_80_or_the_files(laptop: Host, server: Host) -> None:
    laptop.run("ip", "link", "set", "eth0", "mtu", "1400")
    process = start(laptop, write(laptop, server=server))
    assert "mtu 1320" in laptop.run("ip", "link", "show", "home").stdout
    process.stop()
    process = start(laptop, write(laptop, interface="MTU = 1300", server=server))
    assert "mtu 1300" in laptop.run("ip", "link", "show", "home").stdout
    process.stop()


def test_hooks_run_in_their_order_with_the_name_put_in(laptop: Host, server: Host) -> None:
    hooks = "\n".join(
        f"{key} = echo {key} %i $(ls /sys/class/net | grep -c home) >> /run/hooks"
        for key in ("PostDown", "PreDown", "PostUp", "PreUp")
    )
    path = write(laptop, interface=hooks + "\nPostUp = echo second >> /run/hooks", server=server)
    start(laptop, path).stop()
    assert laptop.run("cat", "/run/hooks").stdout.splitlines() == [
        "PreUp home 0",
        "PostUp home 1",
        "second",
        "PreDown home 1",
        "PostDown home 0",
    ]


def test_a_hook_may_use_the_tunnel_while_it_comes_up(laptop: Host, server: Host) -> None:
    path = write(laptop, interface="PostUp = ping -c1 -W5 10.0.0.1", server=server)
    start(laptop, path).stop()


FAILURES = [
    ("PreUp = exit 3", "", "PreUp: `exit 3` failed with status 3"),
    ("PostUp = exit 3", "", "PostUp: `exit 3` failed with status 3"),
    ("ListenPort = 9999", "", "home: cannot listen on port 9999: Address already in use"),
    ("", "AllowedIPs = 198.51.100.0/24", "adding the route 198.51.100.0/24"),
    ("Table = offf", "", "home.conf:4: Table: a table's number, main, auto or off was expected"),
    ("PostUp = exit 1", "AllowedIPs = 0.0.0.0/0, ::/0", "PostUp: `exit 1`"),
]


@pytest.mark.parametrize(("interface", "peer", "message"), FAILURES)
def test_when_a_step_fails_nothing_is_left(
    laptop: Host, server: Host, interface: str, peer: str, message: str
) -> None:
    laptop.run("sh", "-c", "echo 'nameserver 192.0.2.53' > /etc/resolv.conf")
    path = write(laptop, interface=f"{interface}\nDNS = 10.0.0.1", peer=peer, server=server)
    occupy = "import socket,time; s=socket.socket(2,2); s.bind(('',9999)); print('bound'); time.sleep(99)"
    laptop.start("python", "-c", occupy, log="other").wait_text("bound")
    before = state(laptop)
    result = laptop.run("python", "-P", "-m", "wgpy.quick", path, check=False)
    assert result.returncode in (1, 2)
    [error] = result.stderr.splitlines()
    assert error.startswith("wgpy: ")
    assert message in error
    assert state(laptop) == before


def test_a_signal_while_it_comes_up_leaves_nothing(laptop: Host, server: Host) -> None:
    before = state(laptop)
    path = write(laptop, interface="PostUp = echo waiting; sleep 60", server=server)
    process = laptop.start("python", "-P", "-m", "wgpy.quick", path, log="tunnel")
    process.wait_text("waiting")
    assert process.stop() == 1
    assert "stopped before it was up" in process.text()
    assert state(laptop) == before


def test_the_end_of_the_interface_or_of_the_socket_is_the_tunnels(laptop: Host, server: Host) -> None:
    before = state(laptop)
    for end in (["ip", "link", "delete", "home"], ["rm", "/run/wireguard/home.sock"]):
        process = start(laptop, write(laptop, peer="AllowedIPs = 0.0.0.0/0", server=server))
        laptop.run(*end)
        assert process.wait() == 0
        assert state(laptop) == before


def test_a_tunnel_that_is_up_is_not_started_twice(laptop: Host, server: Host) -> None:
    path = write(laptop, server=server)
    process = start(laptop, path)
    result = laptop.run("python", "-P", "-m", "wgpy.quick", path, check=False)
    assert result.returncode == 1
    assert "home is up already by process" in result.stderr
    assert process.returncode is None
    process.stop()


def test_an_interface_of_that_name_is_left_alone(laptop: Host, server: Host) -> None:
    laptop.run("ip", "link", "add", "home", "type", "veth", "peer", "name", "emoh")
    result = laptop.run("python", "-P", "-m", "wgpy.quick", write(laptop, server=server), check=False)
    assert "there is an interface home already" in result.stderr
    assert "home@emoh" in laptop.run("ip", "link").stdout


def test_detached_it_returns_when_it_is_up_and_down_takes_it_down(laptop: Host, server: Host) -> None:
    before = state(laptop)
    path = write(laptop, peer="AllowedIPs = 0.0.0.0/0", server=server)
    result = laptop.run("wgpy", "up", "--detach", path)
    assert "home: it is up" in result.stdout
    ping(laptop, FAR)
    assert laptop.run("wgpy", "down", path).stdout == "home is down\n"
    assert state(laptop) == before
    result = laptop.run("wgpy", "down", path, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("wgpy: there is no tunnel home")


def test_down_takes_the_name_alone_too(laptop: Host, server: Host) -> None:
    laptop.run("wgpy", "up", "--detach", write(laptop, server=server))
    assert laptop.run("wgpy", "down", "home").stdout == "home is down\n"


def test_a_file_that_anybody_may_read_is_warned_of(laptop: Host, server: Host) -> None:
    path = write(laptop, server=server)
    laptop.run("chmod", "644", path)
    process = start(laptop, path)
    assert f"warning: anybody may read {path}" in process.text()
    process.stop()


def test_where_ipv6_is_off_the_rest_comes_up(laptop: Host, server: Host) -> None:
    laptop.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    before = state(laptop)
    process = start(laptop, write(laptop, peer="AllowedIPs = 0.0.0.0/0, ::/0", server=server))
    assert "warning: IPv6 is off on this host" in process.text()
    ping(laptop, FAR)
    process.stop()
    assert state(laptop) == before


def test_detached_a_failure_is_told_and_has_a_status(laptop: Host, server: Host) -> None:
    before = state(laptop)
    path = write(laptop, interface="PostUp = false", server=server)
    result = laptop.run("wgpy", "up", "--detach", path, check=False)
    assert result.returncode == 1
    assert "PostUp: `false` failed" in result.stderr
    assert state(laptop) == before


@pytest.mark.parametrize("again", ["down", "up"])
def test_what_a_killed_process_left_is_cleared(laptop: Host, server: Host, again: str) -> None:
    laptop.run("sh", "-c", "echo 'nameserver 192.0.2.53' > /etc/resolv.conf")
    before = state(laptop)
    path = write(laptop, interface="DNS = 10.0.0.1", peer="AllowedIPs = 0.0.0.0/0, ::/0", server=server)
    start(laptop, path).kill()
    assert state(laptop) != before
    if again == "down":
        assert "what it left behind is removed" in laptop.run("wgpy", "down", path).stdout
        laptop.run("rm", "-f", "/run/wireguard/home.sock")
    else:
        start(laptop, path).stop()
    assert state(laptop) == before


def test_save_config_writes_what_the_tunnel_has_become(laptop: Host, server: Host) -> None:
    path = write(laptop, interface="SaveConfig = true\nPostUp = true\nTable = 77", server=server)
    process = start(laptop, path)
    new_peer = str(PrivateKey(bytes([3] * 32)).public_key())
    laptop.run("wg", "set", "home", "peer", new_peer, "allowed-ips", "10.0.0.3/32")
    port = int(laptop.run("wg", "show", "home", "listen-port").stdout)
    process.stop()
    saved = parse_config(laptop.run("cat", path).stdout, path)
    assert [str(peer.public_key) for peer in saved.peers] == [str(SERVER.public_key()), new_peer]
    assert (saved.listen_port, saved.table, saved.post_up, saved.save_config) == (port, 77, ["true"], True)
    assert saved.private_key == LAPTOP
    assert sorted(map(str, saved.addresses)) == ["10.0.0.2/24", "fd00::2/64"]
    assert laptop.run("stat", "-c", "%a", path).stdout == "600\n"
    start(laptop, path).stop()


def test_an_endpoint_by_name_is_looked_up(laptop: Host, server: Host) -> None:
    (laptop.path / "hosts").write_text(f"127.0.0.1 localhost\n{server.ipv6} vpn.example\n")
    path = write(laptop, server=server)
    laptop.run("sed", "-i", "s/^Endpoint.*/Endpoint = vpn.example:51820/", path)
    process = start(laptop, path)
    ping(laptop, "10.0.0.1")
    assert f"[{server.ipv6}]:51820" in laptop.run("wg", "show", "home", "endpoints").stdout
    process.stop()


def test_a_file_of_another_name_is_refused(laptop: Host, server: Host) -> None:
    laptop.run("cp", write(laptop, server=server), "/run/a name.conf")
    result = laptop.run("python", "-P", "-m", "wgpy.quick", "/run/a name.conf", check=False)
    assert result.returncode == 2
    assert "the file is called INTERFACE.conf" in result.stderr


def test_stock_tools_see_and_change_the_tunnel(laptop: Host, server: Host, tmp_path: Path) -> None:
    process = start(laptop, write(laptop, server=server))
    laptop.run("wg", "set", "home", "listen-port", "40000")
    shown = json.loads(laptop.run("wgpy", "show", "home", "--json").stdout)
    assert shown["listen_port"] == 40000
    wait_until(lambda: laptop.run("ping", "-c1", "-W1", "10.0.0.1", check=False).returncode == 0, "a reply")
    process.stop()
