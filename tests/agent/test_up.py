"""`wgpy up` against a real coordinator, on hosts of their own: what goes wrong is one line and leaves
nothing.
"""

from __future__ import annotations

import dataclasses
import random
import re
import sys
import time
from collections.abc import Iterator

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh
from tests.netns.processes import Result, wait_until
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token

pytestmark = [pytest.mark.root, pytest.mark.slow]

STATE = "/var/lib/wgpy"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Lab("up") as lab:
        yield Mesh(Internet(lab))


@pytest.fixture
def host(mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host that has not joined, and is gone after the test."""
    host = mesh.internet.host(f"h{len(mesh.internet.lab.hosts)}")
    yield host
    host.run("wgpy", "leave", mesh.network, check=False)
    host.close()


def refusal(host: Host, *command: str, **options: object) -> str:
    """The one line that a command fails with; it ended, with an exit status."""
    done: Result = host.run(*command, check=False, **options)  # type: ignore[arg-type]
    assert done.returncode not in (0, 130), done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("wgpy: ")
    return lines[0]


def left_behind(host: Host) -> list[str]:
    """Files of state, sockets, and interfaces but eth0 and lo; processes are gone, or go at once."""
    wait_until(lambda: not host.processes(), f"no process is left of {host.processes()}")
    files = host.run("find", STATE, "-type", "f", check=False).stdout.split()
    links = re.findall(r"^\d+: ([^:@]+)", host.run("ip", "-o", "link").stdout, re.MULTILINE)
    sockets = host.run("find", "/run/wgpy", "/run/wireguard", "-name", "*.sock", check=False).stdout.split()
    return [*files, *(link for link in links if link not in ("lo", "eth0")), *sockets]


def nodes(mesh: Mesh) -> int:
    return len(mesh.admin("node", "list", mesh.network, "--json").split('"id"')) - 1


# --- tokens ---------------------------------------------------------------------------------------


def test_a_malformed_token_is_told_without_being_repeated(mesh: Mesh, host: Host) -> None:
    token = mesh.token()
    other = "B" if token[30] == "A" else "A"
    for bad in (token[:-3], token[:30] + other + token[31:], token + "AAAA"):
        line = refusal(host, "wgpy", "up", bad)
        assert "the token is damaged" in line
        assert bad[8:30] not in line
    assert left_behind(host) == []


def test_what_is_neither_token_nor_file_nor_network_says_what_was_expected(host: Host) -> None:
    assert "expected a token (wgpy1_…), a FILE.conf or a network" in refusal(host, "wgpy", "up", "office")
    assert "joined no network yet: wgpy up TOKEN" in refusal(host, "wgpy", "up")
    assert left_behind(host) == []


def test_a_used_up_token_is_told_and_leaves_nothing(mesh: Mesh, host: Host) -> None:
    token = mesh.token()
    first = mesh.node(f"first{random.random()}"[:12])
    first.up(token)
    first.wait_up()
    assert "used up by another host: ask for a new one" in refusal(host, "wgpy", "up", token)
    assert left_behind(host) == []


def test_a_token_of_another_coordinator_or_one_deleted_is_told(mesh: Mesh, host: Host) -> None:
    token = Token.decode(mesh.token())
    foreign = dataclasses.replace(token, identity_hash=bytes(32))
    assert "is not the coordinator that was named to this host" in refusal(
        host, "wgpy", "up", foreign.encode()
    )
    unknown = dataclasses.replace(token, secret=BearerSecret(bytes(32)))
    assert "this token is unknown" in refusal(host, "wgpy", "up", unknown.encode())
    assert left_behind(host) == []


PROXY = """
import ssl, subprocess, sys, trio
listen, upstream = sys.argv[1], sys.argv[2]
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", "/run/key.pem", "-out", "/run/leaf.pem", "-subj", "/CN=x"],
               check=True, capture_output=True)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("/run/leaf.pem", "/run/key.pem")
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

async def pump(source, sink):
    async for data in source:
        await sink.send_all(data)

