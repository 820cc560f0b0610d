"""`wgpy up` with another engine, without offloads, with less memory: by flags that say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import Host, Lab
from tests.netns.processes import Process
from wgpy.keys import PrivateKey

pytestmark = pytest.mark.root

CONFIGURATION = (
    f"[Interface]\nPrivateKey = {PrivateKey(bytes([1] * 32)).to_base64()}\nAddress = 10.0.0.2/24\n"
)


@pytest.fixture
def host() -> Iterator[Host]:
    with Lab("options") as lab:
        host = lab.host("host")
        host.run("sh", "-c", "umask 077; cat > /run/home.conf", input=CONFIGURATION)
        yield host


def up(host: Host, *options: str) -> Process:
    process = host.start("wgpy", "--verbose", "up", *options, "/run/home.conf", log="up")
    process.wait_text("it is up")
    return process


def threads(process: Process) -> set[str]:
    return {(task / "comm").read_text().strip() for task in Path(f"/proc/{process.pid}/task").iterdir()}


def test_the_engine_is_the_one_that_was_asked_for(host: Host) -> None:
    native = up(host)
    assert {"wgpy-send", "wgpy-receive"} <= threads(native)
    native.stop()
    portable = up(host, "--engine", "portable")
    assert not {"wgpy-send", "wgpy-receive"} & threads(portable)
    portable.stop()


def test_offloads_named_are_not_used_and_the_log_says_which_are(host: Host) -> None:
    process = up(host, "--disable-offloads", "tso,gro", "--memory", "small")
    assert "native engine, offloads: vnet, uso, gso; cipher: " in process.text()
    process.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--memory", "lots"), "WGPY_MEMORY is a number of MiB from 4 to 65536, or small; got 'lots'"),
        (
            ("--disable-offloads", "warp"),
            "WGPY_DISABLE_OFFLOADS is a list of vnet, tso, uso, gso, gro or all",
        ),
        (("--engine", "steam"), "an engine (--engine, WGPY_ENGINE) is one of native, portable; got 'steam'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(host: Host, options: tuple[str, ...], said: str) -> None:
    done = host.run("wgpy", "up", *options, "/run/home.conf", check=False)
    [error] = done.stderr.splitlines()
    assert said in error
    assert done.returncode == 2
    assert "home" not in host.run("ls", "/sys/class/net").stdout.split()
