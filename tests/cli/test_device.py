"""`wgpy-device` as wg-quick and people drive it: background, descriptors, environment, every way to end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import wait_until
from wgpy import __version__
from wgpy.engine import ENGINES

PROGRAM = str(Path(sys.executable).with_name("wgpy-device"))
KEY_A = "mFh8TcNGMVtNi6CHpUHLt7DBaGwQHGzlaH9Kk3Xh53k="
KEY_B = "uFg5JvcFKOlCtEZ8bLfTjOsELWjN2pQ/o8V9Ol8Vw1Y="


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("device") as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("host")


@pytest.fixture(params=ENGINES)
def chosen(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that chooses an engine: none for the one that is there without."""
    return {} if request.param == ENGINES[0] else {"WGPY_ENGINE": str(request.param)}


def public_key(private: str) -> str:
    return subprocess.run(
        ["wg", "pubkey"], input=private, text=True, capture_output=True, check=True
    ).stdout.strip()


def devices(host: Host) -> list[int]:
    """Process ids of the wgpy-device processes of a host."""
    found = []
    for pid in host.processes():
        try:
            if b"wgpy-device" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            pass
    return found


def wait_gone(host: Host, interface: str = "wg0") -> None:
    wait_until(lambda: not devices(host), "wgpy-device ends")
    assert host.run("sh", "-c", "ls /run/wireguard").stdout == ""
    assert interface not in host.run("ls", "/sys/class/net").stdout.split()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], text=True, capture_output=True, check=False, env=os.environ | environment
    )


class TestArguments:
    def test_version(self) -> None:
        done = run("--version")
        assert (done.returncode, done.stdout) == (0, f"wgpy-device {__version__}\n")

    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_help(self, flag: str) -> None:
        done = run(flag)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: wgpy-device [-f|--foreground] INTERFACE\n")

    @pytest.mark.parametrize(
        "arguments", [[], ["-f"], ["wg0", "wg1"], ["-x", "wg0"], ["--nonsense"], ["wg0", "-f"]]
    )
    def test_other_arguments_show_the_usage_and_fail(self, arguments: list[str]) -> None:
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("usage: ")

    @pytest.mark.parametrize(
        ("name", "environment", "message"),
        [
            ("x" * 16, {}, "an interface name has 1 to 15 characters"),
            ("a/b", {}, "an interface name has no spaces, slashes or colons"),
            ("wg0", {"WG_TUN_FD": "x"}, "WG_TUN_FD is the number of a file descriptor; got 'x'"),
            ("wg0", {"WG_TUN_FD": "0"}, "file descriptor 0 is not a TUN device"),
            ("wg0", {"WG_TUN_FD": "999"}, "file descriptor 999 is not a TUN device: Bad file descriptor"),
        ],
    )
    @pytest.mark.parametrize("foreground", [[], ["-f"]])
    def test_what_cannot_be_is_one_line_and_status_1(
        self, name: str, environment: dict[str, str], message: str, foreground: list[str]
    ) -> None:
        done = run(*foreground, name, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf"wgpy-device: {re.escape(message)}.*\n", done.stderr)


