"""What the responder knows: names and addresses of one network, and who knows the rest. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from wgpy.addresses import IPAddress, Prefix, is_inside
from wgpy.agent.dns.message import ANY_CLASS, IN, Answer, Code, Name, Query, Type, encode_name, encode_reply
from wgpy.mesh.names import DomainServers, NameRecord

TTL: Final = 30
"""Seconds that others may keep a name of the mesh."""
NEGATIVE_TTL: Final = 5
"""Seconds that others may keep that there is no such name: it may join any moment."""
_MAX_HOPS: Final = 16
_MAX_REVERSE_BITS: Final = 6
_NOBODY: Final[Mapping[str, Sequence[IPAddress]]] = MappingProxyType({})


def split_name(text: str) -> Name:
    """`alice.home.internal` as labels."""
    return tuple(text.lower().rstrip(".").split("."))


def reverse_name(address: IPAddress) -> Name:
    """Where an address's own name is asked for: `2.0.77.10.in-addr.arpa`."""
    return split_name(address.reverse_pointer)


def reverse_domains(prefix: Prefix) -> list[Name]:
    """The domains that hold the reverse names of a prefix and nothing else: one, or for a prefix that ends
    inside of a label several; none, when they would be too many.
    """
    bits = 8 if prefix.version == 4 else 4
    whole = max(bits, -(-prefix.prefixlen // bits) * bits)
    if whole - prefix.prefixlen > _MAX_REVERSE_BITS:
        return []
    labels = prefix.max_prefixlen // bits
    return [
        reverse_name(subnet.network_address)[labels - whole // bits :]
        for subnet in prefix.subnets(new_prefix=whole)
    ]


def reversed_prefix(name: Name) -> Prefix | None:
    """The prefix of which `name` is the reverse domain; None for any other name."""
    labels = name[:-2][::-1]
    try:
        if name[-2:] == ("in-addr", "arpa") and 1 <= len(labels) <= 4:
            if not all(label.isascii() and label.isdigit() for label in labels):
                return None
            address = bytes(map(int, labels)).ljust(4, b"\0")
            return ipaddress.IPv4Network((address, 8 * len(labels)))
        if name[-2:] == ("ip6", "arpa") and 1 <= len(labels) <= 32:
            if not all(len(label) == 1 for label in labels):
                return None
            address = bytes.fromhex("".join(labels).ljust(32, "0"))
            return ipaddress.IPv6Network((address, 4 * len(labels)))
    except ValueError:
        pass
    return None


@dataclass(frozen=True, slots=True)
class Zone:
    """Names under `suffix`, reverse names of `ranges`, and `domains` that other servers know.

    Build it with `of`. `forward` has every name that exists (also those that only have names below them),
    `aliases` those that lead on, `reverse` the name of each address; `hidden` are left to others.
    """

    suffix: Name
    ranges: tuple[Prefix, ...] = ()
    domains: Mapping[Name, tuple[IPAddress, ...]] = field(default_factory=dict)
    forward: Mapping[Name, tuple[IPAddress, ...]] = field(default_factory=dict)
    aliases: Mapping[Name, Name] = field(default_factory=dict)
    reverse: Mapping[Name, Name] = field(default_factory=dict)
    hidden: frozenset[Name] = frozenset()

    @classmethod
    def of(
        cls,
        suffix: str,
        ranges: Iterable[Prefix],
        nodes: Mapping[str, Sequence[IPAddress]],
        *,
        records: Iterable[NameRecord] = (),
        clients: Mapping[str, Sequence[IPAddress]] = _NOBODY,
        domains: Iterable[DomainServers] = (),
        never: Iterable[str] = (),
    ) -> Self:
        """`nodes` are name → addresses, as are external `clients`; a node's name goes before a record of the
        same name, and that before a client's. `never` are names that are not answered here, whoever lists
        them: the coordinator's own.
        """
        end = split_name(suffix)
        forward: dict[Name, tuple[IPAddress, ...]] = {end: ()}
        aliases: dict[Name, Name] = {}
        reverse: dict[Name, Name] = {}
        hidden = frozenset(map(split_name, never))
        taken = {(name, *end) for name in nodes} | hidden
        for name, addresses in nodes.items():
            full = (name, *end)
            if full not in hidden:
                forward[full] = tuple(addresses)
                reverse |= {reverse_name(address): full for address in addresses}
        for record in records:
            full = (*split_name(record.name), *end)
            if full in taken:
                continue
            if record.address is None:
                aliases[full] = (*split_name(record.target), *end)
            else:
                forward[full] = (*forward.get(full, ()), record.address)
                reverse.setdefault(reverse_name(record.address), full)
        for name, addresses in clients.items():
            full = (name, *end)
            if full not in taken and full not in forward and full not in aliases:
                forward[full] = tuple(addresses)
                reverse = {reverse_name(address): full for address in addresses} | reverse
        for full in [*forward, *aliases]:
            for start in range(1, len(full) - len(end)):
                forward.setdefault(full[start:], ())
        served = {split_name(each.domain): each.servers for each in domains}
        return cls(end, tuple(ranges), served, forward, aliases, reverse, hidden)

    def routing_domains(self) -> list[str]:
        """The domains that the host's resolver should ask us for, reverse ones too."""
        names = [self.suffix, *(name for prefix in self.ranges for name in reverse_domains(prefix))]
        return [".".join(name) for name in (*names, *self.domains)]

    def servers_for(self, name: Name) -> tuple[IPAddress, ...] | None:
        """The name servers of the longest listed domain that `name` lies in; None: no such domain."""
        for start in range(len(name) + 1):
            if (servers := self.domains.get(name[start:])) is not None:
                return servers
        return None

    def answer(self, query: Query, limit: int) -> bytes | None:
        """The reply of at most `limit` octets; None when the name is not for us to say."""
        if query.class_ not in (IN, ANY_CLASS) or query.name in self.hidden:
            return None
        if _lies_in(query.name, self.suffix):
            return self._answer_forward(query, limit)
        if query.name in self.reverse or self._owns_reverse(query.name):
            return self._answer_reverse(query, limit)
        return None

    def _answer_forward(self, query: Query, limit: int) -> bytes:
        name, answers = query.name, list[Answer]()
        for _ in range(_MAX_HOPS):
            if (target := self.aliases.get(name)) is None:
                break
            owner = None if name == query.name else name
            answers.append(Answer(Type.CNAME, encode_name(target), TTL, owner))
            name = target
        if query.type == Type.CNAME and answers:
            return encode_reply(query, answers=answers[:1], limit=limit)
        addresses = self.forward.get(name)
        owner = None if name == query.name else name
        for address in addresses or ():
            kind = Type.A if address.version == 4 else Type.AAAA
            if query.type in (kind, Type.ANY):
                answers.append(Answer(kind, address.packed, TTL, owner))
        if addresses is None and not answers:
            return self._nothing(query, Code.NO_SUCH_NAME, limit)
        if not answers:
            return self._nothing(query, Code.NO_ERROR, limit)
        return encode_reply(query, answers=answers, limit=limit)

    def _owns_reverse(self, name: Name) -> bool:
        asked = reversed_prefix(name)
        return asked is not None and any(is_inside(asked, prefix) for prefix in self.ranges)

    def _answer_reverse(self, query: Query, limit: int) -> bytes:
        target = self.reverse.get(query.name)
        if target is not None and query.type in (Type.PTR, Type.ANY):
            return encode_reply(query, answers=[Answer(Type.PTR, encode_name(target), TTL)], limit=limit)
        prefix = reversed_prefix(query.name)
        is_host = prefix is not None and prefix.prefixlen == prefix.max_prefixlen
        gone = is_host and target is None
        return self._nothing(query, Code.NO_SUCH_NAME if gone else Code.NO_ERROR, limit)

    def _nothing(self, query: Query, code: Code, limit: int) -> bytes:
        zone = self.suffix if _lies_in(query.name, self.suffix) else query.name
        times = struct.pack("!IIIII", 1, 3600, 600, 86400, NEGATIVE_TTL)
        data = encode_name(self.suffix) + encode_name(("nobody", *self.suffix)) + times
        return encode_reply(query, code, authority=Answer(Type.SOA, data, NEGATIVE_TTL, zone), limit=limit)


def _lies_in(name: Name, domain: Name) -> bool:
    return name[-len(domain) :] == domain
