"""External clients behind an ingress gateway: what the coordinator tells the gateways of a group, and what
they tell it (docs/wire.md §7).

A group has a WireGuard key of its own, which its gateways share: a client's file names that key and one fixed
endpoint, so that another gateway of the group can take its place. The first gateway makes the key and seals
it to the machine keys of the others; the coordinator carries it and cannot open it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.addresses import Endpoint, Prefix
from wgpy.errors import ConfigError
from wgpy.keys import KEY_SIZE, PublicKey
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, encode_b64u
from wgpy.mesh.sealing import OVERHEAD
from wgpy.mesh.signing import MachinePublicKey

MAX_CLIENTS: Final = 4096
"""Clients of one group."""
MAX_NAMED: Final = 500
"""Clients of one group that have a name in DNS: those that were made first."""
MAX_REACHED: Final = 64
"""Nodes, and ranges, that a client is given one by one."""
MAX_GATEWAYS: Final = 16
"""Gateways of one group."""
MAX_SIGHTINGS: Final = 256
"""Clients in one check-in."""
SEALED_KEY_SIZE: Final = KEY_SIZE + OVERHEAD


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a client may go: `everything` that the gateway itself reaches of the network and behind its
    gateways, or these nodes (ids) and ranges alone; and with `internet` wherever else the gateway's host can.
    """

    everything: bool = True
    nodes: tuple[str, ...] = ()
    ranges: tuple[Prefix, ...] = ()
    internet: bool = False

    def to_json(self) -> JsonObject:
        return {
            "everything": self.everything,
            "nodes": list(self.nodes),
            "ranges": [str(prefix) for prefix in self.ranges],
            "internet": self.internet,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        return cls(
            fields.boolean("everything"),
            fields.identifiers("nodes", MAX_REACHED),
            fields.prefixes("ranges"),
            not fields.is_null("internet") and fields.boolean("internet"),
        )


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may connect. `expires_in`: seconds from the answer on; None: it has no end."""

    id: str
    public_key: PublicKey
    addresses: tuple[Prefix, ...]
    reach: Reach
    expires_in: int | None = None

    def to_json(self) -> JsonObject:
        value: JsonObject = {
            "id": self.id,
            "public_key": str(self.public_key),
            "addresses": [str(prefix) for prefix in self.addresses],
            "reach": self.reach.to_json(),
        }
        return value if self.expires_in is None else value | {"expires_in": self.expires_in}

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        return cls(
            fields.identifier("id"),
            fields.wireguard_key("public_key"),
            fields.prefixes("addresses", hosts=True),
            Reach.from_json(fields.raw("reach"), fields.path("reach")),
            None if fields.is_null("expires_in") else fields.integer("expires_in"),
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """What a gateway's entry in the map says of its group: `ranges` are those in which the clients are,
    which are inside the network's; `version` goes up when the group or a client of it changes. `names` are
    clients with their addresses (/32, /128), for DNS.
    """

    version: int
    ranges: tuple[Prefix, ...]
    names: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict, hash=False)

    def to_json(self) -> JsonObject:
        value: JsonObject = {"version": self.version, "ranges": [str(prefix) for prefix in self.ranges]}
        if self.names:
            value["names"] = [
                {"name": name, "addresses": list(map(str, addresses))}
                for name, addresses in self.names.items()
            ]
        return value


def read_mark(extra: Mapping[str, object]) -> Mark | None:
    """That of a node's entry; None: it is no gateway of clients, or what stands there cannot be read."""
    if "ingress" not in extra:
        return None
    try:
        fields = Fields(extra["ingress"], "ingress")
        version, ranges = fields.integer("version"), fields.prefixes("ranges")
    except MalformedMessage:
        return None
    try:
        return Mark(version, ranges, _read_names(fields))
    except MalformedMessage:
        return Mark(version, ranges)  # names must not cost anybody the way to the clients


def _read_names(fields: Fields) -> Mapping[str, tuple[Prefix, ...]]:
    found = {}
    for item, path in fields.items("names", MAX_NAMED) if fields.has("names") else ():
        each = Fields(item, path)
        found[each.label("name")] = each.prefixes("addresses", hosts=True)
    return found


@dataclass(frozen=True, slots=True)
class Group:
    """`GET /v1/node/ingress`: all that a gateway has to know.

    `addresses` are the group's own (/32, /128), where names are answered if `dns` says so; `ranges` those of
    the clients. `public_key` None: nobody has made the key yet. `sealed` is the key, sealed to us; `wanting`
    are gateways that have none yet.
    """

    id: str
    name: str
    version: int
    listen_port: int
    addresses: tuple[Prefix, ...]
    ranges: tuple[Prefix, ...]
    dns: bool
    public_key: PublicKey | None
    sealed: bytes | None
    wanting: Mapping[str, MachinePublicKey]
    clients: tuple[Client, ...]

    def to_json(self) -> JsonObject:
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "listen_port": self.listen_port,
            "addresses": [str(prefix) for prefix in self.addresses],
            "ranges": [str(prefix) for prefix in self.ranges],
            "dns": self.dns,
            "public_key": None if self.public_key is None else str(self.public_key),
            "sealed": None if self.sealed is None else encode_b64u(self.sealed),
            "wanting": {node: str(key) for node, key in self.wanting.items()},
            "clients": [client.to_json() for client in self.clients],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value)
        wanting = _octets_by_node(fields, "wanting", KEY_SIZE)
        return cls(
            id=fields.identifier("id"),
            name=fields.label("name"),
            version=fields.integer("version"),
            listen_port=fields.integer("listen_port", 1, 65535),
            addresses=fields.prefixes("addresses", hosts=True),
            ranges=fields.prefixes("ranges"),
            dns=fields.boolean("dns"),
            public_key=None if fields.is_null("public_key") else fields.wireguard_key("public_key"),
            sealed=None if fields.is_null("sealed") else fields.octets("sealed", SEALED_KEY_SIZE),
            wanting={node: MachinePublicKey(key) for node, key in wanting.items()},
            clients=tuple(
                Client.from_json(item, path) for item, path in fields.items("clients", MAX_CLIENTS)
            ),
        )


