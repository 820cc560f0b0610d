"""Names: a DNS label out of whatever a host calls itself, and unique in its network. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from typing import Final

from wgpy.errors import ConfigError

MAX_LABEL: Final = 63
MAX_NETWORK_NAME: Final = 40
"""A network's name is part of file names, of unit names and of the suffix."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_ID: Final = re.compile(r"[0-9a-f]{32}")


def check_network_name(name: str) -> None:
    """Raises ConfigError."""
    if len(name) > MAX_NETWORK_NAME or not _LABEL.fullmatch(name) or _ID.fullmatch(name):
        raise ConfigError(
            f"a network's name is 1 to {MAX_NETWORK_NAME} of a-z, 0-9 and inner hyphens, such as home; "
            f"got {name[:64]!r}"
        )


def make_label(wish: str) -> str:
    """The DNS label nearest to the wish; `node` when nothing is left. Never looks like an id."""
    ascii_only = unicodedata.normalize("NFKD", wish).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:MAX_LABEL].strip("-")
    if _ID.fullmatch(label):
        label = f"n-{label}"
    return label or "node"


def unique_label(wish: str, taken: Container[str]) -> str:
    """`make_label`, with -2, -3 … behind it when another node has that name."""
    label = make_label(wish)
    candidate, number = label, 1
    while candidate in taken:
        number += 1
        ending = f"-{number}"
        candidate = label[: MAX_LABEL - len(ending)].rstrip("-") + ending
    return candidate


def is_node_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
