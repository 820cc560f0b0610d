"""A tunnel between one and two, while an attacker floods two, and three wants in.

one ---+
three -+- internet - two
attacker (also 198.18.0.0/16)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.tunnel import PORT, End, Implementation
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import Process, wait_until
from wgpy.engine import ENGINES

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone]

MOST_GROWTH = 48 << 20
"""Octets of resident memory that a flood may cost: full queues, full tables."""

_CAPTURE = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sock.bind(("eth0", 0x0800))
print("ready", flush=True)
while True:
    packet, address = sock.recvfrom(65536)
    if address[2] != 4 and packet[9] == 17 and packet[22:24] == int(sys.argv[1]).to_bytes(2, "big"):
        print(packet[28:].hex(), flush=True)
"""


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("attack") as lab:
        yield Internet(lab)


@pytest.fixture(params=ENGINES)
def ours(request: pytest.FixtureRequest) -> Implementation:
    variables = (f"WGPY_ENGINE={request.param}", "LOG_LEVEL=verbose")
    return Implementation(f"wgpy-{request.param}", ("wgpy-device", "--foreground"), variables)


def make_attacker(internet: Internet, victim: Host) -> Host:
    attacker = internet.host("attacker")
    attacker.ip("link set lo up", "route add local 198.18.0.0/16 dev lo")
    victim.ip(f"route add 198.18.0.0/16 via {attacker.ipv4}")
    return attacker


def attack(attacker: Host, victim: End, replays: list[str]) -> Process:
    """Begin. The end of the host is the end of it."""
    program = Path(__file__).with_name("attack.py")
    given = attacker.path / "replays"
    given.write_text("".join(f"{line}\n" for line in replays))
    process = attacker.start(
        "sh", "-c", f'exec "$0" "$@" < {given}',
        sys.executable, program, str(victim.host.ipv4), str(PORT), victim.keys.public, log="attack",
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    process.wait_text("ready\n", timeout=60)
    return process


def received(end: End, other: End, count: int) -> int:
    """How many of `count` echoes come back."""
    text = end.host.run("ping", f"-c{count}", "-i0.1", "-W3", other.inner["v4"], check=False).stdout
    [found] = re.findall(r"(\d+) received", text)
    return int(found)


def test_a_flooded_end_serves_its_tunnel_and_lets_a_new_peer_in(
    internet: Internet, ours: Implementation
) -> None:
    one, two, three = (
        End(internet.host(name), ours, number) for number, name in enumerate(("one", "two", "three"), 1)
    )
    capture = two.host.start(sys.executable, "-c", _CAPTURE, str(PORT), log="capture")
    capture.wait_text("ready\n")
    two.add_peer(one)
    two.add_peer(three)
    one.add_peer(two, endpoint=two.outer("v4"))
    assert received(one, two, 20) == 20
    replays = [line for line in capture.text().splitlines()[1:] if line]
    assert len(replays) >= 21
    capture.kill()
    attacker = make_attacker(internet, two.host)
    memory, logged = two.device.resident_bytes(), len(two.device.text())

    flood = attack(attacker, two, replays)
    assert received(one, two, 50) >= 40
    # The first initiation is answered by a cookie, perhaps; the second one, 5 s later, brings it along.
    three.add_peer(two, endpoint=two.outer("v4"))
    wait_until(lambda: received(three, two, 1), "a new peer gets in", timeout=60)
    assert received(one, two, 50) >= 40
    assert flood.returncode is None, flood.tail()
    flood.kill()

    endpoints = dict(map(str.split, two.wg("show", "wg0", "endpoints").splitlines()))
    assert endpoints == {one.keys.public: one.outer("v4"), three.keys.public: three.outer("v4")}
    assert two.device.resident_bytes() - memory < MOST_GROWTH
    lines = two.device.text()[logged:].splitlines()
    assert [line for line in lines if not line.startswith("DEBUG: ")] == []
    assert len(lines) < 100
    assert received(one, two, 10) == 10
