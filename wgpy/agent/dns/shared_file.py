"""/etc/resolv.conf on hosts where nothing looks after it: one file, shared by all that answer names here."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wgpy.addresses import IPAddress
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.resolv_conf import Base, is_ours, parse_nameservers, recall, render
from wgpy.errors import HostError

logger = logging.getLogger(__name__)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
NAME: Final = "resolv.conf"

Stamp = tuple[int, ...]
"""What of a file changes with its content."""


def update(claims: Claims, path: Path | None = None) -> bool:
    """Make the file as the live claims on it want it, or as it was before there were any → whether it had to
    be written. What somebody else has written in the meantime is what it will be put back to. Raises
    HostError.
    """
    path = path or RESOLV_CONF
    wanted = [claim for claim in claims.live() if claim.resolver == NAME]
    now = _read(path)
    base = _base_of(now, path)
    if not wanted:
        if base is now:
            return False
        _put_back(path, base)
        return True
    text = render_for(base, wanted)
    if now.link is None and now.text == text:
        return False
    _put(path, text)
    return True


def render_for(base: Base, claims: Sequence[Claim]) -> str:
    """A claim that is exclusive has no other beside it, one that is for the rest of the world no server."""
    exclusive = [claim for claim in claims if claim.is_exclusive]
    default = exclusive or [claim for claim in claims if claim.is_default]
    servers = [server for claim in default or claims for server in claim.servers]
    search = [domain for claim in exclusive or claims for domain in claim.search]
    fall_back = not default and not _asks_all_at_once()
    return render(base, servers, search, fall_back=fall_back)


def _asks_all_at_once() -> bool:
    """musl asks every server at the same time and believes the first: a server that does not know the mesh
    must not be in its list.
    """
    return any(Path("/lib").glob("ld-musl-*"))


def upstreams(path: Path | None = None) -> list[IPAddress]:
    """The host's own name servers: of what ours stands in front of."""
    path = path or RESOLV_CONF
    return parse_nameservers(_base_of(_read(path), path).text or "")


def has_ours(path: Path | None = None) -> bool:
    """Whether the file is one of ours."""
    return is_ours(_text(path or RESOLV_CONF))


def stamp(path: Path | None = None) -> Stamp:
    """Differs when the file, or what the link in its place led to, was changed."""
    path = path or RESOLV_CONF
    found: list[int] = []
    places = [path]
    with contextlib.suppress(OSError):
        before = _base_of(_read(path), path)
        if before.link is not None:
            places.append(path.parent / before.link)
    for place in places:
        try:
            status = place.stat()
            found += [status.st_ino, status.st_mtime_ns, status.st_size]
        except OSError:
            found += [0, 0, 0]
    return tuple(found)


def _read(path: Path) -> Base:
    try:
        link = os.readlink(path)
    except OSError:
        link = None
    return Base(_text(path), link)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _base_of(now: Base, path: Path) -> Base:
    """What is there, or what ours stands in front of."""
    if now.link is not None or now.text is None or not is_ours(now.text):
        return now
    base = recall(now.text)
    if base is None:
        # Somebody cut our lines off; what is left of the servers is better than none.
        lines = [line for line in now.text.splitlines() if not line.startswith("#")]
        return Base("".join(f"{line}\n" for line in lines[1:]))
    if base.link is not None:
        return Base(_text(path.parent / base.link), base.link)
    return base


def _put(path: Path, text: str) -> None:
    """Whole by renaming; a file that is a mount (a container's) cannot be renamed over, and is written."""
    data = text.encode("utf-8", "surrogateescape")
    fresh = path.with_name(f".{path.name}.wgpy")
    try:
        try:
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o644)
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise HostError(
            f"cannot write {path}: {error.strerror}; without it nobody on this host asks our name servers: "
            "make it writable, or do without (no DNS in the file, --dns off)"
        ) from None


def _put_back(path: Path, base: Base) -> None:
    if base.link is not None:
        fresh = path.with_name(f".{path.name}.wgpy")
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(base.link)
            os.rename(fresh, path)
        except OSError as error:
            raise HostError(f"cannot put the link {path} -> {base.link} back: {error.strerror}") from None
    elif base.text is None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    else:
        _put(path, base.text)
