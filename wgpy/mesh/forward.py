"""What a node forwards for others: ranges behind a gateway, as the coordinator gives them (docs/wire.md §7),
and what a node says it would (§6).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Self

from wgpy.addresses import Prefix
from wgpy.mesh.encoding import MAX_PREFIXES, Fields, JsonObject, MalformedMessage

MAX_REASON: Final = 200
"""Octets of a sentence on why a range is not forwarded."""


def is_default(prefix: Prefix) -> bool:
    """Whether it is all of IPv4 or IPv6: what an exit node forwards."""
    return prefix.prefixlen == 0


@dataclass(frozen=True, slots=True)
class Forward:
    """A range that a node was given to forward. `range` is what others route to it, `target` what lies
    behind it: the same, or for a virtual range the real one, mapped address for address.

    `nat`: the gateway's own address is the source on the far side. `interface` "": found by the route.
    `elected`: of several gateways for this range, this is the one.
    """

    range: Prefix
    target: Prefix
    nat: bool = True
    interface: str = ""
    elected: bool = True

    @property
    def is_virtual(self) -> bool:
        return self.range != self.target

    def to_json(self) -> JsonObject:
        return {
            "range": str(self.range),
            "target": str(self.target),
            "nat": self.nat,
            "interface": self.interface,
            "elected": self.elected,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        range_, target = read_prefix(fields, "range"), read_prefix(fields, "target")
        if (range_.version, range_.prefixlen) != (target.version, target.prefixlen):
            raise MalformedMessage(f"{where}: expected range and target of one size, got others")
        interface = fields.raw("interface")
        return cls(
            range_,
            target,
            fields.boolean("nat"),
            "" if interface == "" else fields.text("interface", 15),
            fields.boolean("elected"),
        )


def read_forwards(fields: Fields, name: str) -> tuple[Forward, ...]:
    """A list of them, each range once; missing: none. Raises MalformedMessage."""
    if fields.is_null(name):
        return ()
    found = [Forward.from_json(item, path) for item, path in fields.items(name, MAX_PREFIXES)]
    if len({each.range for each in found}) != len(found):
        raise MalformedMessage(f"{fields.path(name)}: expected each range once, got one twice")
    return tuple(found)


def read_prefix(fields: Fields, name: str) -> Prefix:
    """One prefix in canonical text. Raises MalformedMessage."""
    text = fields.text(name, 64)
    try:
        prefix = ipaddress.ip_network(text)
    except ValueError:
        prefix = None
    if prefix is None or str(prefix) != text:
        raise MalformedMessage(f"{fields.path(name)}: expected a prefix such as 10.1.0.0/24, got other text")
    return prefix


@dataclass(frozen=True, slots=True)
class Offer:
    """`PUT /v1/node/offer`: the ranges (as they are behind the node) that it would forward, and why it does
    not forward some of those that it was given.
    """

    ranges: tuple[Prefix, ...] = ()
    problems: tuple[tuple[Prefix, str], ...] = ()

    def to_json(self) -> JsonObject:
        problems = [{"range": str(prefix), "reason": reason} for prefix, reason in self.problems]
        return {"ranges": [str(prefix) for prefix in self.ranges], "problems": problems}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value)
        problems = []
        for item, path in fields.items("problems", MAX_PREFIXES):
            inner = Fields(item, path)
            problems.append((read_prefix(inner, "range"), inner.text("reason", MAX_REASON)))
        return cls(fields.prefixes("ranges"), tuple(problems))
