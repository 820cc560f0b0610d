"""Separate machines on one machine: network namespaces, each with its own /run, /var/lib, name and processes.

    with Lab("demo") as lab:
        internet = Internet(lab)
        node = internet.host("node1")
        node.run("ping", "-c1", "198.51.100.2")
        server = node.start("wgpy", "coordinator", "serve")

A host is an anonymous namespace, held by a first process that lives as long as a pipe from us is open. When
we close it, crash or are killed, the kernel ends every process of the host and with them its interfaces: no
names can be left behind, but one directory under /tmp, which the next lab removes when its owner is dead.

Needs root. Linux only. Everything here blocks: tests, the demo and the benchmarks call it from plain threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.netns.processes import PARENT, STATE, HostFailure, Process, Result, process_stat, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "wgpy-lab-"
COVERED = ("/run", "/var/lib")
"""Directories of which each host has its own."""
_BYTECODE = str(Path(sys.prefix) / "lab-bytecode")
_FIRST_PROCESS = str(Path(__file__).with_name("first_process.sh"))


class Lab:
    """A set of hosts that come and go together, and the directory with what they write."""

    def __init__(self, name: str) -> None:
        _remove_leftovers()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-"))
        self.directory.chmod(0o755)
        # Locked before it has the name that others look for.
        fresh = self.directory / ".lock.new"
        self._lock = os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        fresh.rename(self.directory / ".lock")
        self.hosts: dict[str, Host] = {}

    def host(self, name: str) -> Host:
        """A machine without any link yet."""
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        host = Host(self, name)
        self.hosts[name] = host
        return host

    def close(self) -> None:
        """End all processes, remove everything. May be called twice."""
        for host in list(self.hosts.values()):
            host.close()
        self.hosts.clear()
        with contextlib.suppress(OSError):
            os.close(self._lock)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Host:
    """One machine. `path` is its directory outside; `enter` a program that runs a command in it."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self.path = lab.directory / f"{name}.d"
        self.ipv4: ipaddress.IPv4Address | None = None
        self.ipv6: ipaddress.IPv6Address | None = None
        self.started: list[Process] = []
        (self.path / "var-lib").mkdir(parents=True)
        (self.path / "resolv.conf").write_text("")
        (self.path / "hosts").write_text(f"127.0.0.1 localhost {name}\n::1 localhost {name}\n")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child",
             "sh", _FIRST_PROCESS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            env=os.environ | {"NAME": name, "PLACE": str(self.path), "KEEP": "\n".join(_keep())},
        )  # fmt: skip
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        if not line:
            _, error = self._holder.communicate()
            raise HostFailure(f"cannot make a network namespace (root needed): {error.strip()}")
        self.pid = int(line)
        self.enter = lab.directory / name
        self.enter.write_text(
            "#!/bin/sh\n"
            f'[ $# -gt 0 ] || set -- env PS1="{name}# " sh -i\n'
            f'PATH={shlex.quote(_path())} exec {shlex.join(self.command_prefix)} "$@"\n'
        )
        self.enter.chmod(0o755)

    # --- commands -------------------------------------------------------------------------------------------

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run to the end. HostFailure with the output when it fails (unless `check` is false) or hangs."""
        words = [str(word) for word in command]
        outer = subprocess.Popen(
            self.command_prefix + words,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment(env),
        )  # fmt: skip
        try:
            stdout, stderr = outer.communicate(input, timeout)
        except BaseException as error:
            self._kill_children(outer.pid)
            outer.kill()
            stdout, stderr = outer.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            output = (stderr + stdout).strip()
            raise HostFailure(
                f"{self.name}: {shlex.join(words)}: no end after {timeout:g} s: {output}"
            ) from error
        if check and outer.returncode:
            output = (stderr + stdout).strip()
            raise HostFailure(f"{self.name}: {shlex.join(words)}: exit code {outer.returncode}: {output}")
        return Result(outer.returncode, stdout, stderr)

    def start(
        self,
        *command: str | Path,
        log: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
    ) -> Process:
        """Start in the background, both outputs in the file `log` (default: the program's name).

        `stdin` gives it a standard input, for `write`; else it has none.
        """
        words = [str(word) for word in command]
        path = self.path / f"{log or Path(words[0]).name}.log"
        process = Process(self, words, path, self._environment(env), stdin)
        self.started.append(process)
        return process

    def ip(self, *lines: str) -> None:
        """Run lines of `ip -batch` in the network namespace (process ids are the outside's)."""
        _ip_batch(self.pid, lines)

    def processes(self) -> list[int]:
        """Process ids, as the outside counts, of all that lives in the host but its first process."""
        return [pid for pid in _pids() if pid != self.pid and self._owns(pid)]

    def reboot(self) -> None:
        """All processes die at once and /run is empty; /var/lib and the link stay."""
        for process in self.started:
            process.forget()
        self.started.clear()
        self._kill_all()
        self.run("find", "/run", "-mindepth", "1", "-delete")

    def close(self) -> None:
        """End it; may be called twice."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()
        for process in self.started:
            process.forget()
        self.started.clear()

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """Bytecode is kept, as where wgpy is installed: starting a program costs half of it otherwise."""
        ours = {"PATH": _path(), "PYTHONUNBUFFERED": "1", "PYTHONPYCACHEPREFIX": _BYTECODE}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return inherited | ours | dict(extra or {})

    # --- addresses ------------------------------------------------------------------------------------------

    def readdress(self, ipv4: str, ipv6: str, interface: str = "eth0") -> None:
        """Give the link these addresses (with prefix length) and no others, as a host that roams."""
        v4, v6 = ipaddress.IPv4Interface(ipv4), ipaddress.IPv6Interface(ipv6)
        self.ip(
            f"address flush dev {interface} scope global",
            f"address add {v4} dev {interface}",
            f"address add {v6} dev {interface} nodad",
        )
        self.ipv4, self.ipv6 = v4.ip, v6.ip

    # --- inside ---------------------------------------------------------------------------------------------

    @property
    def command_prefix(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--"]

    def _owns(self, pid: int) -> bool:
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink(f"/proc/{self.pid}/ns/pid"):
                return False
            return process_stat(pid)[STATE] not in ("Z", "X")
        except OSError:
            return False

    def _kill_all(self) -> None:
        def none_left() -> bool:
            pids = self.processes()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(none_left, f"{self.name}: processes that die when killed")

    def children_of(self, parent: int) -> list[int]:
        """The processes in the host that `parent`, outside, has started."""
        return [pid for pid in self.processes() if process_stat(pid)[PARENT] == str(parent)]

    def _kill_children(self, parent: int) -> None:
        # nsenter passes no signal on to what it started.
        for pid in self.children_of(parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Internet:
    """A switch that all hosts hang on: 198.51.100.0/24 and 2001:db8:51::/64, addresses as they arrive."""

    IPV4 = ipaddress.IPv4Network("198.51.100.0/24")
    IPV6 = ipaddress.IPv6Network("2001:db8:51::/64")

    def __init__(self, lab: Lab, name: str = "internet") -> None:
        self.lab = lab
        self.switch = lab.host(name)
        self._number = 0
        self._counting = threading.Lock()
        self.switch.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")

    def host(self, name: str, line: Callable[[Internet, int], str] | None = None) -> Host:
        """A new host, on a link without delay or at the end of `line` (see `impairment`)."""
        host = self.lab.host(name)
        with self._counting:
            self._number += 1
            number = self._number
        port = f"port{number}"
        if line is None:
            self.switch.ip(f"link add {port} type veth peer name eth0 netns {host.pid}")
        else:
            uplink = line(self, number)
            self.switch.ip(f"link set {uplink} netns {host.pid} name eth0")
        self.switch.ip(f"link set {port} master br0", f"link set {port} up")
        host.ip("link set eth0 up")
        host.readdress(*self.addresses(number))
        return host

    def next_addresses(self) -> tuple[str, str]:
        """Those that no host had yet."""
        with self._counting:
            self._number += 1
            return self.addresses(self._number)

    def addresses(self, number: int) -> tuple[str, str]:
        """The IPv4 and IPv6 address, with prefix length, of host `number`."""
        return f"{self.IPV4[number]}/{self.IPV4.prefixlen}", f"{self.IPV6[number]}/{self.IPV6.prefixlen}"


def _ip_batch(pid: int, lines: tuple[str, ...]) -> None:
    # Only the network namespace is entered: `netns PID` in a line is then the outside's process id.
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"],
        input="\n".join(lines) + "\n", text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise HostFailure(f"ip: {lines}: {done.stderr.strip()}")


def _path() -> str:
    # /usr/sbin holds ip and nft, and is not on everyone's path.
    return os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    )


def _keep() -> list[str]:
    """Paths of ours beneath what each host covers with its own: a clone may lie in /var/lib/jenkins."""
    ours = {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    return sorted(str(path) for path in ours if any(path.is_relative_to(covered) for covered in COVERED))


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _remove_leftovers() -> None:
    """Remove the directories of labs whose owner is dead: nobody holds their lock."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(directory / ".lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
