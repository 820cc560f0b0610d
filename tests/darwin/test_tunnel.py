"""A tunnel by file as a Mac would have it: which commands are run, in which order, and what is taken back.
Commands are written down, not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.darwin.kernel import FakeKernel
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.resolvers import SCUTIL
from wgpy.config import parse_config
from wgpy.darwin.commands import Command
from wgpy.errors import ConfigError, HostError, sole_error
from wgpy.quick.darwin import DarwinTunnel
from wgpy.uapi import listener

FILE = """\
[Interface]
PrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
Address = 10.0.0.2/24, fd00::2/64
{more}
[Peer]
PublicKey = CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=
AllowedIPs = 0.0.0.0/0, fd00::/64
Endpoint = 192.0.2.1:51820
"""


class FakeHost:
    """Writes commands down and answers queries. `refuses` is a word of a command that fails."""

    def __init__(self, refuses: str = "") -> None:
        self.ran: list[str] = []
        self._refuses = refuses

    def __call__(self, command: Command) -> str:
        line = " ".join(command)
        if self._refuses and self._refuses in line:
            raise HostError(f"{line}: refused")
        match command:
            case ("route", "-n", "get", *_):
                return "  interface: en0\n"
            case ("ifconfig", "en0"):
                return "en0: flags=8863<UP> mtu 1400\n"
            case ("netstat", *_):
                return "default            192.168.1.1        UGScg                 en0\n"
        self.ran.append(line)
        return ""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    monkeypatch.setattr(listener, "SOCKET_DIRECTORY", str(tmp_path / "wireguard"))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("WGPY_ENGINE", "portable")
    kernel = FakeKernel()
    yield kernel
    kernel.close()


def tunnel(kernel: FakeKernel, host: FakeHost, more: str = "") -> DarwinTunnel:
    config = parse_config(FILE.format(more=more), "home.conf")
    return DarwinTunnel("home", Path("home.conf"), config, lambda line: None, control=kernel, command=host)


UP = [
    "ifconfig utun0 inet 10.0.0.2/24 10.0.0.2 alias",
    "ifconfig utun0 inet6 fd00::2/64 alias",
    "route -q -n add -inet -host 192.0.2.1 -gateway 192.168.1.1",
    "route -q -n add -inet6 fd00::/64 -interface utun0",
    "route -q -n add -inet 0.0.0.0/1 -interface utun0",
    "route -q -n add -inet 128.0.0.0/1 -interface utun0",
]
DOWN = ["route -q -n delete -inet -host 192.0.2.1"]


async def test_it_comes_up_by_commands_and_takes_back_what_would_stay(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    host = FakeHost()
    name = tmp_path / "wireguard" / "home.name"
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(tunnel(kernel, host).run, up.set)
        with trio.fail_after(10):
            await up.wait()
        assert host.ran == UP
        assert kernel.mtu["utun0"] == 1400 - 80
        assert kernel.flags["utun0"] & 1
        assert name.read_text() == "utun0\n"
        assert (tmp_path / "wireguard" / "utun0.sock").exists()
        nursery.cancel_scope.cancel()
    assert host.ran == UP + DOWN
    assert list((tmp_path / "wireguard").iterdir()) == []


async def test_what_the_host_refuses_midway_is_undone(kernel: FakeKernel, tmp_path: Path) -> None:
    host = FakeHost(refuses="128.0.0.0/1")
    with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(10):
        await tunnel(kernel, host).run(lambda: None)
    assert isinstance(sole_error(caught.value), HostError)
    assert host.ran == UP[:-1] + DOWN
    assert list((tmp_path / "wireguard").iterdir()) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [("FwMark = 7", "macOS marks no packets: leave out FwMark"), ("Table = 7", "Table is auto or off")],
)
async def test_what_macos_has_not_is_refused_before_anything_is_done(
    kernel: FakeKernel, more: str, text: str
) -> None:
    host = FakeHost()
    with pytest.raises(ConfigError, match=text):
        await tunnel(kernel, host, more).run(lambda: None)
    assert host.ran == []
    assert kernel.outside == {}


async def test_table_off_adds_no_routes(kernel: FakeKernel) -> None:
    host = FakeHost()
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(tunnel(kernel, host, "Table = off\nMTU = 1300").run, up.set)
        with trio.fail_after(10):
            await up.wait()
        nursery.cancel_scope.cancel()
    assert host.ran == UP[:2]
    assert kernel.mtu["utun0"] == 1300


def test_scutil_gets_its_commands_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, program = tmp_path / "log", tmp_path / "scutil"
    program.write_text(f'#!/bin/sh\n[ $# = 0 ] && while read -r line; do echo "$line"; done >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    claim = Claim("utun4", (), ("home.wgpy",))
    with Claims(tmp_path / "claims") as claims:
        SCUTIL.announce(claims, claim)
        SCUTIL.withdraw(claims, "utun4")
    key = "State:/Network/Service/wgpy-utun4/DNS"
    assert log.read_text().splitlines()[-4:] == [f"set {key}", "quit", f"remove {key}", "quit"]
