"""One thing that a change of a network does, as it is told before it is made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wgpy.mesh.encoding import JsonObject

MOST_NAMED: Final = 50
"""Nodes of one change that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Change:
    """`nodes` are those on which something changes, by name; `is_warning`: it may not be what is wanted."""

    text: str
    nodes: tuple[str, ...] = ()
    is_warning: bool = False

    def to_json(self) -> JsonObject:
        return {
            "text": self.text,
            "nodes": list(self.nodes[:MOST_NAMED]),
            "count": len(self.nodes),
            "warning": self.is_warning,
        }
