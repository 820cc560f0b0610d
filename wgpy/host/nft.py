"""A table of nftables as a value, and the text that makes it, or makes it another. Pure.

The text is nft(8)'s, which applies it in one transaction: no packet ever sees half of a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Prefix, collapsed

_ELEMENTS_A_LINE: Final = 200


@dataclass(frozen=True, slots=True)
class NftSet:
    """A set, or with `is_map` a map. `elements` are nft's words for each, such as `10.0.0.0/24`, intervals
    that do not overlap; those of a map are `KEY : VALUE`.
    """

    name: str
    type: str
    elements: frozenset[str] = frozenset()
    is_map: bool = False

    @property
    def form(self) -> tuple[str, str, bool]:
        """What cannot be changed but by making it anew."""
        return self.name, self.type, self.is_map


def prefix_set(name: str, kind: str, prefixes: Iterable[Prefix]) -> NftSet:
    """Of prefixes of one family. Intervals of a set must not overlap: they are collapsed."""
    return NftSet(name, kind, frozenset(map(str, collapsed(prefixes))))


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain: `hook` follows `type`, such as `filter hook forward priority 0; policy accept;`."""

    name: str
    hook: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NftTable:
    """A table `inet NAME` that is all ours. `survives`: it stays when we are killed, until it is lifted."""

    name: str
    chains: tuple[Chain, ...]
    sets: tuple[NftSet, ...] = ()
    survives: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """All of it but the sets' elements."""
        return self.chains, tuple(each.form for each in self.sets)


def table_name(interface: str) -> str:
    """What our table for this interface is called."""
    return "wgpy-" + "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in interface)


def deletion(name: str) -> str:
    """Text after which there is no such table, whether there was one or not."""
    return f"table inet {name} {{}}\ndelete table inet {name}\n"


def creation(table: NftTable) -> str:
    """Text that puts the table there, in place of whatever had its name."""
    lines = [deletion(table.name) + f"table inet {table.name} {{"]
    for each in table.sets:
        lines.append(f"  {'map' if each.is_map else 'set'} {each.name} {{")
        lines.append(f"    type {each.type}; flags interval;\n  }}")
    for chain in table.chains:
        lines.append(f"  chain {chain.name} {{\n    type {chain.hook}")
        lines += [f"    {rule}" for rule in chain.rules]
        lines.append("  }")
    lines.append("}\n")
    added = (_elements("add", table.name, each.name, each.elements) for each in table.sets)
    return "\n".join(lines) + "".join(line for part in added for line in part)


def changes(present: NftTable | None, wanted: NftTable) -> str:
    """Text that turns `present` into `wanted`, "" when there is nothing to do. Where only elements differ,
    only those are touched.
    """
    if present is None or present.form != wanted.form:
        return creation(wanted)
    lines: list[str] = []
    for before, after in zip(present.sets, wanted.sets, strict=True):
        lines += _elements("delete", wanted.name, after.name, before.elements - after.elements)
        lines += _elements("add", wanted.name, after.name, after.elements - before.elements)
    return "".join(lines)


def _elements(verb: str, table: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    waiting = sorted(elements)
    for start in range(0, len(waiting), _ELEMENTS_A_LINE):
        some = waiting[start : start + _ELEMENTS_A_LINE]
        if verb == "delete":  # a map's element is found by its key
            some = [element.partition(" : ")[0] for element in some]
        yield f"{verb} element inet {table} {name} {{ {', '.join(some)} }}\n"
