"""Nodes: found, edited, signing a record, leaving or being removed."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, bindparam, delete, func, insert, or_, select, update

from coordinator.errors import Refusal
from coordinator.names import check_node_name, make_tags
from coordinator.store.audit import Actor, write_audit
from coordinator.store.claims import release_addresses
from coordinator.store.forwards import forget_forwards, read_forwards
from coordinator.store.ingress import forget_gateway
from coordinator.store.log import Kind, lock_network, note, record_change
from coordinator.store.node_names import check_name_free, find_free_name
from coordinator.store.prepared import Prepared
from coordinator.store.tables import endpoints, leases, nodes, removed_nodes
from coordinator.store.tokens import check_ephemeral
from wgpy.addresses import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh.encoding import JsonObject, canonical_json
from wgpy.mesh.record import Record
from wgpy.mesh.signing import MachinePublicKey

TOMBSTONE_AGE: Final = 90 * 86400.0
"""Seconds for which a removed node can still learn that it was removed."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's row. `signed` is its record as JSON, verified when it came; None until it has signed one."""

    id: str
    network_id: str
    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    token_id: str
    addresses: tuple[Prefix, ...]
    key_epoch: int
    signed: str | None
    joined_at: float
    tags: tuple[str, ...] = ()
    ephemeral_after: int | None = None
    disabled_at: float | None = None
    expires_at: float | None = None
    expired_at: float | None = None
    key_made_at: float | None = None
    rotation_wanted_at: float | None = None
    person_id: str | None = None
    version: str | None = None

    @property
    def record(self) -> Record | None:
        """Read from `signed` each time: who asks whether a node may come in does not ask for it."""
        return read_record(self.signed)

    @property
    def is_disabled(self) -> bool:
        """Kept out of all maps: an admin said so, or its time is over."""
        return self.disabled_at is not None or self.expired_at is not None


_COLUMNS: Final = (
    nodes.c.id,
    nodes.c.network_id,
    nodes.c.name,
    nodes.c.machine_key,
    nodes.c.wireguard_key,
    nodes.c.token_id,
    nodes.c.addresses,
    nodes.c.key_epoch,
    nodes.c.record,
    nodes.c.joined_at,
    nodes.c.tags,
    nodes.c.ephemeral_after,
    nodes.c.disabled_at,
    nodes.c.expires_at,
    nodes.c.expired_at,
    nodes.c.key_made_at,
    nodes.c.rotation_wanted_at,
    nodes.c.person_id,
    nodes.c.version,
)


def _node_row(row: Any) -> NodeRow:
    return NodeRow(
        id=row.id,
        network_id=row.network_id,
        name=row.name,
        machine_key=MachinePublicKey(row.machine_key),
        wireguard_key=PublicKey(row.wireguard_key),
        token_id=row.token_id,
        addresses=tuple(ipaddress.ip_network(text) for text in row.addresses),
        key_epoch=row.key_epoch,
        signed=row.record,
        joined_at=row.joined_at,
        tags=tuple(row.tags or ()),
        ephemeral_after=row.ephemeral_after,
        disabled_at=row.disabled_at,
        expires_at=row.expires_at,
        expired_at=row.expired_at,
        key_made_at=row.key_made_at,
        rotation_wanted_at=row.rotation_wanted_at,
        person_id=row.person_id,
        version=row.version,
    )


def node_json(row: NodeRow) -> JsonObject:
    """What the API and the audit log show of a node, without what moves by itself."""
    return {
        "id": row.id,
        "name": row.name,
        "addresses": [str(address.network_address) for address in row.addresses],
        "wireguard_key": str(row.wireguard_key),
        "tags": list(row.tags),
        "ephemeral_after": row.ephemeral_after,
        "disabled_at": row.disabled_at,
        "expires_at": row.expires_at,
        "expired": row.expired_at is not None,
        "token": row.token_id,
        "person": row.person_id,
        "key_made_at": row.joined_at if row.key_made_at is None else row.key_made_at,
        "rotation_wanted_at": row.rotation_wanted_at,
    }


def read_record(text: str | None) -> Record | None:
    """A record as it was stored, verified when it came."""
    return None if text is None else Record.from_json(json.loads(text))


_ALL: Final = select(*_COLUMNS)
_BY_MACHINE: Final = Prepared(
    _ALL.where(nodes.c.machine_key == bindparam("key"), nodes.c.token_id == bindparam("token"))
)
_BY_KEY: Final = Prepared(_ALL.where(nodes.c.wireguard_key == bindparam("key")))
_BY_ID: Final = Prepared(
    _ALL.where(nodes.c.id == bindparam("node"), nodes.c.network_id == bindparam("network"))
)
_NAMED: Final = Prepared(
    _ALL.where(
        nodes.c.network_id == bindparam("network"),
        or_(nodes.c.id == bindparam("wanted"), nodes.c.name == bindparam("wanted")),
    )
)


