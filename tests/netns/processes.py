"""Programs in a host: results, background processes, and waiting for a condition instead of sleeping."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.netns.hosts import Host

T = TypeVar("T")


class HostFailure(Exception):
    """A command in a host failed, or what was waited for did not come. The message has the output."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: exit code and both outputs as text."""

    returncode: int
    stdout: str
    stderr: str


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0, interval: float = 0.05) -> T:
    """Ask until `condition()` is true and return its value; HostFailure says `what` did not come in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise HostFailure(f"waited {timeout:g} s in vain: {what}")
        time.sleep(interval)
    return value


class Process:
    """A program in the background of a host. `pid` is its process id as the outside counts."""

    def __init__(self, host: Host, words: list[str], log: Path, env: Mapping[str, str], stdin: bool) -> None:
        self.host = host
        self.words = words
        self.log = log
        self._file: IO[bytes] = log.open("ab")
        # A session of its own: Ctrl-C in a terminal is for us, and we end our hosts in order.
        self._outer = subprocess.Popen(
            host.command_prefix + words,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=self._file, stderr=subprocess.STDOUT, start_new_session=True, env=env,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Waits for nsenter to have forked; HostFailure when the program has ended."""

        def child() -> int | None:
            if self._outer.poll() is not None:
                raise HostFailure(f"{self.host.name}: {shlex.join(self.words)} ended: {self.tail()}")
            return next(iter(self.host.children_of(self._outer.pid)), None)

        pid = wait_until(child, f"{self.host.name}: {self.words[0]} starts")
        assert pid is not None
        return pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; the negative signal when it was killed."""
        return self._outer.poll()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, HostFailure):
            os.kill(self.pid, number)
            if number == signal.SIGCONT:
                self._outer.send_signal(number)  # nsenter stops when what it started stops

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit code."""
        try:
            code = self._outer.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise HostFailure(
                f"{self.host.name}: {shlex.join(self.words)} does not end: {self.tail()}"
            ) from error
        self._release()
        return code

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, and its exit code."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.returncode is None:
            self.signal(signal.SIGKILL)
        self.wait()

    def text(self) -> str:
        """All it wrote to either output."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.text().splitlines()[-lines:])

    def write(self, text: str) -> None:
        """To its standard input."""
        assert self._outer.stdin is not None
        self._outer.stdin.write(text.encode())
        self._outer.stdin.flush()

    def wait_text(self, text: str, timeout: float = 20.0) -> None:
        """Wait until it has written `text`. HostFailure with the end of its log if it ends or does not."""
        self.wait_for(lambda written: text in written, repr(text), timeout)

    def wait_for(self, is_there: Callable[[str], bool], what: str, timeout: float = 20.0) -> None:
        """Wait until `is_there(all it wrote)`. HostFailure with the end of its log if it ends or does not."""
        deadline = time.monotonic() + timeout
        while not is_there(self.text()):
            if self.returncode is not None or time.monotonic() > deadline:
                state = "goes on" if self.returncode is None else f"ended ({self.returncode})"
                raise HostFailure(
                    f"{self.host.name}: {self.words[0]} {state} without {what}; it wrote:\n{self.tail()}"
                )
            time.sleep(0.02)

    def resident_bytes(self) -> int:
        """Resident set size now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise HostFailure(f"{self.host.name}: {self.words[0]} has no VmRSS")

    def forget(self) -> None:
        """Release what belongs to us, when the host's processes have been killed."""
        with contextlib.suppress(ProcessLookupError):
            self._outer.kill()
        self._outer.wait()
        self._release()

    def _release(self) -> None:
        self._file.close()
        if self._outer.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._outer.stdin.close()


STATE, PARENT = 0, 1


def process_stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on; of a process that is gone, as if it were a zombie without parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ["Z", "0"]
    # The name may hold spaces and brackets; nothing after its last bracket does.
    return text.rpartition(")")[2].split()
