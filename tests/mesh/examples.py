"""Nodes, networks and maps for tests, made from small numbers so that a failure can be read and repeated."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from wgpy.keys import PrivateKey
from wgpy.mesh.netmap import Map, Network, Node
from wgpy.mesh.record import sign_record
from wgpy.mesh.signing import IdentityKey, MachineKey

NETWORK_ID = "0123456789abcdef0123456789abcdef"


def seed(what: str, number: int = 0) -> bytes:
    """32 octets that depend on nothing but the arguments."""
    return hashlib.sha256(f"{what} {number}".encode()).digest()


def machine_key(number: int) -> MachineKey:
    return MachineKey(seed("machine", number))


def wireguard_key(number: int) -> PrivateKey:
    return PrivateKey(seed("wireguard", number))


def identity_key() -> IdentityKey:
    return IdentityKey(seed("identity"))


def node_id(number: int) -> str:
    return seed("node", number)[:16].hex()


def make_network(
    name: str = "home", ranges: Iterable[str] = ("10.1.0.0/16", "fd12:3456:789a::/64")
) -> Network:
    prefixes = tuple(ipaddress.ip_network(text) for text in ranges)
    return Network(NETWORK_ID, name, prefixes, 1380, 20, f"{name}.internal", ("https://192.0.2.1:8443",))


def make_node(
    number: int, *, seq: int = 1, name: str | None = None, addresses: Iterable[str] | None = None
) -> Node:
    given = addresses or (f"10.1.{number // 256}.{number % 256}/32", f"fd12:3456:789a::{number:x}/128")
    record = sign_record(
        machine_key(number),
        wireguard_key(number).public_key(),
        network=NETWORK_ID,
        node=node_id(number),
        addresses=tuple(ipaddress.ip_network(text) for text in given),
        seq=seq,
    )
    return Node(node_id(number), name or f"node-{number}", record)


def make_map(
    peers: Iterable[Node] = (), self_node: Node | None = None, network: Network | None = None
) -> Map:
    return Map.of(network or make_network(), self_node, {node.id: node for node in peers})
