"""`wgpy show` tells what `wg show` tells, character by character, with `wg` beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.netns.hosts import Host, Lab
from wgpy.cli.show import FIELDS, ago, duration, size
from wgpy.keys import PresharedKey, PrivateKey

KEYS = [PrivateKey(bytes([n] * 32)) for n in range(1, 5)]
PSK = PresharedKey(bytes([9] * 32))

CONFIG = f"""[Interface]
PrivateKey = {KEYS[0].to_base64()}
ListenPort = 51820
FwMark = 0xca6c
[Peer]
PublicKey = {KEYS[1].public_key()}
PresharedKey = {PSK.to_base64()}
AllowedIPs = 10.0.0.2/32, fd00::/64
Endpoint = 127.0.0.1:4000
PersistentKeepalive = 93784
[Peer]
PublicKey = {KEYS[2].public_key()}
Endpoint = [2001:db8::1]:7
AllowedIPs = 10.1.0.0/16
[Peer]
PublicKey = {KEYS[3].public_key()}
""".replace("93784", "3725")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Two devices: wg0 with all there is to show, wg1 with nothing."""
    with Lab("show") as lab:
        host = lab.host("host")
        for name in ("wg0", "wg1"):
            host.run("wgpy-device", name)
        host.run("sh", "-c", "cat > /run/c; wg setconf wg0 /run/c", input=CONFIG)
        host.run("ip", "link", "set", "wg0", "up")
        yield host


@pytest.mark.root
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("interface", ["wg0", "wg1", "all"])
def test_each_field_is_as_wg_shows_it(host: Host, interface: str, field: str) -> None:
    theirs, ours = (
        host.run(*program, interface, field).stdout for program in (("wg", "show"), ("wgpy", "show"))
    )
    if (interface, field) == ("all", "endpoints"):
        # This version of wg says the interface once, and no line's end after one without peers.
        theirs = "".join(
            f"wg0\t{line}\n" for line in theirs.replace("wg1\t", "").replace("wg0\t", "").splitlines()
        )
    theirs, ours = ("\n".join(sorted(text.splitlines())) for text in (theirs, ours))
    counters = r"\t\d+\t\d+(?=\n|\toff|\t3725|$)"  # handshakes are tried meanwhile
    assert re.sub(counters, "", ours) == re.sub(counters, "", theirs)
    assert theirs.count("\t") == ours.count("\t")


@pytest.mark.root
def test_for_people_it_is_as_wg_shows_it(host: Host) -> None:
    def shown(*command: str) -> list[str]:
        """By interface: wg has them in the directory's order, we in theirs by name."""
        output = re.sub(r"transfer: .*", "transfer", host.run(*command).stdout)
        if command[2:] == ("interfaces",):
            return sorted(output.split())
        return sorted(part.strip("\n") for part in re.split("^(?=interface: )", output, flags=re.MULTILINE))

    for arguments in ([], ["wg0"], ["wg1"], ["all"], ["interfaces"]):
        assert shown("wgpy", "show", *arguments) == shown("wg", "show", *arguments)
    assert host.run("wgpy", "show").stdout == host.run("wgpy", "show", "all").stdout


@pytest.mark.root
def test_keys_are_hidden_from_people_and_absent_from_json(host: Host) -> None:
    for arguments in (["show"], ["show", "--json"], ["show", "wg0", "--json"]):
        output = host.run("wgpy", *arguments).stdout
        assert KEYS[0].to_base64() not in output
        assert PSK.to_base64() not in output
    shown = host.run("wgpy", "show", "wg0", env={"WG_HIDE_KEYS": "never"}).stdout
    assert KEYS[0].to_base64() in shown
    assert PSK.to_base64() in shown


@pytest.mark.root
def test_json_has_what_there_is(host: Host) -> None:
    one, two = json.loads(host.run("wgpy", "show", "--json").stdout)
    assert two == {"interface": "wg1", "public_key": None, "listen_port": None, "fwmark": None, "peers": []}
    assert (one["interface"], one["listen_port"], one["fwmark"]) == ("wg0", 51820, 0xCA6C)
    by_key = {peer["public_key"]: peer for peer in one["peers"]}
    peer = by_key[str(KEYS[1].public_key())]
    assert peer["has_preshared_key"]
    assert peer["endpoint"] == "127.0.0.1:4000"
    assert sorted(peer["allowed_ips"]) == ["10.0.0.2/32", "fd00::/64"]
    assert peer["latest_handshake"] is None
    assert peer["persistent_keepalive"] == 3725
    assert by_key[str(KEYS[3].public_key())]["endpoint"] is None
    assert json.loads(host.run("wgpy", "show", "interfaces", "--json").stdout) == ["wg0", "wg1"]


@pytest.mark.root
def test_a_device_that_is_not_there_is_said(host: Host) -> None:
    done = host.run("wgpy", "show", "wg9", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "wgpy: there is no WireGuard device wg9 here\n"


@pytest.mark.root
def test_a_dead_socket_hides_no_other(host: Host) -> None:
    dead = "import socket; socket.socket(1).bind('/run/wireguard/dead.sock')"
    host.run("python", "-c", dead)
    assert host.run("wgpy", "show", "interfaces").stdout == "wg0 wg1\n"
    host.run("rm", "-f", "/run/wireguard/dead.sock")


@pytest.mark.root
def test_it_needs_root_and_says_so(host: Host) -> None:
    # It may read everything, for the interpreter may be in root's home, and yet is not root.
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    nobody = ("setpriv", "--reuid=65534", "--clear-groups", *reads)
    done = host.run(*nobody, "wgpy", "show", "wg0", check=False)
    assert done.returncode == 1
    assert done.stderr == "wgpy: wg0 is for root to see: run as root\n"


@pytest.mark.root
def test_whoever_reads_may_stop(host: Host) -> None:
    done = host.run("sh", "-c", "for i in 1 2 3; do wgpy show all dump; done | head -c 1")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (1 << 20, "1.00 MiB"),
        (3 << 30, "3.00 GiB"),
        (5 << 40, "5.00 TiB"),
        (5 << 50, "5120.00 TiB"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert size(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (60, "1 minute"),
        (3725, "1 hour, 2 minutes, 5 seconds"),
        (31536000 + 2 * 86400, "1 year, 2 days"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text
    assert ago(seconds) == f"{text} ago"


def test_now_and_the_future() -> None:
    assert ago(0.5) == "Now"
    assert ago(-5).startswith("(System clock wound backward")


@given(st.integers(1, 10**10))
def test_a_duration_adds_up(seconds: int) -> None:
    units = {"year": 31536000, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
    parts = (part.split() for part in duration(seconds).split(", "))
    assert sum(int(count) * units[unit.rstrip("s")] for count, unit in parts) == seconds
