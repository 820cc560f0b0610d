"""Which of several gateways a range is routed to: the one that is elected, and another while that one is not
heard. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from wgpy.addresses import Prefix
from wgpy.mesh.netmap import Map, Node

RETURN_AFTER: Final = 60.0
"""Seconds for which the elected gateway has to be fit before we go back to it from another one."""


class GatewayChoice:
    """Remembers what was chosen, so that a gateway that comes and goes is not followed at once."""

    def __init__(self) -> None:
        self._chosen: dict[Prefix, str] = {}
        self._elected: dict[Prefix, str] = {}
        self._fit_since: dict[Prefix, float] = {}

    @property
    def chosen(self) -> dict[Prefix, str]:
        """The last choice."""
        return dict(self._chosen)

    def contested(self, netmap: Map) -> dict[Prefix, list[str]]:
        """The ranges that several nodes forward, with their ids."""
        return {range_: ids for range_, ids in _candidates(netmap).items() if len(ids) > 1}

    def choose(self, netmap: Map, is_dead: Callable[[str], bool], now: float) -> dict[Prefix, str]:
        """Each range with the id of its gateway. Exit nodes are no gateways: they are chosen by name."""
        candidates = _candidates(netmap)
        for memory in (self._chosen, self._elected, self._fit_since):
            for gone in memory.keys() - candidates.keys():
                del memory[gone]
        for range_, ids in candidates.items():
            self._chosen[range_] = self._choose_one(range_, ids, is_dead, now)
        return dict(self._chosen)

    def _choose_one(self, range_: Prefix, ids: list[str], is_dead: Callable[[str], bool], now: float) -> str:
        """`ids` begins with the elected one."""
        elected, before = ids[0], self._chosen.get(range_)
        is_new = self._elected.get(range_) != elected
        self._elected[range_] = elected
        if is_dead(elected):
            self._fit_since.pop(range_, None)
            if before in ids and not is_dead(before):
                return before
            return next((each for each in ids if not is_dead(each)), before if before in ids else elected)
        since = self._fit_since.setdefault(range_, now)
        if is_new or before not in ids or is_dead(before) or now - since >= RETURN_AFTER:
            return elected
        return before


def _candidates(netmap: Map) -> dict[Prefix, list[str]]:
    """The nodes that forward a range, which an admin and they themselves have said; the elected one first,
    then by id.
    """
    found: dict[Prefix, list[tuple[bool, str]]] = {}
    for node_id, node in netmap.peers.items():
        if isinstance(node, Node) and node.forwards:
            signed = frozenset(node.record.ranges)
            for forward in node.forwards:
                if forward.range in signed and forward.range.prefixlen:
                    found.setdefault(forward.range, []).append((not forward.elected, node_id))
    return {range_: [node_id for _, node_id in sorted(each)] for range_, each in found.items()}


def exit_nodes(netmap: Map) -> dict[str, tuple[Prefix, ...]]:
    """The nodes by which all else may leave, by id, with what of 0.0.0.0/0 and ::/0 each forwards."""
    return {
        node_id: ranges
        for node_id, node in netmap.peers.items()
        if isinstance(node, Node) and (ranges := tuple(_default_routes(node)))
    }


def _default_routes(node: Node) -> Iterable[Prefix]:
    signed = frozenset(node.record.ranges)
    return (each.range for each in node.forwards if not each.range.prefixlen and each.range in signed)


def exit_problem(netmap: Map, wanted: str) -> list[str]:
    """Why all else cannot leave by the node of that name or id, in a sentence; none: it can, or need not."""
    exits = exit_nodes(netmap)
    names = [node.name for node_id in exits if isinstance(node := netmap.peers[node_id], Node)]
    if not wanted or wanted in exits or wanted in names:
        return []
    there = ", ".join(sorted(names)) or "none"
    return [f"{wanted} is no exit node of this network (there is: {there}): what would leave by it is lost"]
