"""Nodes: joining, signing a record, leaving or being removed."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from coordinator.addresses import REST_AGE, RandomSource, choose_host_number, host_address
from coordinator.errors import Refusal
from coordinator.names import unique_label
from coordinator.store.log import Kind, lock_network, record_change
from coordinator.store.tables import addresses, endpoints, leases, networks, nodes, removed_nodes
from coordinator.store.tokens import find_token, spend_token
from wgpy.addresses import Prefix, host_prefix
from wgpy.keys import PublicKey
from wgpy.mesh.encoding import canonical_json
from wgpy.mesh.record import Record
from wgpy.mesh.signing import BearerSecret, MachinePublicKey

TOMBSTONE_AGE: Final = 90 * 86400.0
"""Seconds for which a removed node can still learn that it was removed."""

_IN_USE: Final = "this WireGuard key belongs to another node of this coordinator: join with a fresh one"
_OTHER_KEY: Final = "this machine has joined with another WireGuard key: keep that one, or use a new token"


@dataclass(frozen=True, slots=True)
class JoinWish:
    """A join whose signature and proof have been checked."""

    secret: BearerSecret
    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's row. `record` is None until it has signed one."""

    id: str
    network_id: str
    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    addresses: tuple[Prefix, ...]
    key_epoch: int
    record: Record | None
    joined_at: float


_COLUMNS: Final = (
    nodes.c.id,
    nodes.c.network_id,
    nodes.c.name,
    nodes.c.machine_key,
    nodes.c.wireguard_key,
    nodes.c.addresses,
    nodes.c.key_epoch,
    nodes.c.record,
    nodes.c.joined_at,
)


def _node_row(row: Any) -> NodeRow:
    return NodeRow(
        id=row.id,
        network_id=row.network_id,
        name=row.name,
        machine_key=MachinePublicKey(row.machine_key),
        wireguard_key=PublicKey(row.wireguard_key),
        addresses=tuple(ipaddress.ip_network(text) for text in row.addresses),
        key_epoch=row.key_epoch,
        record=read_record(row.record),
        joined_at=row.joined_at,
    )


def read_record(text: str | None) -> Record | None:
    """A record as it was stored, verified when it came."""
    return None if text is None else Record.from_json(json.loads(text))


def join(connection: Connection, wish: JoinWish, rng: RandomSource, now: float) -> NodeRow:
    """Make the node, or find it: the same machine key and token give the same node and spend no second use.

    Raises Refusal `token_…`, `key_in_use`, `network_full`.
    """
    token = find_token(connection, wish.secret)
    if token is None or not lock_network(connection, token.network_id):
        raise Refusal("token_unknown", "this coordinator knows no such token: was its network deleted?")
    token = find_token(connection, wish.secret)  # again, now that nobody else can spend it
    if token is None:
        raise Refusal("token_unknown", "this coordinator knows no such token: was its network deleted?")
    known = _find(connection, nodes.c.machine_key == bytes(wish.machine_key), nodes.c.token_id == token.id)
    if known is not None:
        if known.wireguard_key != wish.wireguard_key:
            raise Refusal("key_in_use", _OTHER_KEY)
        return known
    spend_token(connection, token, now)
    if _find(connection, nodes.c.wireguard_key == bytes(wish.wireguard_key)) is not None:
        raise Refusal("key_in_use", _IN_USE)
    node_id = rng.randbytes(16).hex()
    mine = nodes.c.network_id == token.network_id
    taken = set(connection.execute(select(nodes.c.name).where(mine)).scalars())
    node = NodeRow(
        id=node_id,
        network_id=token.network_id,
        name=unique_label(wish.name, taken),
        machine_key=wish.machine_key,
        wireguard_key=wish.wireguard_key,
        addresses=_claim_addresses(connection, token.network_id, node_id, now),
        key_epoch=0,
        record=None,
        joined_at=now,
    )
    connection.execute(
        insert(nodes).values(
            id=node.id,
            network_id=node.network_id,
            name=node.name,
            machine_key=bytes(node.machine_key),
            wireguard_key=bytes(node.wireguard_key),
            token_id=token.id,
            addresses=[str(address) for address in node.addresses],
            key_epoch=0,
            record_seq=0,
            capabilities=list(wish.capabilities),
            joined_at=now,
        )
    )
    return node


def _find(connection: Connection, *conditions: ColumnElement[bool]) -> NodeRow | None:
    row = connection.execute(select(*_COLUMNS).where(*conditions)).one_or_none()
    return None if row is None else _node_row(row)


def _claim_addresses(connection: Connection, network_id: str, node_id: str, now: float) -> tuple[Prefix, ...]:
    """One address of each family, from the first range that has room. Raises Refusal `network_full`."""
    texts = connection.execute(select(networks.c.ranges).where(networks.c.id == network_id)).scalar_one()
    ranges = [ipaddress.ip_network(text) for text in texts]
    claimed = []
    for version in (4, 6):
        family = [prefix for prefix in ranges if prefix.version == version]
        for prefix in family:
            number = _choose_number(connection, network_id, prefix, now)
            if number is not None:
                values = {"network_id": network_id, "range": str(prefix), "host": number, "node_id": node_id}
                connection.execute(insert(addresses).values(**values))
                claimed.append(host_prefix(host_address(prefix, number)))
                break
        else:
            if family:
                shown = ", ".join(str(prefix) for prefix in family)
                raise Refusal(
                    "network_full",
                    f"every address of {shown} is taken or was released in the last 7 days: "
                    "the network's admin has to make a larger network or wait",
                )
    return tuple(claimed)


