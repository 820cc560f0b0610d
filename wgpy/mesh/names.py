"""What an admin adds to a network's names: records of their own, and name servers for single domains.

The nodes' own names (`NODE.SUFFIX`) are not listed here: they follow from the map.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, is_label

R = TypeVar("R")

MAX_RECORDS: Final = 500
"""Records of one network."""
MAX_DOMAINS: Final = 64
"""Domains of one network that have name servers of their own."""
MAX_SERVERS: Final = 4
"""Name servers of one domain."""
MAX_DOMAIN: Final = 253
"""Octets in a domain's name, without the root's dot."""

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
"""Wider than a host's label: what others run has names such as `_dmarc`."""


def parse_domain(text: str) -> str:
    """A domain's name in lower case, without a dot at the end. Raises ConfigError."""
    name = text.lower().removesuffix(".")
    if len(name) > MAX_DOMAIN or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ConfigError(f"expected a domain such as corp.example; got {text[:64]!r}")
    return name


@dataclass(frozen=True, slots=True)
class NameRecord:
    """`name` (one or more labels, without the network's suffix) is an address, or another name of the
    network (`target`, without the suffix too).
    """

    name: str
    address: IPAddress | None = None
    target: str = ""

    @property
    def value(self) -> str:
        return self.target if self.address is None else str(self.address)

    @classmethod
    def parse(cls, name: str, value: str) -> Self:
        """Raises ConfigError."""
        labels = name.lower().split(".")
        if len(name) > 190 or not all(map(is_label, labels)):
            raise ConfigError(
                f"a record's name has labels of a-z, 0-9 and inner hyphens, and no suffix, such as nas; "
                f"got {name[:64]!r}"
            )
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            address = None
        if address is not None:
            if getattr(address, "scope_id", None) or address.is_multicast or address.is_unspecified:
                raise ConfigError(f"a record's address is one host's, without a zone; got {value!r}")
            return cls(name.lower(), address)
        target = value.lower()
        labels = target.split(".")
        if len(target) > 190 or not all(map(is_label, labels)) or labels[-1].isdigit():
            raise ConfigError(
                f"a record leads to an address or to another name of the network; got {value[:64]!r}"
            )
        return cls(name.lower(), target=target)


@dataclass(frozen=True, slots=True)
class DomainServers:
    """The name servers (addresses, port 53) that know `domain` and all below it."""

    domain: str
    servers: tuple[IPAddress, ...]

    @classmethod
    def parse(cls, domain: str, servers: Iterable[str]) -> Self:
        """Raises ConfigError."""
        found: dict[IPAddress, None] = {}
        for text in servers:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise ConfigError(f"a name server is an IP address; got {text[:64]!r}") from None
            if getattr(address, "scope_id", None) or address.is_multicast or address.is_unspecified:
                raise ConfigError(f"a name server is one host's address, without a zone; got {text!r}")
            found[address] = None
        if not 1 <= len(found) <= MAX_SERVERS:
            raise ConfigError(f"a domain has 1 to {MAX_SERVERS} name servers; got {len(found)}")
        return cls(parse_domain(domain), tuple(found))


@dataclass(frozen=True, slots=True)
class NetworkNames:
    """All of it, as it is in the map. A name may have several records, unless one of them leads on."""

    records: tuple[NameRecord, ...] = ()
    domains: tuple[DomainServers, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.records or self.domains)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if len(self.records) > MAX_RECORDS:
            raise ConfigError(f"a network has at most {MAX_RECORDS} records; got {len(self.records)}")
        if len(self.domains) > MAX_DOMAINS:
            raise ConfigError(
                f"a network has name servers for at most {MAX_DOMAINS} domains; got {len(self.domains)}"
            )
        if len(set(self.records)) < len(self.records):
            raise ConfigError("each record is there once")
        if len({each.domain for each in self.domains}) < len(self.domains):
            raise ConfigError("each domain is there once, with all of its name servers")
        aliases = {record.name for record in self.records if record.target}
        for name in aliases:
            if sum(record.name == name for record in self.records) > 1:
                raise ConfigError(f"{name} leads to another name, so it has no other record")
        if loop := next((name for name in sorted(aliases) if self._turns(name)), None):
            raise ConfigError(f"{loop} leads back to itself")

    def _turns(self, name: str) -> bool:
        targets = {record.name: record.target for record in self.records if record.target}
        seen = set()
        while name in targets:
            if name in seen:
                return True
            seen.add(name)
            name = targets[name]
        return False

    def to_json(self) -> JsonObject:
        return {
            "records": [{"name": record.name, "value": record.value} for record in self.records],
            "domains": [
                {"domain": each.domain, "servers": list(map(str, each.servers))} for each in self.domains
            ],
        }

    @classmethod
    def from_json(cls, value: object, where: str = "names") -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        records, domains = [], []
        for item, path in fields.items("records", MAX_RECORDS):
            record = Fields(item, path)
            records.append(_checked(NameRecord.parse, path, record.text("name"), record.text("value")))
        for item, path in fields.items("domains", MAX_DOMAINS):
            each = Fields(item, path)
            servers = each.texts("servers", MAX_SERVERS)
            domains.append(_checked(DomainServers.parse, path, each.text("domain"), servers))
        return _checked(cls, where, tuple(records), tuple(domains))


def _checked(make: Callable[..., R], where: str, *args: Any) -> R:
    try:
        return make(*args)
    except ConfigError:
        # Not its text, which repeats what came.
        raise MalformedMessage(f"{where}: expected names as docs/names.md has them, got others") from None
