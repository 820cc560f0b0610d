"""What is known on this host of the tunnels that run: a locked file for each, in the runtime directory.

The lock tells whether the process lives; the content, what a process that was killed has left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from wgpy.agent.places import make_private_directory, runtime_directory
from wgpy.errors import HostError

END_TIMEOUT: Final = 60.0
"""Seconds that a tunnel gets to end: its PreDown and PostDown commands may take long."""

_SUFFIX: Final = ".tunnel"


@dataclass(slots=True)
class Record:
    """A tunnel's process, and its file."""

    pid: int
    path: str


def _file(name: str) -> Path:
    return runtime_directory() / f"{name}{_SUFFIX}"


def holder_of(name: str) -> str:
    """Under what the ledger knows a tunnel by file; no network is called so."""
    return f"{name}.conf"


class Claim:
    """The tunnel `name` is ours for as long as this is open. `left_behind`: of a process that was killed."""

    def __init__(self, name: str, record: Record) -> None:
        """Raises HostError when it runs already."""
        make_private_directory(runtime_directory())
        self._path = _file(name)
        while not self._lock(name):
            pass  # its file was removed under our hands by the one before
        self.left_behind = _read(self._fd)
        self.record = record
        self.write()

    def _lock(self, name: str) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"cannot write {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = _read(self._fd)
            os.close(self._fd)
            who = f" by process {running.pid}, from {running.path}" if running is not None else ""
            raise HostError(f"{name} is up already{who}: wgpy down {name}") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                return True
        os.close(self._fd)
        return False

    def write(self) -> None:
        """Keep what `record` says now."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(asdict(self.record)).encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Removed before it is unlocked: nobody may lock what is about to go.
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._fd)


def running_tunnels() -> list[str]:
    """Names of the tunnels that have a process, in order."""
    return sorted(
        path.name.removesuffix(_SUFFIX) for path in runtime_directory().glob(f"*{_SUFFIX}") if _locked(path)
    )


def known_tunnels() -> list[str]:
    """Those, and the ones whose process was killed."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in runtime_directory().glob(f"*{_SUFFIX}"))


def end_tunnel(name: str) -> bool:
    """Ask its process to end, and wait until it has. False: there is none. Raises HostError."""
    path = _file(name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        raise HostError(f"{name} is for root to end: run as root") from None
    try:
        if not _locked(path) or (record := _read(fd)) is None:
            return False
        if not hasattr(os, "pidfd_open"):  # macOS
            _end_by_number(name, path, record.pid)
            return True
        try:
            process = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return False
        try:
            # The lock is asked once more: now the number of the process cannot have gone to another.
            if not _locked(path):
                return False
            signal.pidfd_send_signal(process, signal.SIGTERM)
            poll = select.poll()
            poll.register(process, select.POLLIN)
            if not poll.poll(END_TIMEOUT * 1000):
                raise HostError(f"{name}: process {record.pid} has not ended after {END_TIMEOUT:.0f} s")
        finally:
            os.close(process)
    finally:
        os.close(fd)
    return True


def _end_by_number(name: str, path: Path, pid: int) -> None:
    """The lock was there a moment ago, and so was its process. Raises HostError."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_TIMEOUT
    while _locked(path):
        if time.monotonic() > deadline:
            raise HostError(f"{name}: process {pid} has not ended after {END_TIMEOUT:.0f} s")
        time.sleep(0.05)


def _locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _read(fd: int) -> Record | None:
    try:
        return Record(**json.loads(os.pread(fd, 65536, 0)))
    except (ValueError, TypeError):
        return None