def _find(connection: Connection, statement: Prepared, **wanted: str | bytes) -> NodeRow | None:
    row = statement.first(connection, **wanted)
    return None if row is None else _node_row(row)


def find_by_machine(connection: Connection, key: MachinePublicKey, token_id: str) -> NodeRow | None:
    """The node that this machine became by this token."""
    return _find(connection, _BY_MACHINE, key=bytes(key), token=token_id)


def find_by_key(connection: Connection, key: PublicKey) -> NodeRow | None:
    """The node that has this WireGuard key."""
    return _find(connection, _BY_KEY, key=bytes(key))


def find_node(connection: Connection, network_id: str, node_id: str) -> NodeRow | None:
    return _find(connection, _BY_ID, node=node_id, network=network_id)


def find_removed(connection: Connection, network_id: str, node_id: str) -> MachinePublicKey | None:
    """The machine key of a node that was removed in the last 90 days."""
    mine = (removed_nodes.c.id == node_id) & (removed_nodes.c.network_id == network_id)
    key = connection.execute(select(removed_nodes.c.machine_key).where(mine)).scalar_one_or_none()
    return None if key is None else MachinePublicKey(key)


def find_node_named(connection: Connection, network_id: str, wanted: str) -> NodeRow:
    """A node by id or name. Raises Refusal `not_found`."""
    node = _find(connection, _NAMED, network=network_id, wanted=wanted)
    if node is None:
        raise Refusal("not_found", f"no node of this network is called {wanted[:64]!r}: see `node list`")
    return node


def list_nodes(connection: Connection, network_id: str) -> list[NodeRow]:
    statement = select(*_COLUMNS).where(nodes.c.network_id == network_id).order_by(nodes.c.name)
    return [_node_row(row) for row in connection.execute(statement)]


_SIGN: Final = Prepared(
    update(nodes)
    .where(nodes.c.id == bindparam("node"))
    .values(
        record=bindparam("signed"),
        record_seq=bindparam("seq"),
        visible_from=func.coalesce(nodes.c.visible_from, bindparam("revision", type_=BigInteger)),
    )
)


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
    if record.wireguard_key != node.wireguard_key:
        raise Refusal("record_mismatch", "the record names another WireGuard key than this node has")
    _check_record(connection, record, node)
    revision = record_change(connection, record.network, [(Kind.NODE, record.id)], now)
    signed = canonical_json(record.to_json()).decode()
    _SIGN.run(connection, node=record.id, signed=signed, seq=record.seq, revision=revision)
    return revision


def change_key(connection: Connection, record: Record, address: str, now: float) -> int | None:
    """Take a new WireGuard key, proven and in a record whose signature was checked → the revision, None when
    it is the one that stands. Bearers of before end.

    Raises Refusal `node_unknown`, `record_mismatch`, `key_in_use`.
    """
    lock_network(connection, record.network)
    node = find_node(connection, record.network, record.id)
    if node is None:
        raise Refusal("node_unknown", "this node is not a member of the network any more")
    if record == node.record:
        return None
    _check_record(connection, record, node)
    if find_by_key(connection, record.wireguard_key) is not None:
        raise Refusal("key_in_use", "a node has this WireGuard key already: make a fresh one")
    revision = record_change(connection, record.network, [(Kind.NODE, record.id)], now)
    connection.execute(
        update(nodes)
        .where(nodes.c.id == record.id)
        .values(
            record=canonical_json(record.to_json()).decode(),
            record_seq=record.seq,
            wireguard_key=bytes(record.wireguard_key),
            key_epoch=nodes.c.key_epoch + 1,
            key_made_at=now,
            rotation_wanted_at=None,
            visible_from=func.coalesce(nodes.c.visible_from, revision),
        )
    )
    after = replace(node, wireguard_key=record.wireguard_key, key_made_at=now, rotation_wanted_at=None)
    actor = Actor("host", node.id, node.name, address)
    before, shown = node_json(node), node_json(after)
    write_audit(connection, actor, "node.key", node.network_id, now, before=before, after=shown)
    return revision


def _check_record(connection: Connection, record: Record, node: NodeRow) -> None:
    """Whether the node may say this of itself. Raises Refusal `record_mismatch`."""
    if record.machine_key != node.machine_key:
        raise Refusal("record_mismatch", "the record names another machine key than this node joined with")
    if set(record.addresses) != set(node.addresses):
        raise Refusal("record_mismatch", "the record names other addresses than this node was given")
    if record.ranges and not _may_forward(connection, record):
        raise Refusal("record_mismatch", "the record names ranges that this node was not given to forward")
    before = node.record
    if before is not None and record.seq <= before.seq:
        raise Refusal("record_mismatch", f"the record's seq must be above {before.seq}; got {record.seq}")


def _may_forward(connection: Connection, record: Record) -> bool:
    """Whether all of its ranges were given to it."""
    approved = read_forwards(connection, record.network, [record.id]).get(record.id, ())
    return {forward.range for forward in approved}.issuperset(record.ranges)


