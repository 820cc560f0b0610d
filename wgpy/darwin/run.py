"""Commands of the host, run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Final

from wgpy.darwin.commands import Command
from wgpy.errors import HostError

_TIMEOUT: Final = 20.0

Run = Callable[[Command], str]
"""A command → what it says. Raises HostError with its last line when it fails."""


def run(command: Command) -> str:
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(f"{' '.join(command)}: {reason[-1] if reason else f'status {done.returncode}'}")
    return done.stdout
