"""Who sees whom. Pure, and symmetric: visible(a, b) == visible(b, a), or a tunnel would have one end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.netmap import Member


def visible(a: Member, b: Member) -> bool:
    """Whether two nodes of one network are in each other's maps: all that have signed a record are, so far.

    `NetworkView` counts on that to know each node's map hash without walking its peers.
    """
    return a.id != b.id and a.record is not None and b.record is not None
