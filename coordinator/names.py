"""Names: a DNS label out of whatever a host calls itself, and unique in its network. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable
from typing import Final

from wgpy.errors import ConfigError

MAX_LABEL: Final = 63
MAX_NETWORK_NAME: Final = 40
"""A network's name is part of file names, of unit names and of the suffix."""

MAX_TAGS: Final = 16
MAX_SUFFIX: Final = 180
"""With a node's name before it a whole name still fits DNS."""

_NOT_OURS: Final = {
    "local": "multicast DNS",
    "localhost": "the host itself",
    "onion": "Tor",
    "arpa": "the Internet's own tables",
}
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_ID: Final = re.compile(r"[0-9a-f]{32}")


def check_network_name(name: str) -> None:
    """Raises ConfigError."""
    if len(name) > MAX_NETWORK_NAME or not _LABEL.fullmatch(name) or _ID.fullmatch(name):
        raise ConfigError(
            f"a network's name is 1 to {MAX_NETWORK_NAME} of a-z, 0-9 and inner hyphens, such as home; "
            f"got {name[:64]!r}"
        )


def check_node_name(name: str) -> None:
    """Raises ConfigError."""
    if len(name) > MAX_LABEL or not _LABEL.fullmatch(name) or _ID.fullmatch(name):
        raise ConfigError(
            f"a node's name is 1 to {MAX_LABEL} of a-z, 0-9 and inner hyphens, such as alice; "
            f"got {name[:64]!r}"
        )


def check_tag(tag: str) -> None:
    """Raises ConfigError."""
    if len(tag) > MAX_LABEL or not _LABEL.fullmatch(tag):
        raise ConfigError(
            f"a tag is 1 to {MAX_LABEL} of a-z, 0-9 and inner hyphens, such as servers; got {tag[:64]!r}"
        )


def make_tags(wish: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order. Raises ConfigError."""
    tags = tuple(sorted(set(wish)))
    for tag in tags:
        check_tag(tag)
    if len(tags) > MAX_TAGS:
        raise ConfigError(f"a node has at most {MAX_TAGS} tags; got {len(tags)}")
    return tags


def check_suffix(suffix: str) -> None:
    """Raises ConfigError."""
    labels = suffix.split(".")
    if len(suffix) > MAX_SUFFIX or not all(
        len(label) <= MAX_LABEL and _LABEL.fullmatch(label) for label in labels
    ):
        raise ConfigError(
            f"a DNS suffix is at most {MAX_SUFFIX} characters of labels with dots between them, "
            f"such as home.internal; got {suffix[:64]!r}"
        )
    if labels[-1] in _NOT_OURS:
        raise ConfigError(f".{labels[-1]} belongs to {_NOT_OURS[labels[-1]]}: take one below .internal")


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
