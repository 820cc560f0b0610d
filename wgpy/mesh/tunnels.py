"""What a node says of its tunnels, a part of its check-in (docs/wire.md §7): differences, few at a time.

The node's clock is never trusted: it tells ages, and the coordinator dates them by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.addresses import Endpoint
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage

PATHS: Final = ("direct", "lan", "relayed", "none")
"""How a peer is reached now; `none`: it is not."""
MAX_TUNNELS: Final = 64
"""Peers in one report: with all the longest texts still less than a body may have."""
MAX_REASON: Final = 160
"""Octets of ASCII."""
MAX_TRIED: Final = 5
"""Of one peer, endpoints of which is told what became of them."""
MAX_TRIED_TEXT: Final = 88
"""Octets of ASCII, of each."""
REPORT_INTERVAL: Final = 600
"""Seconds between reports of a node while nobody looks."""
WATCHED_INTERVAL: Final = 10
"""The same while somebody looks at a small network."""
_MAX_RTT: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One peer as the reporting node has it. `rx_bytes` it received from the peer, `tx_bytes` it sent."""

    path: str
    reason: str = ""
    """Why that path, or none; in words."""
    endpoint: Endpoint | None = None
    handshake_age: int | None = None
    """Seconds; None: there was none."""
    rtt_us: int | None = None
    """Microseconds; None: not known."""
    rx_bytes: int = 0
    tx_bytes: int = 0
    tried: tuple[str, ...] = ()
    """Where there is no direct path: the peer's endpoints, and what became of each, in words."""
    next_try: int | None = None
    """Then: seconds until they are tried again; None: when something changes."""

    def to_json(self) -> JsonObject:
        tried = {"tried": list(self.tried), "next_try": self.next_try} if self.tried else {}
        return {
            "path": self.path,
            "reason": self.reason or None,
            "endpoint": None if self.endpoint is None else str(self.endpoint),
            "handshake_age": self.handshake_age,
            "rtt_us": self.rtt_us,
            "rx_bytes": self.rx_bytes,
            "tx_bytes": self.tx_bytes,
            **tried,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        fields = Fields(value, where)
        path = fields.word("path")
        if path not in PATHS:
            raise MalformedMessage(f"{fields.path('path')}: expected one of {', '.join(PATHS)}, got another")
        return cls(
            path=path,
            reason="" if fields.is_null("reason") else fields.text("reason", MAX_REASON),
            endpoint=_endpoint(fields),
            handshake_age=None if fields.is_null("handshake_age") else fields.integer("handshake_age"),
            rtt_us=None if fields.is_null("rtt_us") else fields.integer("rtt_us", 0, _MAX_RTT),
            rx_bytes=fields.integer("rx_bytes"),
            tx_bytes=fields.integer("tx_bytes"),
            tried=_tried(fields),
            next_try=None if fields.is_null("next_try") else fields.integer("next_try"),
        )


def _tried(fields: Fields) -> tuple[str, ...]:
    if fields.is_null("tried"):
        return ()
    texts = fields.texts("tried", MAX_TRIED)
    if any(len(text) > MAX_TRIED_TEXT or not text.isascii() for text in texts):
        raise MalformedMessage(
            f"{fields.path('tried')}: expected texts of at most {MAX_TRIED_TEXT} octets, got a longer one"
        )
    return texts


def _endpoint(fields: Fields) -> Endpoint | None:
    if fields.is_null("endpoint"):
        return None
    text = fields.text("endpoint", 64)
    try:
        endpoint = Endpoint.parse(text)
    except ConfigError:
        endpoint = None
    if endpoint is None or str(endpoint) != text:
        raise MalformedMessage(
            f"{fields.path('endpoint')}: expected an endpoint such as 192.0.2.1:51820, got other text"
        )
    return endpoint


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """What changed since the report before; with `begin`, forget what was told before that."""

    begin: bool
    peers: Mapping[str, Tunnel] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        return {"begin": self.begin, "peers": {id_: tunnel.to_json() for id_, tunnel in self.peers.items()}}

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        fields = Fields(value, where)
        peers: dict[str, Tunnel] = {}
        for node_id, item, path in fields.members("peers"):
            if len(peers) == MAX_TUNNELS:
                raise MalformedMessage(f"{fields.path('peers')}: expected at most {MAX_TUNNELS}, got more")
            peers[node_id] = Tunnel.from_json(item, path)
        return cls(fields.boolean("begin"), peers)


@dataclass(frozen=True, slots=True)
class ReportTerms:
    """How often the coordinator wants to hear, in seconds, and whether it holds what was told before."""

    every: int
    known: bool

    def to_json(self) -> JsonObject:
        return {"every": self.every, "known": self.known}

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        fields = Fields(value, where)
        return cls(fields.integer("every", 1, 86400), fields.boolean("known"))
