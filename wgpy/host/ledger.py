"""What was changed on this host, by whom, and how it was before: on disk before it is done.

One file for all networks and tunnels of the host, since they share sysctls: a value goes back when its last
holder lets go of it, and only if it is still what we made of it. Another boot has forgotten all of it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wgpy.agent.places import make_private_directory, runtime_directory, state_directory
from wgpy.agent.state_file import write_private_file
from wgpy.errors import HostError
from wgpy.host.setting import GuestRule
from wgpy.mesh.encoding import JsonObject, MalformedMessage, decode_json
from wgpy.netlink.rule import Rule

logger = logging.getLogger(__name__)

_VERSION: Final = 1
_MAX_SIZE: Final = 4 * 1024 * 1024
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class SysctlEntry:
    """`before` was there, `after` is ours, `holders` want it so."""

    before: str
    after: str
    holders: set[str]


@dataclass(slots=True)
class Holding:
    """What one holder has, or is about to have, on the host. `surviving` are tables that outlive it."""

    tables: set[str] = field(default_factory=set)
    surviving: set[str] = field(default_factory=set)
    rules: set[Rule] = field(default_factory=set)
    guests: set[GuestRule] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        return not (self.tables or self.surviving or self.rules or self.guests)


@dataclass(slots=True)
class Book:
    """The ledger's content, changed in place while it is open."""

    sysctls: dict[str, SysctlEntry] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)

    def holding(self, holder: str) -> Holding:
        return self.holdings.setdefault(holder, Holding())

    def holders(self) -> set[str]:
        """All that have something."""
        return self.holdings.keys() | {name for entry in self.sysctls.values() for name in entry.holders}

    def to_json(self, boot: str) -> JsonObject:
        return {
            "version": _VERSION,
            "boot": boot,
            "sysctls": {
                name: {"before": entry.before, "after": entry.after, "holders": sorted(entry.holders)}
                for name, entry in sorted(self.sysctls.items())
            },
            "holdings": {
                name: {
                    "tables": sorted(held.tables),
                    "surviving": sorted(held.surviving),
                    "rules": [dataclasses.asdict(rule) for rule in sorted(held.rules, key=repr)],
                    "guests": [dataclasses.asdict(guest) for guest in sorted(held.guests, key=repr)],
                }
                for name, held in sorted(self.holdings.items())
                if not held.is_empty
            },
        }

    @classmethod
    def from_json(cls, value: Any) -> tuple[str, Book]:
        """The boot in which it was written, and the book. Raises TypeError, KeyError, ValueError."""
        if value["version"] != _VERSION:
            raise ValueError(f"version {value['version']}")
        book = cls()
        for name, entry in value["sysctls"].items():
            book.sysctls[name] = SysctlEntry(entry["before"], entry["after"], set(entry["holders"]))
        for name, held in value["holdings"].items():
            book.holdings[name] = Holding(
                set(held["tables"]),
                set(held["surviving"]),
                {Rule(**rule) for rule in held["rules"]},
                {GuestRule(**guest) for guest in held["guests"]},
            )
        return value["boot"], book


def ledger_path() -> Path:
    """With the state files; where these cannot be written (a read-only root), with the sockets."""
    state = state_directory()
    there = next(each for each in (state, *state.parents) if each.exists())
    return (state if os.access(there, os.W_OK) else runtime_directory()) / ".host-ledger"


def boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class OpenLedger:
    """The ledger, locked: `book` is changed, `write` brings it to the disk."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._written: JsonObject | None = None
        self.book = Book()

    def read(self) -> None:
        try:
            value = decode_json(self._path.read_bytes(), _MAX_SIZE)
            boot, book = Book.from_json(value)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HostError(f"cannot read {self._path}: {error.strerror}") from None
        except (MalformedMessage, TypeError, KeyError, ValueError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            self._path.rename(aside)
            logger.error("%s is damaged (%s) and was moved to %s", self._path, error, aside)
            return
        if boot == self._boot:
            self.book = book
            self._written = book.to_json(boot)

    def write(self) -> None:
        """With fsync, unless nothing is new. Raises StateError."""
        value = self.book.to_json(self._boot)
        if value == self._written:
            return
        if not value["sysctls"] and not value["holdings"]:
            self._path.unlink(missing_ok=True)
        else:
            write_private_file(self._path, value)
        self._written = value


@contextmanager
def open_ledger() -> Iterator[OpenLedger]:
    """Locked against other processes for as long as it is open; written once more at the end. Raises
    HostError, StateError.
    """
    path = ledger_path()
    make_private_directory(path.parent)
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"cannot lock {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ledger = OpenLedger(path, boot_id())
        ledger.read()
        try:
            yield ledger
        finally:
            ledger.write()
    finally:
        os.close(lock)


def read_ledger() -> Book:
    """What it says now, for looking at only. Empty without one, or when it cannot be read."""
    ledger = OpenLedger(ledger_path(), boot_id())
    try:
        boot, book = Book.from_json(decode_json(ledger_path().read_bytes(), _MAX_SIZE))
    except (OSError, MalformedMessage, TypeError, KeyError, ValueError):
        return ledger.book
    return book if boot == boot_id() else Book()
