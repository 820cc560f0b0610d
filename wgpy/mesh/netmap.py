"""The map: the network, ourselves and our peers, as a coordinator sends them; and the hash by which both
sides know that they hold the same one (docs/wire.md §7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.addresses import Prefix
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, canonical_json, encode_b64u
from wgpy.mesh.forward import Forward, read_forwards
from wgpy.mesh.names import NetworkNames
from wgpy.mesh.record import Record
from wgpy.mesh.relays import Relay, read_relays

MIN_MTU: Final = 1280
"""What IPv6 asks of a link."""
MAX_MTU: Final = 9000

_HASH_MODULUS: Final = 1 << 256
_KNOWN_NETWORK: Final = frozenset(
    (
        "id",
        "name",
        "ranges",
        "mtu",
        "keepalive",
        "suffix",
        "coordinator",
        "listen_port",
        "relays",
    )
)
_KNOWN_NODE: Final = frozenset(("id", "name", "record", "forwards"))


@dataclass(frozen=True, slots=True)
class Network:
    """A mesh. `ranges` are where its addresses lie, `suffix` its DNS domain, `urls` where its coordinator is.

    `mtu` in octets, `keepalive` in seconds (0: none). `listen_port` is that of nodes without a choice of
    their own (0: any; then it is not on the wire). `extra` is what else is in it, which the hash covers: the
    admin's names (`names`), and what a newer version put in."""

    id: str
    name: str
    ranges: tuple[Prefix, ...]
    mtu: int
    keepalive: int
    suffix: str
    urls: tuple[str, ...]
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)
    listen_port: int = 0
    relays: tuple[Relay, ...] = ()
    """In the order in which they are tried."""

    def to_json(self) -> JsonObject:
        relays = {"relays": [relay.to_json() for relay in self.relays]} if self.relays else {}
        value = {
            **self.extra,
            **relays,
            "id": self.id,
            "name": self.name,
            "ranges": [str(prefix) for prefix in self.ranges],
            "mtu": self.mtu,
            "keepalive": self.keepalive,
            "suffix": self.suffix,
            "coordinator": {"urls": list(self.urls)},
        }
        return value | {"listen_port": self.listen_port} if self.listen_port else value

    @property
    def names(self) -> NetworkNames:
        """What an admin added to its names. Raises MalformedMessage: they must not cost a node its map."""
        value = self.extra.get("names")
        return NetworkNames() if value is None else NetworkNames.from_json(value, "network.names")

    @classmethod
    def from_json(cls, value: object, where: str = "network") -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        return cls(
            id=fields.identifier("id"),
            name=fields.label("name"),
            ranges=fields.prefixes("ranges"),
            mtu=fields.integer("mtu", MIN_MTU, MAX_MTU),
            keepalive=fields.integer("keepalive", 0, 65535),
            suffix=fields.text("suffix", 253),
            urls=fields.fields("coordinator").urls("urls"),
            extra=fields.extra(_KNOWN_NETWORK),
            listen_port=fields.integer("listen_port", 1, 65535) if fields.has("listen_port") else 0,
            relays=read_relays(fields),
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A member of the network: the name and the ranges to forward that the coordinator gave it, and what it
    signed of itself.
    """

    id: str
    name: str
    record: Record
    forwards: tuple[Forward, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)

    def to_json(self) -> JsonObject:
        value = {**self.extra, "id": self.id, "name": self.name, "record": self.record.to_json()}
        if self.forwards:
            value["forwards"] = [forward.to_json() for forward in self.forwards]
        return value

    @classmethod
    def from_json(cls, value: object, where: str = "node") -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        node = cls(
            id=fields.identifier("id"),
            name=fields.label("name"),
            record=Record.from_json(fields.raw("record"), fields.path("record")),
            forwards=read_forwards(fields, "forwards"),
            extra=fields.extra(_KNOWN_NODE),
        )
        if node.record.id != node.id:
            raise MalformedMessage(f"{where}: expected a record of this node, got another's")
        return node


@dataclass(frozen=True, slots=True)
class UnreadableNode:
    """A node in a map of which only the id could be read. It is kept as it came, since the hash covers it,
    and left out of everything else: one bad entry must not cost a node its whole map.
    """

    id: str
    value: Mapping[str, object] = field(hash=False)
    reason: str = field(compare=False)

    def to_json(self) -> JsonObject:
        return dict(self.value)


AnyNode = Node | UnreadableNode


def read_node(value: object, where: str) -> AnyNode:
    """A node of a map. Raises MalformedMessage only when it has no id to hold it by."""
    fields = Fields(value, where)
    node_id = fields.identifier("id")
    try:
        return Node.from_json(value, where)
    except MalformedMessage as error:
        return UnreadableNode(node_id, fields.extra(frozenset()), str(error))


def _entity_hash(role: str, value: JsonObject) -> int:
    return int.from_bytes(hashlib.sha256(canonical_json([role, value])).digest(), "big")


@dataclass(frozen=True, slots=True)
class Map:
    """What one node sees of its network at one revision. Values: edits make a new one.

    `sum` is the map hash as a number: the sum modulo 2²⁵⁶ of the hashes of its entities. So a coordinator
    gets the hash after an edit, for each of N nodes, by adding and subtracting, never by walking N maps of
    N entries. It tells differing maps apart; it is not a signature."""

    network: Network
    self_node: AnyNode | None
    peers: Mapping[str, AnyNode]
    sum: int

    @classmethod
    def of(cls, network: Network, self_node: AnyNode | None, peers: Mapping[str, AnyNode]) -> Self:
        total = network_hash(network) + (0 if self_node is None else self_hash(self_node))
        total += sum(peer_hash(node) for node in peers.values())
        return cls(network, self_node, peers, total % _HASH_MODULUS)

    def edited(
        self,
        *,
        network: Network | None = None,
        self_node: AnyNode | None = None,
        removed: frozenset[str] = frozenset(),
        nodes: Mapping[str, AnyNode] | None = None,
    ) -> Map:
        """A map with some entities changed; its hash costs as many SHA-256 as there are changes.

        None: as it is. Ids in `removed` that are not there are passed over.
        """
        total = self.sum
        if network is not None:
            total += network_hash(network) - network_hash(self.network)
        if self_node is not None:
            total += self_hash(self_node) - (0 if self.self_node is None else self_hash(self.self_node))
        peers = dict(self.peers)
        for node_id in removed:
            if (gone := peers.pop(node_id, None)) is not None:
                total -= peer_hash(gone)
        for node_id, node in (nodes or {}).items():
            if (before := peers.get(node_id)) is not None:
                total -= peer_hash(before)
            peers[node_id] = node
            total += peer_hash(node)
        return Map(network or self.network, self_node or self.self_node, peers, total % _HASH_MODULUS)

    @property
    def hash(self) -> str:
        """The map hash as it is on the wire."""
        return encode_map_hash(self.sum)

    def to_json(self) -> JsonObject:
        return {
            "network": self.network.to_json(),
            "self": None if self.self_node is None else self.self_node.to_json(),
            "peers": {node_id: node.to_json() for node_id, node in self.peers.items()},
        }

    @classmethod
    def from_json(cls, value: object, where: str = "map") -> Self:
        """Raises MalformedMessage. Entries of `peers` that cannot be read become UnreadableNode."""
        fields = Fields(value, where)
        peers = {}
        for node_id, item, path in fields.members("peers"):
            node = read_node(item, path)
            if node.id != node_id:
                raise MalformedMessage(f"{path}: expected the node of this id, got another")
            peers[node_id] = node
        self_node = None if fields.is_null("self") else read_node(fields.raw("self"), fields.path("self"))
        network = Network.from_json(fields.raw("network"), fields.path("network"))
        return cls.of(network, self_node, peers)


def network_hash(network: Network) -> int:
    """A network's share of `Map.sum`."""
    return _entity_hash("network", network.to_json())


def self_hash(node: AnyNode) -> int:
    """A node's share of `Map.sum` of its own map."""
    return _entity_hash("self", node.to_json())


def peer_hash(node: AnyNode) -> int:
    """A node's share of `Map.sum` of every map in which it is a peer."""
    return _entity_hash("peer", node.to_json())


def encode_map_hash(total: int) -> str:
    """The map hash on the wire, of a sum of shares: 32 octets big-endian in base64url."""
    return encode_b64u((total % _HASH_MODULUS).to_bytes(32, "big"))
