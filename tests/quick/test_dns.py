"""Name servers: whom they are told to, and that a resolv.conf of our hand is put back, or left to another."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from wgpy.agent.dns import resolvers, shared_file
from wgpy.errors import HostError
from wgpy.quick.dns import announce_servers

ENTRIES = [ip_address("10.0.0.1"), "home.example", ip_address("fd00::1"), "example"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "runtime"))
    return directory


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(shared_file, "RESOLV_CONF", path)
    return path


def install(programs: Path, name: str, *, status: int = 0) -> Path:
    """A program that writes down how it was called. Returns where."""
    log = programs / f"{name}.log"
    program = programs / name
    program.write_text(
        f'#!/bin/sh\nexec >> {log}\necho "$@"\n[ "$1" = -a ] && while read -r line; do echo "$line"; done\n'
        f"echo said no >&2\nexit {status}\n"
    )
    program.chmod(0o755)
    return log


def announce_and_withdraw() -> None:
    announced = announce_servers("wg0", ENTRIES)
    assert announced is not None
    announced.withdraw()


def test_without_a_server_nothing_is_done(programs: Path, resolv_conf: Path) -> None:
    log = install(programs, "resolvconf")
    assert announce_servers("wg0", ["home.example"]) is None
    assert not log.exists()
    assert resolv_conf.read_text() == "nameserver 192.0.2.53\n"


def test_resolvconf_is_told_and_told_again(programs: Path, resolv_conf: Path) -> None:
    log = install(programs, "resolvconf")
    announce_and_withdraw()
    assert log.read_text().splitlines() == [
        "-a wg0 -m 0 -x",
        "nameserver 10.0.0.1",
        "nameserver fd00::1",
        "search home.example example",
        "-d wg0 -f",
    ]
    assert resolv_conf.read_text() == "nameserver 192.0.2.53\n"


def test_systemd_resolved_is_told_of_the_interface(
    programs: Path, resolv_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = install(programs, "resolvectl")
    monkeypatch.setattr(resolvers, "has_resolved", lambda: True)
    resolv_conf.write_text("nameserver 127.0.0.53\n")
    announce_and_withdraw()
    assert log.read_text().splitlines() == ["dns wg0 10.0.0.1 fd00::1", "domain wg0 ~. home.example example"]


def test_a_program_that_refuses_is_quoted_and_nothing_is_claimed(programs: Path, resolv_conf: Path) -> None:
    install(programs, "resolvconf", status=3)
    for _ in range(2):
        with pytest.raises(HostError, match=r"^resolvconf -a wg0 -m 0 -x: said no$"):
            announce_servers("wg0", ENTRIES)


@pytest.mark.usefixtures("programs")
class TestWithoutAProgram:
    def test_resolv_conf_is_written_and_put_back(self, resolv_conf: Path) -> None:
        announced = announce_servers("wg0", ENTRIES)
        assert announced is not None
        lines = [line for line in resolv_conf.read_text().splitlines() if not line.startswith("#")]
        assert lines == ["nameserver 10.0.0.1", "nameserver fd00::1", "search home.example example"]
        announced.withdraw()
        assert resolv_conf.read_text() == "nameserver 192.0.2.53\n"

    def test_what_another_has_written_since_is_left_alone(self, resolv_conf: Path) -> None:
        announced = announce_servers("wg0", ENTRIES)
        assert announced is not None
        resolv_conf.write_text("nameserver 198.51.100.1\n")
        announced.withdraw()
        assert resolv_conf.read_text() == "nameserver 198.51.100.1\n"

    def test_a_file_that_cannot_be_written_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared_file, "RESOLV_CONF", tmp_path / "nowhere" / "resolv.conf")
        with pytest.raises(HostError, match=r"resolv\.conf: No such file .* .no DNS in the file"):
            announce_servers("wg0", ENTRIES)
