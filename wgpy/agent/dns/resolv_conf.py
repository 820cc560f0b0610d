"""/etc/resolv.conf as text: what it says, and how ours stands in its place. Pure.

Ours carries what it replaced, line by line behind a mark. So it can be put back whoever died in between,
after a reboot too, with nothing else at hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import IPAddress

HEADER: Final = "# Written by wgpy for the names of its networks; the end has what was here before."
_ADVICE: Final = "# `wgpy down` puts that back; after a crash, `wgpy doctor --repair` does."
_LINK: Final = "#wgpy-link "
_LINE: Final = "#wgpy-line "
_END: Final = "#wgpy-end"
_MISSING: Final = "#wgpy-missing"
_NO_NEWLINE: Final = "#wgpy-no-newline"

MAX_SERVERS: Final = 3
"""Name servers that resolvers look at (MAXNS of resolv.h)."""


@dataclass(frozen=True, slots=True)
class Base:
    """What is or was at /etc/resolv.conf: a file's text, or a link and the text behind it. `text` None: no
    file, or a link to nowhere.
    """

    text: str | None
    link: str | None = None


def parse_nameservers(text: str) -> list[IPAddress]:
    """Its name servers, in order, each once. A zone (`fe80::1%eth0`) stays with the address."""
    found: dict[IPAddress, None] = {}
    for words in _settings(text):
        if words[0] == "nameserver" and len(words) > 1:
            try:
                found[ipaddress.ip_address(words[1])] = None
            except ValueError:
                continue
    return list(found)


def _settings(text: str) -> list[list[str]]:
    lines = (line.split() for line in text.splitlines() if not line.startswith(("#", ";")))
    return [words for words in lines if words]


def render(base: Base, servers: Sequence[IPAddress], search: Sequence[str], *, fall_back: bool) -> str:
    """Ours: `servers` are asked first and, with `fall_back`, the base's when those are silent.

    The host's search domains come before `search`. Options stay, but for `rotate`, which would ask servers
    that do not know the mesh.
    """
    before = base.text or ""
    known = list(dict.fromkeys([*servers, *(parse_nameservers(before) if fall_back else ())]))
    domains: list[str] = []
    options: list[str] = []
    for words in _settings(before):
        if words[0] in ("search", "domain"):
            domains = words[1:]  # the last of them counts
        elif words[0] == "options":
            options += [word for word in words[1:] if word != "rotate"]
    domains = list(dict.fromkeys([*domains, *search]))
    lines = [HEADER, _ADVICE, *(f"nameserver {address}" for address in known[:MAX_SERVERS])]
    if domains:
        lines.append(f"search {' '.join(domains)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*lines, *_remember(base)]) + "\n"


def _remember(base: Base) -> list[str]:
    if base.link is not None:
        return [f"{_LINK}{base.link}", _END]
    if base.text is None:
        return [_MISSING, _END]
    lines = base.text.split("\n")
    ending = [] if lines[-1] == "" else [_NO_NEWLINE]
    return [*(f"{_LINE}{line}" for line in (lines if ending else lines[:-1])), *ending, _END]


def is_ours(text: str | None) -> bool:
    return text is not None and text.startswith(HEADER)


def recall(text: str) -> Base | None:
    """What ours replaced; None when the end of ours is gone. A link's text is not in it."""
    lines = text.split("\n")
    if _END not in lines:
        return None
    kept = []
    ending = "\n"
    for line in lines[: lines.index(_END)]:
        if line.startswith(_LINK):
            return Base(None, line.removeprefix(_LINK))
        if line == _MISSING:
            return Base(None)
        if line == _NO_NEWLINE:
            ending = ""
        elif line.startswith(_LINE):
            kept.append(line.removeprefix(_LINE))
    return Base("\n".join(kept) + ending if kept else "")
