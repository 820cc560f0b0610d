"""Who sees whom. Pure, and symmetric: `visible(p, a, b) == visible(p, b, a)`, or a tunnel had one end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coordinator.names import check_tag
from wgpy.errors import ConfigError

if TYPE_CHECKING:
    from coordinator.netmap import Member

ANY: Final = "*"
"""Stands for every node in a pair, tagged or not."""

MAX_PAIRS: Final = 256

Tags = frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which tags see each other: `pairs` are unordered. None: all nodes do, which is how a network begins."""

    pairs: frozenset[tuple[str, str]] | None = None

    @classmethod
    def of(cls, pairs: Iterable[Iterable[str]] | None) -> Policy:
        """Raises ConfigError for what is no pair of tags, and for too many."""
        if pairs is None:
            return cls()
        found = set()
        for pair in pairs:
            tags = tuple(pair)
            if len(tags) != 2:
                raise ConfigError(f"visibility is a list of pairs of tags; got one of {len(tags)}")
            for tag in tags:
                if tag != ANY:
                    check_tag(tag)
            found.add((min(tags), max(tags)))
        if len(found) > MAX_PAIRS:
            raise ConfigError(f"visibility has at most {MAX_PAIRS} pairs; got {len(found)}")
        return cls(frozenset(found))

    def to_json(self) -> list[list[str]] | None:
        return None if self.pairs is None else [list(pair) for pair in sorted(self.pairs)]

    def allows(self, a: Tags, b: Tags) -> bool:
        """Whether nodes with these tags see each other."""
        if self.pairs is None:
            return True
        return any(
            (_has(a, one) and _has(b, other)) or (_has(a, other) and _has(b, one))
            for one, other in self.pairs
        )


def _has(tags: Tags, wanted: str) -> bool:
    return wanted == ANY or wanted in tags


def visible(policy: Policy, a: Member, b: Member) -> bool:
    """Whether two nodes of one network are in each other's maps: both have signed a record, none is kept out,
    and the policy allows their tags.

    `NetworkView` counts on it that tags alone decide, to know each node's map hash without walking its peers.
    """
    return a.id != b.id and a.is_in_maps and b.is_in_maps and policy.allows(a.tags, b.tags)