def test_it_imports_neither_the_agent_nor_what_only_commands_need() -> None:
    code = (
        "import sys, wgpy.cli.device, wgpy.daemon, wgpy.device, wgpy.engine.native, wgpy.engine.portable_io;"
        "print(*sorted(m for m in sys.modules if m.partition('.')[0] in "
        "{'click', 'h11', 'asyncio', 'coordinator', 'pyroute2', 'argparse', 'http', 'email', 'segno'}"
        " or m.startswith(('wgpy.agent', 'wgpy.mesh', 'wgpy.quick', 'wgpy.config'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.split() == []


def test_the_one_who_only_starts_another_does_not_import_trio() -> None:
    code = "import sys, wgpy.cli.device; print({'trio', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.root
class TestBackground:
    def test_it_returns_when_the_device_and_the_socket_serve(self, host: Host) -> None:
        done = host.run("wgpy-device", "wg0")
        assert (done.stdout, done.stderr) == ("", "")
        assert "mtu 1420" in host.run("ip", "link", "show", "wg0").stdout
        assert host.run("wg", "show", "interfaces").stdout == "wg0\n"
        [pid] = devices(host)
        assert os.getsid(pid) == pid
        for number in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{number}").endswith("/dev/null")
        assert os.readlink(f"/proc/{pid}/cwd") == "/"

    def test_no_descriptor_of_the_caller_stays_open(self, host: Host) -> None:
        host.run("sh", "-c", "exec 7>/run/seven 8>/run/eight; wgpy-device wg0")
        [pid] = devices(host)
        targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        # An engine may have one of its own beside the device's.
        assert sum("/dev/net/tun" in target for target in targets) in (1, 2)
        assert not [target for target in targets if "pipe:" in target]

    @pytest.mark.parametrize("name", ["wg%d", "wg7"])
    def test_the_name_is_written_where_it_is_asked_for(self, host: Host, name: str) -> None:
        host.run("wgpy-device", name, env={"WG_TUN_NAME_FILE": "/run/name"})
        written = host.run("cat", "/run/name").stdout
        assert written == host.run("wg", "show", "interfaces").stdout == f"{name.replace('%d', '0')}\n"

    def test_a_name_file_that_cannot_be_written_fails_and_leaves_nothing(self, host: Host) -> None:
        done = host.run("wgpy-device", "wg0", env={"WG_TUN_NAME_FILE": "/nowhere/name"}, check=False)
        assert done.returncode == 1
        assert "cannot write the interface's name to /nowhere/name: No such file" in done.stderr
        wait_gone(host)

    def test_a_second_of_the_same_name_is_refused_and_the_first_goes_on(self, host: Host) -> None:
        host.run("wgpy-device", "wg0")
        for flag in ([], ["-f"]):
            done = host.run("wgpy-device", *flag, "wg0", check=False)
            assert done.returncode == 1
            assert done.stderr == (
                "wgpy-device: cannot make wg0: a TUN device of that name is in use by another process\n"
            )
        assert host.run("wg", "show", "interfaces").stdout == "wg0\n"

    def test_a_socket_in_use_leaves_no_tun_device(self, host: Host) -> None:
        host.run("wgpy-device", "wg0")
        host.run("ip", "link", "set", "wg0", "name", "other")
        done = host.run("wgpy-device", "wg0", check=False)
        assert (done.returncode, "wg0 is in use: another process answers" in done.stderr) == (1, True)
        assert "wg0" not in host.run("ls", "/sys/class/net").stdout

    def test_a_background_that_cannot_serve_is_told_by_the_foreground(self, host: Host) -> None:
        done = host.run("wgpy-device", "wg0", env={"WGPY_ENGINE": "steam"}, check=False)
        assert done.returncode == 1
        assert "is one of" in done.stderr
        assert "got 'steam'" in done.stderr
        wait_gone(host)

    @pytest.mark.parametrize(
        ("level", "logs"),
        [(None, False), ("", False), ("silent", False), ("error", False), ("verbose", True)],
    )
    def test_it_logs_in_the_background_only_when_told_to(
        self, host: Host, level: str | None, logs: bool
    ) -> None:
        env = {} if level is None else {"LOG_LEVEL": level}
        host.run("sh", "-c", "wgpy-device wg0 > /run/log 2>&1", env=env)
        host.run("ip", "link", "set", "wg0", "up")
        wait_until(lambda: host.run("wg", "show", "wg0", "listen-port").stdout != "0\n", "it is up")
        assert ("listening on port" in host.run("cat", "/run/log").stdout) is logs

    def test_the_environment_of_other_implementations_does_no_harm(self, host: Host) -> None:
        env = {"WG_LOG_LEVEL": "debug", "WG_LOG_FILE": "/nowhere", "WG_SUDO": "1", "WG_THREADS": "4"}
        host.run("wgpy-device", "wg0", env=env)
        assert host.run("wg", "show", "interfaces").stdout == "wg0\n"


@pytest.mark.root
class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it(self, host: Host, number: signal.Signals) -> None:
        host.run("wgpy-device", "wg0")
        os.kill(devices(host)[0], number)
        wait_gone(host)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_in_the_foreground_is_success(self, host: Host, number: signal.Signals) -> None:
        process = host.start("wgpy-device", "--foreground", "wg0")
        wait_until(lambda: host.run("wg", "show", "interfaces").stdout == "wg0\n", "it serves")
        process.signal(number)
        assert process.wait() == 0
        assert process.text() == ""
        wait_gone(host)

    def test_deleting_the_interface_ends_it(self, host: Host) -> None:
        host.run("wgpy-device", "wg0")
        host.run("ip", "link", "delete", "wg0")
        wait_gone(host)

    def test_removing_the_socket_ends_it(self, host: Host) -> None:
        host.run("wgpy-device", "wg0")
        host.run("rm", "/run/wireguard/wg0.sock")
        wait_gone(host)

    def test_after_a_kill_it_starts_again(self, host: Host) -> None:
        host.run("wgpy-device", "wg0")
        os.kill(devices(host)[0], signal.SIGKILL)
        wait_until(lambda: "wg0" not in host.run("ls", "/sys/class/net").stdout, "the interface goes")
        assert host.run("ls", "/run/wireguard").stdout == "wg0.sock\n"
        host.run("wgpy-device", "wg0")
        assert host.run("wg", "show", "interfaces").stdout == "wg0\n"


@pytest.mark.root
def test_descriptors_handed_in_are_used(host: Host) -> None:
    code = """
import os, socket, sys
from wgpy.tun import Tun
from wgpy.uapi.listener import UapiListener
tun, listener = Tun.create("odd"), UapiListener.open("odd")
os.set_inheritable(tun.fileno(), True)
os.set_inheritable(listener.socket.fileno(), True)
os.environ |= {"WG_TUN_FD": str(tun.fileno()), "WG_UAPI_FD": str(listener.socket.fileno())}
os.execvp("wgpy-device", ["wgpy-device", *sys.argv[1:]])
"""
    host.start("python", "-c", code, "-f", "ignored")
    wait_until(lambda: host.run("wg", "show", "interfaces").stdout == "odd\n", "it serves")
    host.run("rm", "/run/wireguard/odd.sock")
    wait_gone(host, "odd")
    host.run("python", "-c", code, "ignored")
    assert host.run("wg", "show", "interfaces").stdout == "odd\n"


@pytest.mark.root
def test_wg_quick_brings_a_tunnel_up_and_down_with_it(lab: Lab, chosen: dict[str, str]) -> None:
    internet = Internet(lab)
    one, two = internet.host("one"), internet.host("two")
    # Where systemd's or openresolv's is missing, wg-quick only wants the program.
    env = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wgpy-device"} | chosen
    for host, other, private, their_private, number in (
        (one, two, KEY_A, KEY_B, 1),
        (two, one, KEY_B, KEY_A, 2),
    ):
        everything = "0.0.0.0/0, ::/0" if host is one else "10.0.0.1/32, fd00::1/128"
        text = (
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\n"
            f"Address = 10.0.0.{number}/24, fd00::{number}/64\nPostUp = echo up %i >> /run/hooks\n"
            f"[Peer]\nPublicKey = {public_key(their_private)}\nEndpoint = {other.ipv4}:51820\n"
            f"AllowedIPs = {everything}\nPersistentKeepalive = 25\n"
        )
        host.run("sh", "-c", "umask 077; cat > /run/wg0.conf", input=text)
        done = host.run("wg-quick", "up", "/run/wg0.conf", env=env)
        assert "[#] wgpy-device wg0" in done.stderr
    two.run("ip", "address", "add", "203.0.113.7/32", "dev", "lo")
    for address in ("10.0.0.2", "fd00::2", "203.0.113.7"):
        one.run("ping", "-c1", "-W5", address)
    stripped = one.run("wg-quick", "strip", "/run/wg0.conf").stdout
    received = one.run("wg", "show", "wg0", "transfer").stdout
    one.run("sh", "-c", "cat > /run/stripped; wg syncconf wg0 /run/stripped", input=stripped)
    one.run("ping", "-c1", "-W5", "10.0.0.2")
    # The session went on: the counters were not begun anew.
    assert int(one.run("wg", "show", "wg0", "transfer").stdout.split()[1]) > int(received.split()[1]) > 0
    one.run("wg-quick", "save", "/run/wg0.conf")
    assert "PersistentKeepalive = 25" in one.run("cat", "/run/wg0.conf").stdout
    one.run("wg-quick", "down", "/run/wg0.conf")
    wait_gone(one)


UNIT = Path("/usr/lib/systemd/system/wg-quick@.service")


def unit_commands(instance: str, chosen: dict[str, str]) -> dict[str, list[str]]:
    """The words of wg-quick@.service's Exec lines for an instance, with the environment that it sets."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines()]
    environment = [value for key, _, value in lines if key == "Environment"]
    # What systemd gives a service, and a drop-in that names the program; nothing of ours comes through.
    begin = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", *environment]
    begin.append(f"WG_QUICK_USERSPACE_IMPLEMENTATION={PROGRAM}")
    begin += [f"{name}={value}" for name, value in chosen.items()]
    return {
        key: begin + shlex.split(value.replace("%i", instance))
        for key, _, value in lines
        if key.startswith("Exec")
    }


@pytest.mark.root
@pytest.mark.skipif(not UNIT.exists(), reason="wireguard-tools has no systemd unit here")
def test_the_commands_of_the_unit_wg_quick_start_reload_and_stop_it(lab: Lab, chosen: dict[str, str]) -> None:
    internet = Internet(lab)
    one, two = internet.host("one"), internet.host("two")
    commands = unit_commands("wg0", chosen)
    for host, other, private, their_private, number in (
        (one, two, KEY_A, KEY_B, 1),
        (two, one, KEY_B, KEY_A, 2),
    ):
        text = (
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\nAddress = 10.0.0.{number}/24\n"
            f"[Peer]\nPublicKey = {public_key(their_private)}\nEndpoint = {other.ipv4}:51820\n"
            f"AllowedIPs = 10.0.0.0/24\n"
        )
        host.run("mkdir", "-p", "/etc/wireguard")
        host.run("mount", "-t", "tmpfs", "none", "/etc/wireguard")
        host.run("sh", "-c", "umask 077; cat > /etc/wireguard/wg0.conf", input=text)
        host.run(*commands["ExecStart"])
    one.run("ping", "-c1", "-W5", "10.0.0.2")
    before = one.run("wg", "show", "wg0", "latest-handshakes").stdout
    one.run("sh", "-c", "echo PersistentKeepalive = 25 >> /etc/wireguard/wg0.conf")
    one.run(*commands["ExecReload"])
    assert one.run("wg", "show", "wg0", "persistent-keepalive").stdout.endswith("\t25\n")
    assert one.run("wg", "show", "wg0", "latest-handshakes").stdout == before, "the session went on"
    one.run("ping", "-c1", "-W5", "10.0.0.2")
    for _ in range(2):
        one.run(*commands["ExecStop"])
        wait_gone(one)
        one.run(*commands["ExecStart"])
    one.run("ping", "-c1", "-W5", "10.0.0.2")


@pytest.mark.root
def test_the_entrypoint_of_a_container_starts_and_stops_it(lab: Lab, chosen: dict[str, str]) -> None:
    """As images with wireguard-go or boringtun do it: `wg-quick up NAME` with the variables of either."""
    internet = Internet(lab)
    one, two = internet.host("one"), internet.host("two")
    environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        f"WG_QUICK_USERSPACE_IMPLEMENTATION={PROGRAM}", "LOG_LEVEL=info", "WG_LOG_LEVEL=info",
        "WG_LOG_FILE=/dev/stdout", "WG_SUDO=1", "WG_THREADS=4",
        "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1", *(f"{name}={chosen[name]}" for name in chosen),
    ]  # fmt: skip
    for host, other, private, their_private, number, allowed in (
        (one, two, KEY_A, KEY_B, 1, "0.0.0.0/0"),
        (two, one, KEY_B, KEY_A, 2, "10.0.0.1/32"),
    ):
        host.run("mkdir", "-p", "/etc/wireguard")
        host.run("mount", "-t", "tmpfs", "none", "/etc/wireguard")
        text = (
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\nAddress = 10.0.0.{number}/24\n"
            f"[Peer]\nPublicKey = {public_key(their_private)}\nEndpoint = {other.ipv4}:51820\n"
            f"AllowedIPs = {allowed}\n"
        )
        host.run("sh", "-c", "umask 077; cat > /etc/wireguard/wg0.conf", input=text)
        # The device keeps standard output, for its log.
        host.run("env", "-i", *environment, "sh", "-c", "exec wg-quick up wg0 > /run/log 2>&1")
        assert "listening on port 51820" in host.run("cat", "/run/log").stdout
    two.run("ip", "address", "add", "203.0.113.7/32", "dev", "lo")
    one.run("ping", "-c1", "-W5", "203.0.113.7")
    one.run("env", "-i", *environment, "wg-quick", "down", "wg0")
    wait_gone(one)
    assert "lookup 51820" not in one.run("ip", "rule").stdout


@pytest.mark.root
def test_wg_sets_and_shows_what_was_set(host: Host) -> None:
    host.run("wgpy-device", "wg0")
    peer = public_key(KEY_B)
    config = f"""[Interface]
PrivateKey = {KEY_A}
ListenPort = 51820
FwMark = 0x1234

[Peer]
PublicKey = {peer}
PresharedKey = {KEY_B}
AllowedIPs = 10.0.0.2/32, 10.1.0.0/16, fd00::2/128
Endpoint = [2001:db8::1]:4000
PersistentKeepalive = 25
"""
    host.run("sh", "-c", "cat > /run/c; wg setconf wg0 /run/c", input=config)
    shown = host.run("wg", "showconf", "wg0").stdout
    assert sorted(filter(None, shown.lower().splitlines())) == sorted(
        filter(None, config.lower().splitlines())
    )
    # A link-local endpoint by the name of its zone.
    host.run("wg", "set", "wg0", "peer", peer, "endpoint", "[fe80::1%lo]:7")
    assert host.run("wg", "show", "wg0", "endpoints").stdout == f"{peer}\t[fe80::1%lo]:7\n"
    host.run("wg", "set", "wg0", "peer", peer, "allowed-ips", "", "persistent-keepalive", "off")
    assert host.run("wg", "show", "wg0", "allowed-ips").stdout == f"{peer}\t(none)\n"
    host.run("wg", "set", "wg0", "fwmark", "off", "listen-port", "0", "peer", peer, "remove")
    assert host.run("wg", "show", "wg0", "peers").stdout == ""
    assert host.run("wg", "show", "wg0", "fwmark").stdout == "off\n"
    host.run("ip", "link", "set", "wg0", "up")
    occupy = "import socket,time; s=socket.socket(2,2); s.bind(('',7777)); print('bound'); time.sleep(99)"
    host.start("python", "-c", occupy).wait_text("bound")
    done = host.run("wg", "set", "wg0", "listen-port", "7777", check=False)
    assert "Address already in use" in done.stderr