def _octets_by_node(fields: Fields, name: str, size: int) -> dict[str, bytes]:
    """Of each gateway `size` octets, by its id. Raises MalformedMessage."""
    found = fields.fields(name)
    nodes = [node for node, _, _ in fields.members(name)]
    if len(nodes) > MAX_GATEWAYS:
        raise MalformedMessage(f"{name}: expected at most {MAX_GATEWAYS} nodes, got {len(nodes)}")
    return {node: found.octets(node, size) for node in nodes}


@dataclass(frozen=True, slots=True)
class KeyHandover:
    """`PUT /v1/node/ingress/key`: the group's key, sealed to gateways by their ids; only its first maker
    names a public key that was not there.
    """

    public_key: PublicKey
    sealed: Mapping[str, bytes]

    def to_json(self) -> JsonObject:
        sealed = {node: encode_b64u(octets) for node, octets in self.sealed.items()}
        return {"public_key": str(self.public_key), "sealed": sealed}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value)
        sealed = _octets_by_node(fields, "sealed", SEALED_KEY_SIZE)
        return cls(fields.wireguard_key("public_key"), sealed)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a gateway knows of a client. `handshake_age` in seconds; octets count since the gateway began."""

    client: str
    handshake_age: int
    endpoint: Endpoint | None
    rx_bytes: int
    tx_bytes: int

    def to_json(self) -> JsonObject:
        return {
            "client": self.client,
            "handshake_age": self.handshake_age,
            "endpoint": None if self.endpoint is None else str(self.endpoint),
            "rx_bytes": self.rx_bytes,
            "tx_bytes": self.tx_bytes,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        return cls(
            fields.identifier("client"),
            fields.integer("handshake_age"),
            None if fields.is_null("endpoint") else _read_endpoint(fields),
            fields.integer("rx_bytes"),
            fields.integer("tx_bytes"),
        )


def _read_endpoint(fields: Fields) -> Endpoint:
    try:
        return Endpoint.parse(fields.text("endpoint", 64))
    except ConfigError:
        text = f"{fields.path('endpoint')}: expected an endpoint such as 192.0.2.1:51820, got other text"
        raise MalformedMessage(text) from None


def read_sightings(fields: Fields, name: str) -> tuple[Sighting, ...]:
    """A list of them; missing: none. Raises MalformedMessage."""
    if fields.is_null(name):
        return ()
    return tuple(Sighting.from_json(item, path) for item, path in fields.items(name, MAX_SIGHTINGS))
