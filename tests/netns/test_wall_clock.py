"""A wall clock that jumps (by wall_clock.c) while tunnels stand: intervals are the boot-time clock's, and the
stamps of initiations only rise.

one --- internet --- two
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.tunnel import WIREGUARD_GO, End, Implementation
from tests.netns.hosts import Internet, Lab
from tests.netns.processes import wait_until
from wgpy.engine import ENGINES

DAY = 86400
JUMPS = (-DAY, 400 * DAY, -2 * DAY, 0)
"""Seconds from the true time, one after the other: yesterday, next year, before yesterday, now."""
CLOCK = "/run/wall-clock"
RECOVERY = 40.0
"""Seconds: an initiation, one more 5 s after it, and a slow machine."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is not installed"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What gives a program another wall clock."""
    path = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("clock") as lab:
        yield Internet(lab)


def make_end(internet: Internet, name: str, number: int, engine: str, library: Path) -> End:
    """One whose device asks `CLOCK` how far its clock is off."""
    host = internet.host(name)
    variables = (f"WGPY_ENGINE={engine}", f"LD_PRELOAD={library}", f"WALL_CLOCK={CLOCK}")
    return End(host, Implementation(f"wgpy-{engine}", ("wgpy-device", "--foreground"), variables), number)


def shake_hands_anew(one: End, two: End) -> None:
    """The initiator forgets the peer, as nothing but a handshake reads the wall clock."""
    before = two.wg("show", "wg0", "latest-handshakes")
    one.wg("set", "wg0", "peer", two.keys.public, "remove")
    one.add_peer(two, endpoint=two.outer("v4"))
    wait_until(lambda: one.ping(two, timeout=2), "traffic after the jump", timeout=RECOVERY)
    wait_until(lambda: two.wg("show", "wg0", "latest-handshakes") != before, "a handshake of now", timeout=5)


@pytest.mark.parametrize("engine", ENGINES)
def test_neither_traffic_nor_handshakes_mind_an_initiators_clock_that_jumps(
    internet: Internet, engine: str, library: Path
) -> None:
    one = make_end(internet, "one", 1, engine, library)
    # With wireguard-go, which refuses a stamp that is not later than the last, and with ourselves.
    other = WIREGUARD_GO if engine == ENGINES[0] else None
    host = internet.host("two")
    two = End(host, other or Implementation("ours", ("wgpy-device", "--foreground")), 2)
    two.add_peer(one)
    one.add_peer(two, endpoint=two.outer("v4"))
    assert one.ping(two)
    assert abs(one.latest_handshake - two.latest_handshake) < 100
    for jump in JUMPS:
        traffic = one.host.start("ping", "-i0.05", "-c40", two.inner["v4"], log=f"ping{jump}")
        traffic.wait_text("icmp_seq=5 ")
        one.host.run("tee", CLOCK, input=str(jump))
        traffic.wait(60)
        [lost] = re.findall(r"(\d+)% packet loss", traffic.text())
        assert int(lost) == 0, "the session that stands goes on"
        shake_hands_anew(one, two)
        assert abs(one.latest_handshake - two.latest_handshake - jump) < 100, "it did jump"


@pytest.mark.parametrize("engine", ENGINES)
def test_nor_do_they_mind_a_responders(internet: Internet, engine: str, library: Path) -> None:
    one = End(internet.host("one"), Implementation("ours", ("wgpy-device", "--foreground")), 1)
    two = make_end(internet, "two", 2, engine, library)
    two.add_peer(one)
    one.add_peer(two, endpoint=two.outer("v6"))
    assert one.ping(two)
    for jump in JUMPS:
        two.host.run("tee", CLOCK, input=str(jump))
        assert one.ping(two, count=3)
        shake_hands_anew(one, two)
        assert two.ping(one, "v6")
