from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agent.states import make_state
from wgpy.agent.state_file import save_state
from wgpy.cli.main import run
from wgpy.cli.service import make_unit


@pytest.fixture(autouse=True)
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that joined home. Returns a directory for units."""
    monkeypatch.setenv("WGPY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "run"))
    save_state(make_state())
    return tmp_path / "units"


def test_a_unit_is_written_and_removed(joined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "install", "--directory", str(joined)]) == 0
    unit = joined / "wgpy-home.service"
    assert capsys.readouterr().out == f"wrote {unit}\n"
    text = unit.read_text()
    assert " up home\n" in text
    assert "Type=notify\n" in text
    assert "RestartPreventExitStatus=3\n" in text
    assert "WantedBy=multi-user.target\n" in text
    assert run(["service", "remove", "--directory", str(joined)]) == 0
    assert list(joined.iterdir()) == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("state", ["/var/lib/wgpy", "/srv/a place/100%"])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, state: str) -> None:
    program = tmp_path / "with space" / "wgpy"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "wgpy-home.service"
    unit.write_text(make_unit("home", program, Path(state)))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about_us = [line for line in done.stderr.splitlines() if "wgpy-home" in line]
    assert about_us == []


def test_a_dry_run_prints_the_unit_and_writes_nothing(
    joined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["service", "install", "--dry-run", "home"]) == 0
    assert capsys.readouterr().out.startswith("[Unit]\n")
    assert not joined.exists()


def test_homes_are_closed_to_it_unless_it_lives_in_one() -> None:
    installed = make_unit("home", Path("/usr/bin/wgpy"), Path("/var/lib/wgpy"))
    assert "ProtectHome=yes\n" in installed
    assert "ProtectHome=no\n" in make_unit("home", Path("/home") / "al" / "wgpy", Path("/var/lib/wgpy"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["install", "office"], "expected a token"),
        (["remove"], "say which network's service is to be removed; there is: none"),
        (["remove", "office"], "there is no service for 'office'"),
    ],
)
def test_a_mistake_is_one_line(
    joined: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(["service", *arguments, "--directory", str(joined)]) != 0
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.root
def test_doctor_names_each_offload_and_why_one_is_not_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offloads() -> dict[str, str]:
        run(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        return {each["text"]: each["verdict"] for each in found if each["check"] in ("offloads", "engine")}

    monkeypatch.setenv("WGPY_ENGINE", "native")
    monkeypatch.delenv("WGPY_DISABLE_OFFLOADS", raising=False)
    everything = offloads()
    assert len(everything) == 6
    assert everything["TCP superpackets (TSO)"] == "good"
    assert everything["receiving many datagrams at once (UDP GRO)"] == "good"
    monkeypatch.setenv("WGPY_DISABLE_OFFLOADS", "gso,tso")
    fewer = offloads()
    assert fewer["no TCP superpackets (TSO): switched off by the environment"] == "note"
    assert fewer["no sending many datagrams at once (UDP GSO): switched off by the environment"] == "note"
    assert fewer["receiving many datagrams at once (UDP GRO)"] == "good"
    monkeypatch.setenv("WGPY_ENGINE", "portable")
    assert list(offloads()) == ["portable, as chosen; packets are moved by Python"]


def test_doctor_tells_of_state_files_by_name(joined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = joined.parent / "state" / "home.json"
    run(["doctor", "--json"])
    findings = {finding["text"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["home: alice, not running"]["verdict"] == "good"
    path.chmod(0o644)
    assert run(["doctor"]) == 1
    assert "others may read its keys: chmod 600" in capsys.readouterr().out
    path.write_text("{")
    assert run(["doctor"]) == 1
    assert f"the state file {path} is damaged" in capsys.readouterr().out
