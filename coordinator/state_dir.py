"""The coordinator's state directory: the database, the key file, the admin's key, and the lock that says who
uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wgpy.errors import StateError

ENVIRONMENT: Final = "WGPY_COORDINATOR_STATE_DIR"


def default_state_dir() -> Path:
    """/var/lib/wgpy-coordinator for root, $XDG_STATE_HOME/wgpy-coordinator for others; the environment
    overrides.
    """
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/wgpy-coordinator")
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "wgpy-coordinator"


@dataclass(frozen=True, slots=True)
class AdminFile:
    """admin.json: how the command line on this host reaches the coordinator, and the key that opens it.

    `identity` is the identity hash in base64url; `key` is a secret, so the repr shows nothing.
    """

    url: str
    identity: str
    key: str

    def __repr__(self) -> str:
        return f"AdminFile({self.url}, …)"


class StateDir:
    """Names of what is in the directory, which nobody else may enter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "coordinator.db"
        self.key_file = path / "secrets.key"
        self.admin_file = path / "admin.json"
        self.lock_file = path / "lock"

    def prepare(self) -> None:
        """Make the directory, mode 0700. Raises StateError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o700)
        except OSError as error:
            raise StateError(
                f"cannot use {self.path} as the state directory: {error.strerror}; "
                f"choose another with --state-dir or {ENVIRONMENT}"
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Ours alone while this lasts; the kernel lets go when the process ends, however it ends.

        Raises StateError when another coordinator has it.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot open {self.lock_file}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
                raise StateError(
                    f"another coordinator (process {owner}) runs on {self.path}: "
                    "stop it first, or give this one another --state-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def read_admin_file(self) -> AdminFile | None:
        """None when there is none. Raises StateError when it cannot be read as one."""
        try:
            value = json.loads(self.admin_file.read_text())
            return AdminFile(str(value["url"]), str(value["identity"]), str(value["key"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"cannot read {self.admin_file}: {error.strerror}; run this as the coordinator's user"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise StateError(
                f"{self.admin_file} is damaged: move it away and restart the coordinator, "
                "which writes a new one"
            ) from None

    def write_admin_file(self, admin: AdminFile) -> None:
        """Whole or not at all, mode 0600. Raises StateError."""
        temporary = self.admin_file.with_name(f"admin.json.{os.urandom(8).hex()}")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(admin), file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.admin_file)
        except OSError as error:
            raise StateError(f"cannot write {self.admin_file}: {error.strerror}") from None
