"""What a device costs its host: memory under full load, modules, and next to nothing while it is idle.

Two hosts and a tunnel between two devices, in the profile of routers and in the usual one.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.paths import Load, udp_load
from tests.interop.tunnel import WGPY, End, Implementation, Tunnel
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import Process, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone]

NATIVE = WGPY["native"]
SMALL = Implementation("small", NATIVE.command, (*NATIVE.env, "WGPY_MEMORY=small"))
NEVER_IMPORTED = ("click", "h11", "segno", "wgpy.agent", "wgpy.mesh", "coordinator", "asyncio")
IDLE_SECONDS = 10
MOST_CPU = 0.001
"""Of a core."""


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("footprint") as lab:
        yield Internet(lab)


def peak_bytes(device: Process) -> int:
    """The most resident memory it ever had."""
    lines = Path(f"/proc/{device.pid}/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024


def load(one: End, two: End) -> None:
    """TCP of one and of many streams, both ways, and more datagrams than the tunnel takes."""
    server = two.host.start("iperf3", "--server", "--forceflush")
    server.wait_text("listening")
    for family in ("v4", "v6"):
        for more in ([], ["--parallel", "16"], ["--reverse", "--parallel", "16"]):
            one.host.run("iperf3", "--client", two.inner[family], "--time", "2", *more)
    for size, segments in ((64, 1), (1392, 1), (64, 64), (1392, 40)):
        trial = udp_load(one.host, two.host, two.inner["v4"], Load(3e6, 1, size, segments))
        assert trial.received > 0
    server.stop()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
@pytest.mark.parametrize(("ours", "most"), [(SMALL, 40_000_000), (NATIVE, 48_000_000)], ids=str)
def test_memory_stays_small_under_full_load(internet: Internet, ours: Implementation, most: int) -> None:
    tunnel = Tunnel(internet, "load", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    before = [peak_bytes(end.device) for end in (one, two)]
    load(one, two)
    after = [peak_bytes(end.device) for end in (one, two)]
    print(f"{ours}: {before} octets at rest, {after} after all")
    assert max(after) < most
    # The first echo may meet a queue that the datagrams have left full.
    wait_until(lambda: one.ping(two), "the tunnel is as good as before")
    tunnel.close()


def test_a_device_never_imports_the_mesh_or_the_command_line(internet: Internet) -> None:
    """The interpreter writes each module that it loads; the tunnel is used and configured meanwhile."""
    words = (sys.executable, "-X", "importtime", "-m", "wgpy.cli.device", "--foreground")
    tunnel = Tunnel(internet, "imports", Implementation("imports", words, NATIVE.env), NATIVE)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    assert one.ping(two, "v6")
    one.wg("set", "wg0", "peer", two.keys.public, "persistent-keepalive", "1")
    one.host.ip("link set wg0 mtu 1300", "link set wg0 down", "link set wg0 up")
    wait_until(lambda: one.ping(two), "the tunnel is up again")
    one.stop()
    lines = [line for line in one.device.text().splitlines() if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip() for line in lines}
    assert {"wgpy.device", "wgpy.engine.native", "trio"} <= modules
    assert [
        name for name in modules if f"{name}.".startswith(tuple(f"{each}." for each in NEVER_IMPORTED))
    ] == []
    two.stop()


class Activity:
    """What all threads of a process have done so far."""

    def __init__(self, pid: int) -> None:
        self.at = time.monotonic()
        self.wakeups, self.seconds = 0, 0.0
        self.tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
        for task in self.tasks:
            for line in (task / "status").read_text().splitlines():
                if "ctxt_switches" in line:
                    self.wakeups += int(line.split()[1])
            self.seconds += int((task / "schedstat").read_text().split()[0]) / 1e9


def activity(end: End) -> Activity | None:
    """None: a thread ended just now."""
    try:
        return Activity(end.device.pid)
    except (FileNotFoundError, ProcessLookupError):
        return None


def slept(end: End, before: Activity | None) -> bool:
    """Fewer than a wake-up a second and less than a thousandth of a core since then."""
    after = activity(end)
    if before is None or after is None or before.tasks != after.tasks:
        return False
    wakeups, busy, seconds = (
        after.wakeups - before.wakeups,
        after.seconds - before.seconds,
        after.at - before.at,
    )
    print(f"{end.host.name}: {wakeups} wake-ups, {1000 * busy:.3f} ms in {seconds:.1f} s")
    return wakeups < seconds and busy < MOST_CPU * seconds


def check_idle(*ends: End) -> None:
    """Each of them sleeps through the same ten seconds or others, once traffic has died down."""
    awake = list(ends)

    def all_slept() -> bool:
        before = [activity(end) for end in awake]
        time.sleep(IDLE_SECONDS)
        awake[:] = [end for end, then in zip(awake, before, strict=True) if not slept(end, then)]
        return not awake

    names = [f"{end.host.name} ({end.implementation})" for end in ends]
    wait_until(all_slept, f"each sleeps of {', '.join(names)}", timeout=4 * IDLE_SECONDS)


def without_ipv6(host: Host) -> None:
    """It looks for routers for some seconds in the TUN of a link that has just come up."""
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/wg0/disable_ipv6")


def test_idle_devices_sleep(internet: Internet) -> None:
    """Of each engine, with a session that was in use a moment ago. And one whose interface is in another
    namespace, where link changes there can be heard of; else it would ask twice a second.
    """
    tunnels = [Tunnel(internet, f"idle-{ours}", ours, ours) for ours in WGPY.values()]
    moved, there = End(internet.host("here"), NATIVE, 1), internet.host("there")
    moved.host.ip("link set wg0 down", f"link set wg0 netns {there.pid}")
    without_ipv6(there)
    there.ip("link set wg0 up")
    for tunnel in tunnels:
        for end in (tunnel.initiator, tunnel.responder):
            without_ipv6(end.host)
        assert tunnel.initiator.ping(tunnel.responder)
    check_idle(*(tunnel.initiator for tunnel in tunnels), moved)
    for tunnel in tunnels:
        assert tunnel.initiator.ping(tunnel.responder)
        tunnel.close()
    there.ip("link set wg0 down")
    wait_until(lambda: "51820" not in moved.host.run("ss", "-ulnH").stdout, "going down is noticed")
    assert os.path.exists(f"/proc/{moved.device.pid}")
    moved.stop()
