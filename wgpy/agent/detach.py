"""Into the background: the parent shows what the child says until it is ready or has failed."""

from __future__ import annotations

import logging
import os
import sys
import syslog
from collections.abc import Callable
from typing import Final

_READY: Final = b"\0"


class Syslog(logging.Handler):
    """Log lines to syslog(3). The library's own handler brings pickle, half a megabyte of it."""

    def emit(self, record: logging.LogRecord) -> None:
        levels = ((logging.ERROR, syslog.LOG_ERR), (logging.WARNING, syslog.LOG_WARNING))
        priority = next((found for least, found in levels if record.levelno >= least), syslog.LOG_INFO)
        syslog.syslog(priority, self.format(record))


class Background:
    """The child's side: `say` reaches the terminal until `ready`, then nothing does."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def say(self, line: str) -> None:
        if self._fd >= 0:
            os.write(self._fd, line.encode() + b"\n")

    def ready(self) -> None:
        """Let the parent end well. From here on log lines go to syslog, where there is one."""
        if self._fd < 0:
            return
        os.write(self._fd, _READY)
        self._close()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        syslog.openlog("wgpy", syslog.LOG_PID, syslog.LOG_DAEMON)
        logging.basicConfig(format="%(message)s", handlers=[Syslog()], force=True)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def detach(run: Callable[[Background], int]) -> int:
    """Run in a child of its own session. Returns in the parent: the child's exit status, or 0 once it is
    ready.

    Called before trio runs and before there are threads.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        os.chdir("/")
        status = 1
        try:
            status = run(Background(writing))
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    is_ready = False
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while chunk := pipe.read(4096):
            is_ready |= _READY in chunk
            sys.stdout.write(chunk.replace(_READY, b"").decode(errors="replace"))
            sys.stdout.flush()
    if is_ready:
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