def _choose_number(connection: Connection, network_id: str, prefix: Prefix, now: float) -> int | None:
    mine = (addresses.c.network_id == network_id) & (addresses.c.range == str(prefix))
    rested = mine & addresses.c.node_id.is_(None) & (addresses.c.released_at <= now - REST_AGE)
    connection.execute(delete(addresses).where(rested))
    highest = connection.execute(select(func.max(addresses.c.host)).where(mine)).scalar()

    def taken_in_order() -> Iterable[int]:
        return connection.execute(select(addresses.c.host).where(mine).order_by(addresses.c.host)).scalars()

    return choose_host_number(prefix, highest, taken_in_order)


def find_node(connection: Connection, network_id: str, node_id: str) -> NodeRow | None:
    return _find(connection, nodes.c.id == node_id, nodes.c.network_id == network_id)


def find_removed(connection: Connection, network_id: str, node_id: str) -> MachinePublicKey | None:
    """The machine key of a node that was removed in the last 90 days."""
    mine = (removed_nodes.c.id == node_id) & (removed_nodes.c.network_id == network_id)
    key = connection.execute(select(removed_nodes.c.machine_key).where(mine)).scalar_one_or_none()
    return None if key is None else MachinePublicKey(key)


def find_node_named(connection: Connection, network_id: str, wanted: str) -> NodeRow:
    """A node by id or name. Raises Refusal `not_found`."""
    named = or_(nodes.c.id == wanted, nodes.c.name == wanted)
    node = _find(connection, nodes.c.network_id == network_id, named)
    if node is None:
        raise Refusal("not_found", f"no node of this network is called {wanted[:64]!r}: see `node list`")
    return node


def list_nodes(connection: Connection, network_id: str) -> list[NodeRow]:
    statement = select(*_COLUMNS).where(nodes.c.network_id == network_id).order_by(nodes.c.name)
    return [_node_row(row) for row in connection.execute(statement)]


def put_record(connection: Connection, record: Record, now: float) -> int | None:
    """Take a record whose signature was checked → the revision, None when it is the one that stands.

    Raises Refusal `node_unknown`, `record_mismatch`.
    """
    lock_network(connection, record.network)
    node = find_node(connection, record.network, record.id)
    if node is None:
        raise Refusal("node_unknown", "this node is not a member of the network any more")
    if record == node.record:
        return None
    if (record.machine_key, record.wireguard_key) != (node.machine_key, node.wireguard_key):
        raise Refusal("record_mismatch", "the record names other keys than this node joined with")
    if set(record.addresses) != set(node.addresses):
        raise Refusal("record_mismatch", "the record names other addresses than this node was given")
    if record.ranges:
        raise Refusal(
            "record_mismatch", "this node was not given any ranges to forward: leave `ranges` empty"
        )
    if node.record is not None and record.seq <= node.record.seq:
        raise Refusal(
            "record_mismatch", f"the record's seq must be above {node.record.seq}; got {record.seq}"
        )
    revision = record_change(connection, record.network, [(Kind.NODE, record.id)], now)
    values = {"record": canonical_json(record.to_json()).decode(), "record_seq": record.seq}
    connection.execute(update(nodes).where(nodes.c.id == record.id).values(**values))
    first = nodes.c.visible_from.is_(None)
    connection.execute(update(nodes).where(nodes.c.id == record.id, first).values(visible_from=revision))
    return revision


def remove_node(connection: Connection, network_id: str, wanted: str, now: float) -> NodeRow:
    """Take a node (id or name) out of its network. Raises Refusal `not_found`."""
    lock_network(connection, network_id)
    node = find_node_named(connection, network_id, wanted)
    bury_node(connection, network_id, node.id, now)
    record_change(connection, network_id, [(Kind.NODE, node.id)], now)
    return node


def bury_node(connection: Connection, network_id: str, node_id: str, now: float) -> None:
    """Its row goes, its addresses rest, and a stone stays by which it can learn that it was removed."""
    key = connection.execute(
        delete(nodes).where(nodes.c.id == node_id).returning(nodes.c.machine_key)
    ).scalar_one()
    mine = addresses.c.node_id == node_id
    connection.execute(update(addresses).where(mine).values(node_id=None, released_at=now))
    connection.execute(delete(endpoints).where(endpoints.c.node_id == node_id))
    connection.execute(delete(leases).where(leases.c.node_id == node_id))
    values = {"id": node_id, "network_id": network_id, "machine_key": key, "removed_at": now}
    connection.execute(insert(removed_nodes).values(**values))
