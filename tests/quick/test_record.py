"""A tunnel's record: one process has it, and others can tell whether that one lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wgpy.errors import HostError
from wgpy.quick.record import Claim, Record, end_tunnel, known_tunnels, running_tunnels

HOLD = """
import os, sys
from wgpy.quick.record import Claim, Record
claim = Claim(sys.argv[1], Record(os.getpid(), "/a.conf"))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def hold(name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, name]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def finish(holder: subprocess.Popen[str]) -> int:
    holder.communicate()
    return holder.returncode


def test_what_nobody_has_is_ours_and_gone_afterwards(runtime: Path) -> None:
    with Claim("home", Record(os.getpid(), "/home.conf")) as claim:
        assert claim.left_behind is None
        assert running_tunnels() == known_tunnels() == ["home"]
        assert (runtime / "home.tunnel").stat().st_mode & 0o777 == 0o600
    assert known_tunnels() == []


def test_what_another_has_is_refused_and_named() -> None:
    holder = hold("home")
    with pytest.raises(
        HostError, match=rf"^home is up already by process {holder.pid}, from /a\.conf: wgpy down"
    ):
        Claim("home", Record(os.getpid(), "/home.conf"))
    assert running_tunnels() == ["home"]
    assert finish(holder) == 0


def test_what_a_killed_one_left_is_known() -> None:
    holder = hold("home")
    holder.send_signal(signal.SIGKILL)
    finish(holder)
    assert (running_tunnels(), known_tunnels()) == ([], ["home"])
    assert not end_tunnel("home")
    with Claim("home", Record(os.getpid(), "/home.conf")) as claim:
        assert claim.left_behind == Record(holder.pid, "/a.conf")


def test_one_that_lives_is_ended_and_waited_for() -> None:
    holder = hold("home")
    assert end_tunnel("home")
    assert finish(holder) == -signal.SIGTERM


def test_one_that_is_not_there_is_said() -> None:
    assert not end_tunnel("home")


def test_a_record_that_makes_no_sense_is_none(runtime: Path) -> None:
    runtime.mkdir()
    (runtime / "home.tunnel").write_text("{")
    with Claim("home", Record(os.getpid(), "/home.conf")) as claim:
        assert claim.left_behind is None
