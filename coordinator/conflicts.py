"""Ranges behind gateways that get into each other's way, or into a node's own network. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from wgpy.addresses import Endpoint, IPAddress, Prefix, is_inside
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.forward import is_default
from wgpy.mesh.paths import PathKind, kind_of


@dataclass(frozen=True, slots=True)
class Conflict:
    """`sides` are the nodes between which it is, by name."""

    range: Prefix
    sides: tuple[str, ...]
    text: str

    def to_json(self) -> JsonObject:
        return {"range": str(self.range), "sides": list(self.sides), "text": self.text}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is, as it tells: `own` are its addresses in networks of its own, `seen` those that the
    internet knows it by.
    """

    name: str
    own: frozenset[IPAddress]
    seen: frozenset[IPAddress]

    @classmethod
    def of(cls, name: str, endpoints: Iterable[Endpoint]) -> Place:
        kinds = {each.address: kind_of(each) for each in endpoints}
        own, seen = (
            frozenset(address for address, kind in kinds.items() if kind is wanted)
            for wanted in (PathKind.LAN, PathKind.DIRECT)
        )
        return cls(name, own, seen)


def find_conflicts(gateways: Mapping[Prefix, Collection[str]], places: Mapping[str, Place]) -> list[Conflict]:
    """`gateways` are the ids of the nodes that forward a range, `places` all nodes by id.

    One range at several nodes is none: it is one place with several gateways.
    """
    ordered = sorted(
        (prefix for prefix in gateways if not is_default(prefix)),
        key=lambda prefix: (prefix.version, prefix.network_address.packed, prefix.prefixlen),
    )
    return [*_nested(ordered, gateways, places), *_at_home(ordered, gateways, places)]


def _nested(
    ordered: list[Prefix], gateways: Mapping[Prefix, Collection[str]], places: Mapping[str, Place]
) -> Iterator[Conflict]:
    """Ranges within others: two either nest or have nothing in common."""
    around: list[Prefix] = []
    for narrow in ordered:
        while around and not is_inside(narrow, around[-1]):
            around.pop()
        if around and not set(gateways[narrow]) <= set(gateways[around[-1]]):
            wide = around[-1]
            here, there = _names(gateways[narrow], places), _names(gateways[wide], places)
            text = (
                f"{narrow} at {', '.join(here)} lies in {wide} at {', '.join(there)}: "
                f"addresses that are in both are reached by {here[0]}"
            )
            yield Conflict(narrow, tuple(dict.fromkeys((*here, *there))), text)
        around.append(narrow)


def _at_home(
    ordered: list[Prefix], gateways: Mapping[Prefix, Collection[str]], places: Mapping[str, Place]
) -> Iterator[Conflict]:
    """Nodes that have such a network themselves, somewhere else than where the gateway is."""
    sizes = [(version, length) for (version, length), _ in groupby(sorted(map(_size, ordered)))]
    networks = {(*_size(prefix), int(prefix.network_address)): prefix for prefix in ordered}
    for node_id, place in places.items():
        for address in sorted(place.own, key=str):
            for version, length in sizes:
                if version != address.version:
                    continue  # a longer prefix of the other family is longer than the whole address
                shift = address.max_prefixlen - length
                found = networks.get((version, length, int(address) >> shift << shift))
                if found is None or node_id in gateways[found]:
                    continue
                others = [places[id_] for id_ in gateways[found] if id_ in places]
                if not others or any(place.seen & other.seen for other in others):
                    continue  # behind one router they are in one place
                names = tuple(other.name for other in others)
                text = (
                    f"{place.name} is {address} in a {found} of its own, which it keeps: it does not reach "
                    f"the one at {', '.join(names)}, unless that is shown under a virtual range"
                )
                yield Conflict(found, (*names, place.name), text)


def _size(prefix: Prefix) -> tuple[int, int]:
    return prefix.version, prefix.prefixlen


def _names(ids: Iterable[str], places: Mapping[str, Place]) -> list[str]:
    return sorted(places[id_].name for id_ in ids if id_ in places)
