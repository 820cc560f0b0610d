"""The UDP sender and receiver of the benchmarks: what is sent without loss is counted, all of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.paths import Cable, Load, build_udp_load, udp_load
from tests.netns.hosts import Host, Lab
from tests.netns.processes import HostFailure

pytestmark = [
    pytest.mark.alone,
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed"),
]

_RECEIVE = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 5204))
print("ready", flush=True)
while True:
    data, address = sock.recvfrom(100)
    print(address[0], data.hex(), flush=True)
"""


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Host, Host]]:
    with Lab("udp-load") as lab:
        cable = Cable(lab)
        yield cable.host("near"), cable.host("far")


@pytest.mark.parametrize("segments", [1, 10])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_all_that_is_sent_slowly_arrives(ends: tuple[Host, Host], segments: int, family: str) -> None:
    near, far = ends
    address = str(far.ipv4 if family == "v4" else far.ipv6)
    trial = udp_load(near, far, address, Load(2000, 0.5, 512, segments))
    assert trial.received == trial.sent
    # Not faster than asked; slower if the machine has other things to do.
    assert 0 < trial.sent <= 1000
    assert trial.seconds >= 0.5


def test_addresses_take_turns(ends: tuple[Host, Host]) -> None:
    near, far = ends
    far.ip("route add local 10.78.0.0/24 dev lo")
    near.ip(f"route add 10.78.0.0/24 via {far.ipv4}")
    trial = udp_load(near, far, "10.78.0.1", Load(1000, 0.3, 100, spread=100))
    assert trial.received == trial.sent > 0


def test_what_nobody_receives_is_lost(ends: tuple[Host, Host]) -> None:
    near, far = ends
    far.ip("route add blackhole 10.79.0.0/24")
    near.ip(f"route add 10.79.0.0/24 via {far.ipv4}")
    trial = udp_load(near, far, "10.79.0.1", Load(1000, 0.2, 100))
    assert trial.sent > 0
    assert trial.received == 0
    assert not trial.is_loss_free


def test_a_flood_comes_at_the_rate_asked_from_all_addresses(ends: tuple[Host, Host]) -> None:
    near, far = ends
    near.ip("link set lo up", "route add local 198.18.0.0/15 dev lo")
    far.ip(f"route add 198.18.0.0/15 via {near.ipv4}")
    receiver = far.start(sys.executable, "-c", _RECEIVE, log="receive")
    receiver.wait_text("ready\n")
    datagrams = b"".join(bytes([0, size]) + bytes([size]) * size for size in (1, 2, 3))
    done = subprocess.run(
        [build_udp_load().with_name("udp-flood"), f"/proc/{near.pid}/ns/net", str(far.ipv4), "5204",
         "198.18.0.1", "100", "1000", "0.5"],
        input=datagrams, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    sent = json.loads(done.stdout)["sent"]
    assert 100 < sent <= 500
    receiver.wait_for(lambda text: text.count("\n") == sent + 1, "all of them")
    lines = [line.split() for line in receiver.text().splitlines()[1:]]
    assert len({source for source, _ in lines}) == 100
    assert {data for _, data in lines} == {"01", "0202", "030303"}


def test_what_makes_no_sense_is_refused_in_one_line(ends: tuple[Host, Host]) -> None:
    near, far = ends
    for load in (Load(1000, 0.1, 4), Load(1000, 0.1, 1400, segments=64)):
        with pytest.raises(HostFailure, match="SIZE is at least 8") as failure:
            udp_load(near, far, str(far.ipv4), load)
        assert "\n" not in str(failure.value)