async def serve(raw):
    # One thread reads and writes: a connection of TLS bears no two at once.
    try:
        near = trio.SSLStream(raw, server, server_side=True)
        far = trio.SSLStream(await trio.open_tcp_stream(upstream, 8443), client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, near, far)
            await pump(far, near)
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass

async def main():
    (listener,) = await trio.open_tcp_listeners(8443, host=listen)
    print("ready", flush=True)
    await trio.serve_listeners(serve, [listener])

trio.run(main)
"""


def test_a_certificate_that_does_not_match_the_pin_stops_the_join_and_spends_nothing(
    mesh: Mesh, host: Host
) -> None:
    thief = mesh.internet.host("thief")
    upstream = str(mesh.coordinator.ipv4)
    proxy = thief.start(sys.executable, "-c", PROXY, str(thief.ipv4), upstream, log="proxy")
    proxy.wait_text("ready")
    token = Token.decode(mesh.token())
    through = dataclasses.replace(token, urls=(f"https://{thief.ipv4}:8443",))
    assert "pin mismatch" in refusal(host, "wgpy", "up", through.encode())
    assert left_behind(host) == []
    host.run("wgpy", "up", "--detach", token.encode())


def test_nobody_at_the_address_is_told_with_the_reason(mesh: Mesh, host: Host) -> None:
    token = dataclasses.replace(Token.decode(mesh.token()), urls=("https://198.51.100.1:1",))
    line = refusal(host, "wgpy", "up", token.encode())
    assert line == "wgpy: cannot reach the coordinator at https://198.51.100.1:1: Connection refused"
    assert left_behind(host) == []


@pytest.mark.parametrize("way", ["stdin", "file", "environment"])
def test_a_token_comes_by_ways_that_others_do_not_see(mesh: Mesh, host: Host, way: str) -> None:
    token = mesh.token()
    if way == "stdin":
        host.run("wgpy", "up", "--detach", "-", input=token + "\n")
    elif way == "file":
        host.run("sh", "-c", f"umask 077; echo {token} > /run/token")
        host.run("wgpy", "up", "--detach", "--token-file", "/run/token")
    else:
        host.run("wgpy", "up", "--detach", env={"WGPY_TOKEN": token})
    assert mesh.network in host.run("wgpy", "status").stdout


def test_a_token_given_as_argument_is_soon_in_no_process_list(mesh: Mesh, host: Host) -> None:
    token = mesh.token()
    agent = host.start("wgpy", "up", token, log="agent", env={"WGPY_TOKEN": token})
    agent.wait_text("joining")
    command = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n' | grep wgpy1_ | sort | uniq -c"
    # nsenter, which put the command on the host, shows its own arguments; it is no part of the host.
    seen = host.run("sh", "-c", command, check=False).stdout
    assert token not in seen
    agent.wait_text("is up")
    agent.stop()


# --- the host -------------------------------------------------------------------------------------


def test_an_interface_name_in_use_is_told_before_the_token_is_spent(mesh: Mesh, host: Host) -> None:
    host.run("ip", "link", "add", "taken", "type", "bridge")
    token = mesh.token()
    line = refusal(host, "wgpy", "up", "--interface", "taken", token)
    assert "cannot make taken: an interface of that name exists" in line
    host.run("ip", "link", "del", "taken")
    assert left_behind(host) == []
    host.run("wgpy", "up", "--detach", token)


def test_the_default_name_in_use_needs_another_and_no_second_token(mesh: Mesh, host: Host) -> None:
    host.run("ip", "link", "add", f"wg-{mesh.network}", "type", "bridge")
    token = mesh.token()
    done = host.run("wgpy", "up", token, check=False)
    assert done.returncode == 1
    assert f"cannot make wg-{mesh.network}: an interface of that name exists" in done.stderr
    assert host.processes() == []
    host.run("wgpy", "up", "--detach", "--interface", "other", token)
    assert "other" in host.run("ip", "-o", "link").stdout


def test_without_permission_nothing_is_spent_and_nothing_is_left(mesh: Mesh, host: Host) -> None:
    token = mesh.token()
    line = refusal(host, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "wgpy", "up", token)
    assert "a TUN device needs root or CAP_NET_ADMIN" in line
    assert left_behind(host) == []
    host.run("wgpy", "up", "--detach", token)


def test_a_damaged_state_file_is_reported_and_kept(mesh: Mesh, host: Host) -> None:
    host.run("wgpy", "up", "--detach", mesh.token())
    host.run("wgpy", "down")
    path = f"{STATE}/{mesh.network}.json"
    host.run("truncate", "-s", "700", path)
    before = host.run("sha256sum", path).stdout
    for command in (("up",), ("up", mesh.network), ("leave",)):
        assert f"the state file {path} is damaged" in refusal(host, "wgpy", *command)
    assert host.run("sha256sum", path).stdout == before
    assert "is damaged" in host.run("wgpy", "doctor", check=False).stdout
    assert host.processes() == []
    # Joining anew is possible all the same, and takes another name.
    host.run("wgpy", "up", "--detach", mesh.token())
    assert host.run("sha256sum", path).stdout == before
    host.run("wgpy", "leave", f"{mesh.network}-2")


def test_a_range_that_collides_with_the_lan_needs_a_local_choice(mesh: Mesh, host: Host) -> None:
    v4, v6 = re.findall(r"([\d.]+/16|fd[0-9a-f:]+/64)", mesh.admin("network", "list"))
    lan4, lan6 = v4.replace(".0.0/16", ".7.1/24"), v6.replace("/64", "7/120")
    host.ip(
        "link add lan type bridge", f"addr add {lan4} dev lan", f"addr add {lan6} dev lan", "link set lan up"
    )
    token = mesh.token()
    done = host.run("wgpy", "up", "--detach", token, check=False)
    assert done.returncode == 1
    assert "has no range that this host follows" in done.stderr
    assert f"{v4} overlaps" in done.stderr
    assert host.processes() == []
    host.run("wgpy", "up", "--detach", "--accept", v4, mesh.network)
    routes = host.run("ip", "route").stdout + host.run("ip", "-6", "route").stdout
    assert f"{v4} dev wg-{mesh.network}" in routes
    assert f"{v6} dev wg-{mesh.network}" not in routes
    assert f"{v6} overlaps" in host.run("wgpy", "status").stdout


def test_one_host_runs_a_network_once(mesh: Mesh, host: Host) -> None:
    token = mesh.token()
    host.run("wgpy", "up", "--detach", token)
    for what in (token, mesh.network):
        done = host.run("wgpy", "up", what, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{mesh.network} is already running on this host" in done.stderr


# --- crashes --------------------------------------------------------------------------------------


def test_kill_9_at_any_moment_of_a_join_burns_no_token_and_makes_no_second_node(
    mesh: Mesh, host: Host
) -> None:
    rng, before, token = random.Random(5), nodes(mesh), mesh.token()
    for _ in range(12):
        agent = host.start("wgpy", "up", token, log="agent")
        # The join itself takes some 50 ms, about 400 ms after the start.
        time.sleep(rng.uniform(0.25, 0.7))
        agent.kill()
        wait_until(lambda: host.processes() == [], "it is dead")
    host.run("wgpy", "up", "--detach", token)
    assert nodes(mesh) == before + 1
    assert host.run("find", STATE, "-name", ".joining-*").stdout == ""


def test_leaving_without_the_coordinator_forgets_here_and_says_so(host: Host) -> None:
    mesh = Mesh(Internet(host_lab := Lab("leave")))
    try:
        node = mesh.join("node1")
        mesh.serving.kill()
        done = node.host.run("wgpy", "leave", mesh.network)
        assert "the coordinator could not be told" in done.stderr
        assert left_behind(node.host) == []
        assert "joined no network" in node.host.run("wgpy", "status").stdout
    finally:
        host_lab.close()


def test_ping_and_status_say_by_which_path_and_why_not(mesh: Mesh, host: Host) -> None:
    host.run("wgpy", "up", "--detach", "--name", "pinger", mesh.token())
    target = mesh.join("target")
    wait_until(lambda: "target" in host.run("wgpy", "status").stdout, "the peer is known")
    target.host.run("true")
    done = host.run("wgpy", "ping", "target", "-c", "2", "-i", "0.2")
    assert re.search(
        r"1: target \([\d.]+\) answered in [\d.]+ ms, direct by (198\.51\.100\.\d+|\[2001:db8:.*\]):\d+",
        done.stdout,
    )
    assert host.run("wgpy", "ping", target.address("v6"), "-c", "1").returncode == 0
    assert "no node 'nobody' in this network" in refusal(host, "wgpy", "ping", "nobody")
    assert target.agent is not None
    target.agent.kill()
    done = host.run("wgpy", "ping", "target", "-c", "1", "-W", "1", check=False)
    assert done.returncode == 1
    assert "no answer from target" in done.stdout
    wait_until(
        lambda: (
            "offline: the coordinator does not hear from it" in host.run("wgpy", "status").stdout
            or "no answer from" in host.run("wgpy", "status").stdout
        ),
        "status says that it is gone, and why",
        timeout=90,
    )


def test_routes_and_addresses_that_somebody_took_away_come_back(mesh: Mesh, host: Host) -> None:
    host.run("wgpy", "up", "--detach", mesh.token())
    interface = f"wg-{mesh.network}"
    before = host.run("ip", "-o", "addr", "show", interface).stdout.count("global")
    assert before == 2
    host.run("ip", "link", "set", interface, "down")
    host.run("ip", "link", "set", interface, "up")
    wait_until(lambda: interface in host.run("ip", "route").stdout, "the IPv4 route is back")
    wait_until(lambda: interface in host.run("ip", "-6", "route").stdout, "the IPv6 route is back")
    host.run("ip", "addr", "flush", "dev", interface, "scope", "global")
    wait_until(
        lambda: host.run("ip", "-o", "addr", "show", interface).stdout.count("global") == before,
        "the addresses are back",
    )


def test_a_deleted_interface_ends_the_agent_with_one_line(mesh: Mesh, host: Host) -> None:
    agent = host.start("wgpy", "up", mesh.token(), log="agent")
    agent.wait_text("connected")
    host.run("ip", "link", "delete", f"wg-{mesh.network}")
    assert agent.wait() == 1
    assert agent.text().endswith(f"wgpy: wg-{mesh.network}: the interface was deleted\n")


def test_a_removed_uapi_socket_asks_the_agent_to_end(mesh: Mesh, host: Host) -> None:
    agent = host.start("wgpy", "up", mesh.token(), log="agent")
    agent.wait_text("connected")
    host.run("rm", f"/run/wireguard/wg-{mesh.network}.sock")
    assert agent.wait() == 0


def test_a_node_removed_while_it_was_away_forgets_when_it_comes_back(mesh: Mesh, host: Host) -> None:
    host.run("wgpy", "up", "--detach", "--name", "away", mesh.token())
    host.run("wgpy", "down")
    mesh.admin("node", "remove", "away", "--network", mesh.network)
    done = host.run("wgpy", "up", check=False)
    assert done.returncode == 3
    assert "its coordinator removed this node; the network is forgotten here" in done.stdout
    assert left_behind(host) == []


def test_a_host_without_ipv6_joins_with_ipv4_and_says_so(mesh: Mesh, host: Host) -> None:
    host.run(
        "sh", "-c", "for each in all default; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done"
    )
    host.run("wgpy", "up", "--detach", mesh.token())
    assert "IPv6 is switched off on this host" in host.run("wgpy", "status").stdout
    assert f"wg-{mesh.network}" in host.run("ip", "route").stdout
    assert "off for new interfaces: no IPv6 in the mesh" in host.run("wgpy", "doctor").stdout
