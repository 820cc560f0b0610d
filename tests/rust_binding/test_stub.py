"""The stub says what the extension has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_stub_agrees_with_the_extension() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy.stubtest", "wgpy._engine"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert finished.returncode == 0, finished.stdout + finished.stderr
