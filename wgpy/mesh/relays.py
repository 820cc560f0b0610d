"""Relays as maps name them, and what is asked of a coordinator about them (docs/relay.md §1, §2, §6)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.keys import KEY_SIZE
from wgpy.mesh.encoding import (
    Fields,
    JsonObject,
    MalformedMessage,
    encode_b64u,
    is_coordinator_url,
)
from wgpy.mesh.relay_ticket import TICKET_SIZE, Ticket
from wgpy.mesh.signing import SIGNATURE_SIZE, RelayPublicKey

MAX_RELAYS: Final = 8
"""Of one coordinator. Every node has a session at each."""
MAX_HOSTS: Final = 4
"""Places of one relay."""
MAX_REMOVED: Final = 10_000
"""Removed nodes in one answer."""
CHECKIN_WAIT: Final = 10.0
"""Seconds for which a coordinator holds a relay's question open when there is no news."""

_KNOWN: Final = frozenset(("id", "name", "key", "hosts", "url"))
_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]):([1-9][0-9]{0,4})"
)


def is_relay_host(text: str) -> bool:
    """HOST:PORT, the host a name, an IPv4 address or an IPv6 address in brackets; at most 255 octets."""
    match = _HOST.fullmatch(text)
    return match is not None and len(text) <= 255 and int(match[1]) <= 65535


@dataclass(frozen=True, slots=True)
class Relay:
    """`hosts` are where it listens on UDP, `url` where it takes the same over TLS, if it does. `extra` is
    what a newer version put in: the map hash covers it.
    """

    id: str
    name: str
    key: RelayPublicKey
    hosts: tuple[str, ...]
    url: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)

    def to_json(self) -> JsonObject:
        return {
            **self.extra,
            "id": self.id,
            "name": self.name,
            "key": str(self.key),
            "hosts": list(self.hosts),
            "url": self.url,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        key = RelayPublicKey(fields.octets("key", KEY_SIZE))
        hosts = fields.texts("hosts", MAX_HOSTS)
        url = None if fields.is_null("url") else fields.text("url")
        if not hosts or not all(map(is_relay_host, hosts)):
            raise MalformedMessage(f"{where}.hosts: expected HOST:PORT, 1 to {MAX_HOSTS} of it, got others")
        if url is not None and not is_coordinator_url(url):
            raise MalformedMessage(f"{where}.url: expected https://HOST[:PORT], got other text")
        if fields.identifier("id") != key.id:
            raise MalformedMessage(f"{where}.id: expected that of its key, got another")
        return cls(key.id, fields.label("name"), key, hosts, url, fields.extra(_KNOWN))


def read_relays(fields: Fields) -> tuple[Relay, ...]:
    """The list of a network; () where there is none. Raises MalformedMessage."""
    if fields.is_null("relays"):
        return ()
    return tuple(Relay.from_json(item, path) for item, path in fields.items("relays", MAX_RELAYS))


@dataclass(frozen=True, slots=True)
class RelayTickets:
    """The answer to `POST /v1/relay/tickets`: one for each relay of the map."""

    tickets: tuple[Ticket, ...]

    def to_json(self) -> JsonObject:
        return {"tickets": [encode_b64u(ticket.encode()) for ticket in self.tickets]}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        octets = fields.octets_list("tickets", TICKET_SIZE, MAX_RELAYS)
        return cls(tuple(ticket for each in octets if (ticket := Ticket.parse_untrusted(each)) is not None))


@dataclass(frozen=True, slots=True)
class RelayCheckin:
    """`POST /v1/relay/checkin`: a relay asks who was removed after `since`, milliseconds of Unix time by the
    coordinator's clock, 0 for all, and who is kept out, if those are others than `kept_out`, a digest of who
    it knows to be (None: it is of an older version, and does not want to know). `sessions` is how many it
    has, `fights` nodes at several addresses.
    """

    relay: str
    challenge: bytes
    signature: bytes
    since: int
    sessions: int = 0
    fights: tuple[str, ...] = ()
    is_draining: bool = False
    kept_out: str | None = None

    def to_json(self) -> JsonObject:
        return {
            "relay": self.relay,
            "challenge": encode_b64u(self.challenge),
            "signature": encode_b64u(self.signature),
            "since": self.since,
            "sessions": self.sessions,
            "fights": list(self.fights),
            "draining": self.is_draining,
            "kept_out": self.kept_out,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            relay=fields.identifier("relay"),
            challenge=fields.octets("challenge", limit=256),
            signature=fields.octets("signature", SIGNATURE_SIZE),
            since=fields.integer("since"),
            sessions=fields.integer("sessions"),
            fights=fields.identifiers("fights", 1000),
            is_draining=fields.boolean("draining"),
            kept_out=None if fields.is_null("kept_out") else fields.text("kept_out", 64),
        )


@dataclass(frozen=True, slots=True)
class RelayNews:
    """The answer: pairs of network and node, and the `since` of the next question. `removed` are those since
    the last one, `kept_out` all that are disabled or over now; None: the coordinator did not say.
    """

    removed: tuple[tuple[str, str], ...]
    until: int
    kept_out: tuple[tuple[str, str], ...] | None = None

    def to_json(self) -> JsonObject:
        kept_out = {} if self.kept_out is None else {"kept_out": _join(self.kept_out)}
        return {"removed": _join(self.removed), "until": self.until, **kept_out}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        kept_out = None if fields.is_null("kept_out") else _read_pairs(fields, "kept_out")
        return cls(_read_pairs(fields, "removed"), fields.integer("until"), kept_out)


def digest_of(nodes: Iterable[tuple[str, str]]) -> str:
    """Of pairs of network and node, in whatever order, hexadecimal."""
    return hashlib.sha256("".join(sorted(_join(nodes))).encode()).hexdigest()


def _join(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{network}{node}" for network, node in pairs]


def _read_pairs(fields: Fields, name: str) -> tuple[tuple[str, str], ...]:
    texts = fields.texts(name, MAX_REMOVED)
    if not all(re.fullmatch("[0-9a-f]{64}", text) for text in texts):
        raise MalformedMessage(f"{name}: expected ids of network and node, got other text")
    return tuple((text[:32], text[32:]) for text in texts)
