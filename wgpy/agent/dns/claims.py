"""Who answers names on this host: a locked file for each interface, in the runtime directory.

The lock tells whether its process lives; what a killed one told the host's resolver is in its claim.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from wgpy.addresses import IPAddress
from wgpy.agent.places import make_private_directory, runtime_directory
from wgpy.darwin import IS_DARWIN
from wgpy.errors import HostError

_SUFFIX: Final = ".claim"


@dataclass(frozen=True, slots=True)
class Claim:
    """`servers` at `port` are to be asked for names in `domains` (text, reverse ones too), and `search` are
    domains to try short names in. `resolver` is what was told so. With `is_exclusive` they are to be asked
    for everything, and nobody else; with `is_default` too, but they know what the others here answer.
    """

    interface: str
    servers: tuple[IPAddress, ...]
    domains: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    port: int = 53
    resolver: str = ""
    is_exclusive: bool = False
    is_default: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self) | {"servers": list(map(str, self.servers))}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError, TypeError, KeyError."""
        value = json.loads(data)
        for name in ("servers", "domains", "search"):
            value[name] = tuple(value[name])
        value["servers"] = tuple(map(ipaddress.ip_address, value["servers"]))
        return cls(**value)


class HeldClaim:
    """A claim that is ours until `release`."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self._path = fd, path

    def write(self, claim: Claim) -> None:
        data = claim.to_json()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def release(self) -> None:
        """With the claims' lock held."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


class Claims:
    """Those of this network namespace. All of it is for who holds the lock: `with Claims() as claims`."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or runtime_directory()
        self._namespace = 0 if IS_DARWIN else os.stat("/proc/self/ns/net").st_ino

    def __enter__(self) -> Self:
        """Raises HostError."""
        make_private_directory(self._directory)
        path = self._directory / ".dns.lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"cannot write {path}: {error.strerror}") from None
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def hold(self, claim: Claim) -> HeldClaim:
        """Make this claim ours; one that a killed process left is taken over. Raises HostError."""
        path = self._directory / f"dns-{self._namespace}-{claim.interface}{_SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise HostError(f"another process answers names for {claim.interface} already") from None
        held = HeldClaim(fd, path)
        held.write(claim)
        return held

    def live(self) -> list[Claim]:
        """Claims of processes that live, in the order of their interfaces."""
        return [claim for _, claim, is_live in self._all() if is_live and claim is not None]

    def take_left_behind(self) -> list[Claim]:
        """Claims of processes that were killed; they are forgotten with this."""
        found = []
        for path, claim, is_live in self._all():
            if not is_live:
                path.unlink(missing_ok=True)
                if claim is not None:
                    found.append(claim)
        return found

    def _all(self) -> Iterator[tuple[Path, Claim | None, bool]]:
        for path in sorted(self._directory.glob(f"dns-{self._namespace}-*{_SUFFIX}")):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                is_live = False
                try:
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    is_live = True
                claim = None
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    claim = Claim.from_json(os.pread(fd, 1 << 16, 0))
                yield path, claim, is_live
            finally:
                os.close(fd)
