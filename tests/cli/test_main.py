"""The command line: what it imports, how it fails, and that its help needs nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from wgpy import __version__
from wgpy.cli import main
from wgpy.cli.main import COMMANDS, run
from wgpy.errors import ConfigError, HostError


def wgpy(*arguments: str, input: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wgpy.cli.main", *arguments],
        input=input,
        text=True,
        capture_output=True,
        check=False,
        env=os.environ | environment,
    )


def test_version() -> None:
    assert wgpy("--version").stdout == f"wgpy, version {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(flag: str) -> None:
    done = wgpy(flag)
    assert done.returncode == 0
    for name, entry in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.summary in done.stdout


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom wgpy.cli.main import run\nassert run(['--help']) == 0\n"
        "print(*(m for m in sys.modules if m.partition('.')[0] in ('trio', 'cryptography', 'coordinator')"
        " or m.startswith('wgpy.cli.') and m != 'wgpy.cli.main'), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stderr.split() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says_and_has_help(name: str) -> None:
    done = wgpy(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: wgpy {name} ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["show", "--nonsense"], ["show", "wg0", "nonsense"]])
def test_what_is_no_command_is_said_with_status_2(arguments: list[str]) -> None:
    done = wgpy(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (HostError("the host is busy"), 1, "wgpy: the host is busy\n"),
        (ConfigError("no", source="a.conf", line=3), 2, "wgpy: a.conf:3: no\n"),
        (ExceptionGroup("", [ExceptionGroup("", [HostError("deep")])]), 1, "wgpy: deep\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, ""),
    ],
)
def test_an_error_for_the_user_is_one_line_and_a_status(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(
        main.LazyGroup, "get_command", lambda group, ctx, name: click.Command("x", callback=fail)
    )
    assert run(["x"]) == status
    assert capsys.readouterr() == ("", line)


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ExceptionGroup("", [HostError("of theirs"), ZeroDivisionError("of ours")])

    monkeypatch.setattr(
        main.LazyGroup, "get_command", lambda group, ctx, name: click.Command("x", callback=fail)
    )
    with pytest.RaisesGroup(HostError, ZeroDivisionError):
        run(["x"])


def test_a_missing_coordinator_says_how_to_install_it() -> None:
    code = (
        "import sys\nsys.modules['starlette'] = sys.modules['sqlalchemy'] = None\n"
        "sys.modules['coordinator'] = None\n"
        "from wgpy.cli.main import run\nsys.exit(run(['coordinator', 'serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("wgpy: the coordinator is not installed here")
    assert "pip install 'wgpy[coordinator]'" in done.stderr
