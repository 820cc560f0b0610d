"""Programs that are built once, into target/benchmarks/."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.results import progress

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "target" / "benchmarks"


class Unavailable(Exception):
    """It cannot be had here; the message says why."""


def build(
    program: Path, tool: str, *command: str, env: dict[str, str] | None = None, sources: Iterable[Path] = ()
) -> Path:
    """The program, built by `command` if it is not there yet or older than a source. Raises Unavailable."""
    newest = max((path.stat().st_mtime for path in sources), default=0.0)
    if not program.exists() or program.stat().st_mtime < newest:
        program.unlink(missing_ok=True)
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")
        progress(f"building once: {' '.join((tool, *command))}")
        done = subprocess.run(
            [tool, *command], env=os.environ | (env or {}), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
            raise Unavailable(f"{tool} {command[0]}: {said[-1].strip()}")
    return program
