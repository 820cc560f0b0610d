"""PreUp, PostUp, PreDown, PostDown: commands of the file, run by a shell."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterable

import trio

from wgpy.errors import HostError

logger = logging.getLogger(__name__)


async def run_hooks(key: str, commands: Iterable[str], interface: str) -> None:
    """Run each in turn, `%i` in it replaced by the interface's name. Raises HostError when one fails."""
    shell = shutil.which("bash") or "/bin/sh"
    for command in commands:
        line = command.replace("%i", interface)
        logger.info("%s: %s", key, line)
        try:
            done = await trio.run_process([shell, "-c", line], stdin=subprocess.DEVNULL, check=False)
        except OSError as error:
            raise HostError(f"{key}: cannot run {shell}: {error.strerror}") from error
        if done.returncode:
            raise HostError(f"{key}: `{line}` failed with status {done.returncode}")
