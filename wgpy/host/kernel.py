"""The calls that change a host: /proc/sys, and the program nft.

nftables is spoken to through nft(8) and not by netlink: its text is one transaction, its grammar is kept
by its own authors over kernel versions, and every host that has nftables has it. It takes 5 ms, and is
called when something changes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from wgpy.errors import HostError

_SYSCTLS: Final = Path("/proc/sys")
_TIMEOUT: Final = 20.0


def read_sysctl(name: str) -> str | None:
    """The value at that path below /proc/sys; None: there is no such thing here."""
    try:
        return (_SYSCTLS / name).read_text().strip()
    except OSError:
        return None


def write_sysctl(name: str, value: str) -> None:
    """Raises HostError."""
    try:
        (_SYSCTLS / name).write_text(value)
    except OSError as error:
        shown = name.replace("/", ".")
        raise HostError(f"cannot set {shown} to {value}: {error.strerror}") from error


def has_nft() -> bool:
    return shutil.which("nft") is not None


def run_nft(text: str) -> None:
    """Apply nft's text, whole or not at all. Raises HostError."""
    _nft(["-f", "-"], text)


def list_table(name: str) -> str | None:
    """Our table as nft shows it, without counters; None: it is not there."""
    try:
        return _nft(["-s", "list", "table", "inet", name])
    except HostError:
        return None


def list_nft(*words: str) -> list[dict[str, Any]]:
    """What `nft --json list WORDS…` knows, handles included; nothing when there is no such thing."""
    try:
        found: list[dict[str, Any]] = json.loads(_nft(["-j", "-a", "list", *words]))["nftables"]
    except (HostError, ValueError, KeyError):
        return []
    return found


def _nft(arguments: list[str], text: str | None = None) -> str:
    if not has_nft():
        raise HostError("nft is not installed (the package is called nftables)")
    try:
        done = subprocess.run(
            ["nft", *arguments], input=text, text=True, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"nft does not run: {error}") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise HostError(f"nft refuses the rules: {reason[0] if reason else 'without a word'}")
    return done.stdout
