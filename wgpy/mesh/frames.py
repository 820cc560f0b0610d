"""Frames: how a map reaches a node, whole or as from → to (docs/wire.md §7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from wgpy.addresses import Endpoint
from wgpy.mesh.encoding import MAX_INTEGER, Fields, JsonObject, MalformedMessage, decode_json, encode_b64u
from wgpy.mesh.netmap import AnyNode, Map, Network, read_node
from wgpy.mesh.signing import SIGNATURE_SIZE, IdentityPublicKey, removed_input

MAX_FRAME_SIZE: Final = 4 * 1024 * 1024
"""Octets of JSON in one frame."""
MAX_NODES: Final = 65536
"""Nodes in one frame."""
KEEPALIVE_INTERVAL: Final = 15.0
"""Seconds between the keepalive frames of a stream."""
DEAD_STREAM_TIMEOUT: Final = 45.0
"""Seconds of silence after which a stream is dead."""


@dataclass(frozen=True, slots=True)
class Since:
    """Where a node stands: `EPOCH:REVISION` on the wire."""

    epoch: str
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises MalformedMessage."""
        epoch, separator, revision = text.partition(":")
        if separator and revision.isascii() and revision.isdigit() and len(revision) <= 16:
            fields = Fields({"epoch": epoch, "revision": int(revision)}, "since")
            return cls(fields.word("epoch"), fields.integer("revision"))
        raise MalformedMessage("since: expected EPOCH:REVISION, got other text")


@dataclass(frozen=True, slots=True)
class FullFrame:
    """The whole map at revision `to`."""

    epoch: str
    to: int
    hash: str
    map: Map

    def to_json(self) -> JsonObject:
        return {
            "kind": "full",
            "epoch": self.epoch,
            "to": self.to,
            "hash": self.hash,
            "map": self.map.to_json(),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        return cls(
            fields.word("epoch"), fields.integer("to"), _read_hash(fields), Map.from_json(fields.raw("map"))
        )


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """What turns the map at `from_` into the one at `to`. `hash` is that of the map after."""

    epoch: str
    from_: int
    to: int
    hash: str
    removed: tuple[str, ...] = ()
    nodes: tuple[AnyNode, ...] = ()
    network: Network | None = None
    self_node: AnyNode | None = None

    def to_json(self) -> JsonObject:
        value: JsonObject = {
            "kind": "delta",
            "epoch": self.epoch,
            "from": self.from_,
            "to": self.to,
            "hash": self.hash,
            "removed": list(self.removed),
            "nodes": [node.to_json() for node in self.nodes],
        }
        if self.network is not None:
            value["network"] = self.network.to_json()
        if self.self_node is not None:
            value["self"] = self.self_node.to_json()
        return value

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        start = fields.integer("from")
        return cls(
            epoch=fields.word("epoch"),
            from_=start,
            to=fields.integer("to", start, MAX_INTEGER),
            hash=_read_hash(fields),
            removed=fields.identifiers("removed", MAX_NODES),
            nodes=tuple(read_node(item, path) for item, path in fields.items("nodes", MAX_NODES)),
            network=Network.from_json(fields.raw("network")) if not fields.is_null("network") else None,
            self_node=read_node(fields.raw("self"), "self") if not fields.is_null("self") else None,
        )


@dataclass(frozen=True, slots=True)
class KeepaliveFrame:
    """The stream lives, and this is where its map stands."""

    epoch: str
    revision: int
    hash: str

    def to_json(self) -> JsonObject:
        return {"kind": "keepalive", "epoch": self.epoch, "revision": self.revision, "hash": self.hash}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        return cls(fields.word("epoch"), fields.integer("revision"), _read_hash(fields))


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a node was last seen, most likely endpoint first, and whether it holds a stream or checked in
    lately.
    """

    endpoints: tuple[Endpoint, ...]
    online: bool

    def to_json(self) -> JsonObject:
        return {"endpoints": [str(endpoint) for endpoint in self.endpoints], "online": self.online}

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        fields = Fields(value, where)
        return cls(fields.endpoints("endpoints"), fields.boolean("online"))


@dataclass(frozen=True, slots=True)
class PresenceFrame:
    """The fast lane. `complete`: of every peer, and what is not named is offline; else only what changed."""

    complete: bool
    nodes: Mapping[str, Presence]

    def to_json(self) -> JsonObject:
        nodes = {node_id: presence.to_json() for node_id, presence in self.nodes.items()}
        return {"kind": "presence", "complete": self.complete, "nodes": nodes}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        nodes = {node_id: Presence.from_json(item, path) for node_id, item, path in fields.members("nodes")}
        return cls(fields.boolean("complete"), nodes)


@dataclass(frozen=True, slots=True)
class RemovedFrame:
    """The coordinator's signed word that this node is no longer a member: the only thing that makes it
    forget.
    """

    network: str
    node: str
    signature: bytes

    def verify(self, identity: IdentityPublicKey) -> bool:
        return identity.verify(self.signature, removed_input(self.network, self.node))

    def to_json(self) -> JsonObject:
        return {
            "kind": "removed",
            "network": self.network,
            "node": self.node,
            "signature": encode_b64u(self.signature),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        signature = fields.octets("signature", SIGNATURE_SIZE)
        return cls(fields.identifier("network"), fields.identifier("node"), signature)


@dataclass(frozen=True, slots=True)
class ReportsFrame:
    """How often the node shall report on its tunnels, in seconds; it holds until the next."""

    every: int

    def to_json(self) -> JsonObject:
        return {"kind": "reports", "every": self.every}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        return cls(fields.integer("every", 1, 86400))


MapFrame = FullFrame | DeltaFrame | KeepaliveFrame | RemovedFrame
"""What a check-in answers with."""
Frame = MapFrame | PresenceFrame | ReportsFrame
"""What a line of a stream can be."""

_KINDS: Final[dict[str, type[Frame]]] = {
    "full": FullFrame,
    "delta": DeltaFrame,
    "keepalive": KeepaliveFrame,
    "presence": PresenceFrame,
    "removed": RemovedFrame,
    "reports": ReportsFrame,
}


def _read_hash(fields: Fields) -> str:
    fields.octets("hash", 32)
    return fields.text("hash")


def read_frame(value: object, where: str = "") -> Frame | None:
    """A frame from its JSON; None for a kind that this version does not know. Raises MalformedMessage."""
    fields = Fields(value, where)
    kind = _KINDS.get(fields.word("kind"))
    return None if kind is None else kind.from_fields(fields)


def decode_frame(line: bytes) -> Frame | None:
    """A frame from a line of a stream; None for a kind that this version does not know. Raises
    MalformedMessage.
    """
    return read_frame(decode_json(line, MAX_FRAME_SIZE))
