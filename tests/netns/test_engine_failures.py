"""A device whose engine meets with what it cannot go on with, and one whose host slept.

Both are real processes, on a kernel that lies (lying_kernel.c).

one --- internet --- two
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.tunnel import PORT, WGPY, End, Implementation, Tunnel
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import wait_until

FAULT = "/run/fault"

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is not installed"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernel") / "lying_kernel.so"
    source = Path(__file__).with_name("lying_kernel.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("failures") as lab:
        yield Internet(lab)


def lied_to(library: Path, engine: str) -> Implementation:
    """A device that is lied to as soon as FAULT is written."""
    true = WGPY[engine]
    return Implementation(
        f"lied-to-{engine}",
        true.command,
        (*true.env, f"LD_PRELOAD={library}", f"FAULT={FAULT}", "LOG_LEVEL=verbose"),
    )


def connect(internet: Internet, library: Path, engine: str) -> Tunnel:
    """A tunnel that works, whose initiator may be lied to."""
    tunnel = Tunnel(internet, "lied-to", lied_to(library, engine), WGPY[engine])
    assert tunnel.initiator.ping(tunnel.responder)
    return tunnel


def begin(host: Host, fault: str) -> None:
    # Whole at once: it is read at any moment.
    host.run("sh", "-c", f"printf {fault} > {FAULT}.new; mv {FAULT}.new {FAULT}")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("read", "the engine cannot go on: its thread wgpy-send met with a fault of its own"),
        ("epoll", "the engine cannot go on: it cannot wait for the "),
    ],
)
def test_a_thread_that_panics_or_fails_ends_the_device_with_an_error(
    internet: Internet, library: Path, fault: str, said: str
) -> None:
    tunnel = connect(internet, library, "native")
    one, two = tunnel.initiator, tunnel.responder
    begin(one.host, fault)
    assert not one.ping(two, timeout=1)
    assert one.device.wait() == 1
    assert f"wg0: {said}" in one.device.text()
    # Nothing of it is left: neither half a tunnel, nor interface or socket.
    assert one.host.run("ls", "/run/wireguard").stdout == ""
    assert "wg0" not in one.host.run("ls", "/sys/class/net").stdout.split()
    assert "51820" not in one.host.run("ss", "-ulnH").stdout
    two.stop()


@pytest.mark.parametrize("engine", list(WGPY))
def test_after_the_host_slept_old_keys_are_gone_and_traffic_has_new_ones(
    internet: Internet, library: Path, engine: str
) -> None:
    tunnel = connect(internet, library, engine)
    one, two = tunnel.initiator, tunnel.responder
    before = two.latest_handshake
    wait_until(lambda: int(time.time()) > before + 1, "handshakes have another second")
    begin(one.host, "boottime")
    wait_until(lambda: one.ping(two, timeout=2), "traffic after the resume", timeout=30)
    one.device.wait_text("the host slept; sessions begin anew")
    assert two.latest_handshake > before
    assert two.ping(one)
    tunnel.close()


@pytest.mark.parametrize("engine", list(WGPY))
def test_a_host_without_ipv6_has_a_tunnel_over_ipv4(internet: Internet, library: Path, engine: str) -> None:
    host = internet.host("old")
    begin(host, "ipv6")
    one, two = End(host, lied_to(library, engine), 1), End(internet.host("two"), WGPY[engine], 2)
    two.add_peer(one)
    one.add_peer(two, endpoint=two.outer("v4"))
    assert one.ping(two)
    assert one.ping(two, "v6"), "inside there is"
    assert [line.split()[3] for line in host.run("ss", "-ulnH").stdout.splitlines()] == [f"0.0.0.0:{PORT}"]
    one.add_peer(two, endpoint=two.outer("v6"))
    assert not one.ping(two, timeout=1), "nothing can be sent there"
    one.add_peer(two, endpoint=two.outer("v4"))
    wait_until(lambda: one.ping(two, timeout=1), "the tunnel is as it was", timeout=10)
