"""Name servers while a tunnel is up: by resolvconf(8), by systemd-resolved, or in /etc/resolv.conf itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wgpy.addresses import IPAddress
from wgpy.errors import HostError

RESOLV_CONF: Final = Path("/etc/resolv.conf")
_TIMEOUT: Final = 20.0


def set_dns(interface: str, entries: Sequence[IPAddress | str], saved: Path) -> None:
    """Ask these servers (addresses), for these search domains (names) first. Nothing to do without a server.

    `saved`: where the /etc/resolv.conf that was is kept, if it has to be written. Raises HostError.
    """
    servers = [str(entry) for entry in entries if not isinstance(entry, str)]
    domains = [entry for entry in entries if isinstance(entry, str)]
    if not servers:
        return
    if shutil.which("resolvconf"):
        _run(["resolvconf", "-a", interface, "-m", "0", "-x"], _resolv_conf(servers, domains))
    elif has_resolved():
        _run(["resolvectl", "dns", interface, *servers])
        _run(["resolvectl", "domain", interface, "~.", *domains])
    else:
        _replace(_header(interface) + _resolv_conf(servers, domains), saved)


def unset_dns(interface: str, saved: Path) -> None:
    """Undo it; also after a crash. Raises HostError."""
    if saved.exists():
        _restore(interface, saved)
    elif shutil.which("resolvconf"):
        _run(["resolvconf", "-d", interface, "-f"])
    # systemd-resolved forgets what belongs to an interface with the interface.


def has_resolved() -> bool:
    """Whether systemd-resolved runs and can be told."""
    return shutil.which("resolvectl") is not None and os.path.isdir("/run/systemd/resolve")


def _header(interface: str) -> str:
    return f"# Written by wgpy for {interface}; `wgpy down {interface}` restores what was here.\n"


def _resolv_conf(servers: Sequence[str], domains: Sequence[str]) -> str:
    search = f"search {' '.join(domains)}\n" if domains else ""
    return "".join(f"nameserver {server}\n" for server in servers) + search


def _replace(text: str, saved: Path) -> None:
    try:
        before = RESOLV_CONF.read_bytes() if RESOLV_CONF.exists() else b""
        saved.write_bytes(before)
        # In place: in a container the file is a mount, which cannot be renamed over.
        RESOLV_CONF.write_text(text)
    except OSError as error:
        raise HostError(
            f"cannot write {RESOLV_CONF}: {error.strerror}; take DNS out of the file, or install resolvconf"
        ) from error


def _restore(interface: str, saved: Path) -> None:
    try:
        # What somebody else has written since is not ours to undo.
        if RESOLV_CONF.read_text(errors="replace").startswith(_header(interface)):
            RESOLV_CONF.write_bytes(saved.read_bytes())
        saved.unlink()
    except OSError as error:
        raise HostError(f"cannot restore {RESOLV_CONF} from {saved}: {error.strerror}") from error


def _run(command: list[str], text: str | None = None) -> None:
    try:
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(f"{' '.join(command)}: {reason[-1] if reason else f'status {done.returncode}'}")