@dataclass(frozen=True, slots=True)
class NodeEdit:
    """What an admin changes of a node: fields of `NodeRow`, with `disabled` for whether it is."""

    changes: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if "name" in self.changes:
            check_node_name(self.changes["name"])
        make_tags(self.changes.get("tags", ()))
        check_ephemeral(self.changes.get("ephemeral_after"))

    def applied(self, node: NodeRow, now: float) -> NodeRow:
        values = dict(self.changes)
        if "tags" in values:
            values["tags"] = make_tags(values["tags"])
        if "disabled" in values:
            values["disabled_at"] = (node.disabled_at or now) if values.pop("disabled") else None
        after = replace(node, **values)
        is_over = after.expires_at is not None and after.expires_at <= now
        return replace(after, expired_at=(node.expired_at or now) if is_over else None)


def edit_node(connection: Connection, network_id: str, wanted: str, edit: NodeEdit, now: float) -> NodeRow:
    """Change a node (id or name). Raises Refusal `not_found`, `name_in_use`."""
    lock_network(connection, network_id)
    before = find_node_named(connection, network_id, wanted)
    after = edit.applied(before, now)
    if after.name != before.name:
        check_name_free(connection, network_id, after.name, now, node_id=before.id)
    store_edit(connection, before, after, now)
    return after


def store_edit(connection: Connection, before: NodeRow, after: NodeRow, now: float) -> None:
    """Write what an edit changed, and log it where maps show it; the network is locked."""
    if after == before:
        return
    values = {
        "name": after.name,
        "tags": list(after.tags) or None,
        "ephemeral_after": after.ephemeral_after,
        "disabled_at": after.disabled_at,
        "expires_at": after.expires_at,
        "expired_at": after.expired_at,
        "rotation_wanted_at": after.rotation_wanted_at,
    }
    if after.ephemeral_after is None:
        values["absent_since"] = None
    regrouped = (after.tags, after.is_disabled) != (before.tags, before.is_disabled)
    if regrouped or after.name != before.name or after.rotation_wanted_at != before.rotation_wanted_at:
        revision = record_change(connection, after.network_id, [(Kind.NODE, after.id)], now)
        if regrouped and after.signed is not None:
            values["visible_from"] = revision  # it sees others than before: only a whole map says whom
    else:
        note(connection, after.network_id)
    connection.execute(update(nodes).where(nodes.c.id == after.id).values(**values))


def note_version(connection: Connection, node_id: str, version: str) -> None:
    """What it says that it runs: shown, and in no map."""
    connection.execute(update(nodes).where(nodes.c.id == node_id).values(version=version))


def rename_node(
    connection: Connection, network_id: str, node_id: str, *, unique_from: str, now: float
) -> str:
    """Call a node by another name → what it became, a unique label. Raises Refusal `node_unknown`."""
    lock_network(connection, network_id)
    node = find_node(connection, network_id, node_id)
    if node is None:
        raise Refusal("node_unknown", "this node is not a member of the network any more")
    name = find_free_name(connection, network_id, unique_from, now, node_id=node_id)
    if name != node.name:
        connection.execute(update(nodes).where(nodes.c.id == node_id).values(name=name))
        record_change(connection, network_id, [(Kind.NODE, node_id)], now)
    return name


def remove_node(connection: Connection, network_id: str, wanted: str, now: float) -> NodeRow:
    """Take a node (id or name) out of its network. Raises Refusal `not_found`."""
    lock_network(connection, network_id)
    node = find_node_named(connection, network_id, wanted)
    bury_node(connection, network_id, node.id, now)
    record_change(connection, network_id, [(Kind.NODE, node.id)], now)
    return node


def leave(connection: Connection, node: NodeRow, address: str, now: float) -> None:
    """A node goes of its own accord. Raises Refusal `not_found`."""
    gone = remove_node(connection, node.network_id, node.id, now)
    actor = Actor("host", gone.id, gone.name, address)
    write_audit(connection, actor, "node.leave", gone.network_id, now, before=node_json(gone), after=None)


def bury_node(connection: Connection, network_id: str, node_id: str, now: float) -> None:
    """Its row goes, its addresses rest, and a stone stays by which it can learn that it was removed."""
    key = connection.execute(
        delete(nodes).where(nodes.c.id == node_id).returning(nodes.c.machine_key)
    ).scalar_one()
    release_addresses(connection, node_id, now)
    forget_forwards(connection, network_id, node_id, now)
    forget_gateway(connection, network_id, node_id, now)
    connection.execute(delete(endpoints).where(endpoints.c.node_id == node_id))
    connection.execute(delete(leases).where(leases.c.node_id == node_id))
    values = {"id": node_id, "network_id": network_id, "machine_key": key, "removed_at": now}
    connection.execute(insert(removed_nodes).values(**values))
