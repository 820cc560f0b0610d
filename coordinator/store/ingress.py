"""Ingress groups: the gateways by which external clients come in, and the key that these share.

Clients' addresses are in ranges of the group's own, blocks of the network's ranges: other nodes route a block
to the elected gateway as they do a range behind a gateway, and a client more is no news for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from coordinator.addresses import RandomSource, host_address
from coordinator.errors import Refusal
from coordinator.ingress import choose_pool, endpoint_port, parse_endpoint
from coordinator.names import check_node_name
from coordinator.store import forwards as forward_rows
from coordinator.store.claims import read_ranges
from coordinator.store.log import Kind, lock_network, record_change
from coordinator.store.tables import (
    addresses,
    client_sightings,
    clients,
    forwards,
    ingress_gateways,
    ingress_groups,
    nodes,
)
from wgpy.addresses import Prefix, host_prefix
from wgpy.errors import ConfigError
from wgpy.keys import PublicKey
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.ingress import MAX_GATEWAYS, MAX_NAMED, KeyHandover, Mark

MAX_GROUPS: Final = 16
"""Ingress groups of a network."""


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """`state` is that of its ranges (`forwards`): waiting until the node has agreed and has the key."""

    node_id: str
    node_name: str
    state: str
    elected: bool
    has_key: bool
    problem: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """`ranges` are those of its clients; the first address of each is the group's own."""

    id: str
    network_id: str
    name: str
    endpoint: str
    listen_port: int
    ranges: tuple[Prefix, ...]
    dns: bool
    public_key: PublicKey | None
    version: int
    created_at: float
    gateways: tuple[GatewayRow, ...] = ()
    clients: int = 0

    @property
    def addresses(self) -> tuple[Prefix, ...]:
        """Its own, in each of its ranges."""
        return tuple(host_prefix(host_address(range_, 1)) for range_ in self.ranges)


@dataclass(frozen=True, slots=True)
class GroupWish:
    """`listen_port` None: that of the endpoint. `nodes` are names or ids."""

    name: str
    endpoint: str
    nodes: tuple[str, ...] = ()
    listen_port: int | None = None
    dns: bool = True


def group_json(row: GroupRow) -> JsonObject:
    """What the API and the audit log show, without what moves by itself."""
    return {
        "id": row.id,
        "name": row.name,
        "endpoint": row.endpoint,
        "listen_port": row.listen_port,
        "dns": row.dns,
        "ranges": [str(prefix) for prefix in row.ranges],
        "addresses": [str(prefix.network_address) for prefix in row.addresses],
        "public_key": None if row.public_key is None else str(row.public_key),
        "created_at": row.created_at,
        "nodes": [gateway.node_name for gateway in row.gateways],
    }


def list_groups(connection: Connection, network_id: str) -> list[GroupRow]:
    """By name, with their gateways in the order in which they were added."""
    rows = connection.execute(
        select(ingress_groups)
        .where(ingress_groups.c.network_id == network_id)
        .order_by(ingress_groups.c.name)
    ).all()
    if not rows:
        return []
    by_node: dict[str, forward_rows.ForwardRow] = {}
    for forward in forward_rows.list_forwards(connection, network_id):
        if forward.group_id is not None:
            by_node.setdefault(forward.node_id, forward)
    members: dict[str, list[GatewayRow]] = {}
    joined = ingress_gateways.join(nodes, nodes.c.id == ingress_gateways.c.node_id)
    for row in connection.execute(
        select(ingress_gateways, nodes.c.name)
        .select_from(joined)
        .where(nodes.c.network_id == network_id)
        .order_by(ingress_gateways.c.created_at, ingress_gateways.c.node_id)
    ):
        mine = by_node.get(row.node_id)
        members.setdefault(row.group_id, []).append(
            GatewayRow(
                row.node_id, row.name,
                "waiting" if mine is None else mine.state,
                mine is not None and mine.forward.elected,
                row.sealed_key is not None,
                "" if mine is None else mine.problem,
            )
        )  # fmt: skip
    asked = select(clients.c.group_id, func.count()).where(clients.c.network_id == network_id)
    counts = {row[0]: row[1] for row in connection.execute(asked.group_by(clients.c.group_id))}
    return [_group(row, members.get(row.id, []), counts.get(row.id, 0)) for row in rows]


def _group(row: Any, members: Sequence[GatewayRow] = (), count: int = 0) -> GroupRow:
    return GroupRow(
        id=row.id,
        network_id=row.network_id,
        name=row.name,
        endpoint=row.endpoint,
        listen_port=row.listen_port,
        ranges=tuple(map(ipaddress.ip_network, row.ranges)),
        dns=row.dns,
        public_key=None if row.public_key is None else PublicKey(row.public_key),
        version=row.version,
        created_at=row.created_at,
        gateways=tuple(members),
        clients=count,
    )


def find_group(connection: Connection, network_id: str, wanted: str) -> GroupRow:
    """By id or name. Raises Refusal `not_found`."""
    for row in list_groups(connection, network_id):
        if wanted in (row.id, row.name):
            return row
    raise Refusal(
        "not_found", f"no ingress group of this network is called {wanted[:64]!r}: see `clients gateway list`"
    )


def create_group(
    connection: Connection, network_id: str, wish: GroupWish, rng: RandomSource, now: float
) -> GroupRow:
    """Raises ConfigError, Refusal `name_in_use`, `network_full`, `not_found`, `conflict`."""
    lock_network(connection, network_id)
    _check_name(wish.name)
    known = list_groups(connection, network_id)
    if any(row.name == wish.name for row in known):
        raise Refusal("name_in_use", f"another ingress group of this network is called {wish.name!r}")
    if len(known) >= MAX_GROUPS:
        raise ConfigError(f"a network has at most {MAX_GROUPS} ingress groups")
    endpoint = parse_endpoint(wish.endpoint)
    group_id = rng.randbytes(16).hex()
    pools = _choose_pools(connection, network_id, [pool for row in known for pool in row.ranges])
    connection.execute(
        insert(ingress_groups).values(
            id=group_id, network_id=network_id, name=wish.name, endpoint=endpoint,
            listen_port=wish.listen_port or endpoint_port(endpoint), ranges=[str(pool) for pool in pools],
            dns=wish.dns, public_key=None, version=1, created_at=now,
        )
    )  # fmt: skip
    for pool in pools:  # the first address is the group's own
        values = {"network_id": network_id, "range": str(pool), "host": 1, "node_id": group_id}
        connection.execute(insert(addresses).values(**values))
    _set_gateways(connection, find_group(connection, network_id, group_id), wish.nodes, rng, now)
    return find_group(connection, network_id, group_id)


def _check_name(name: str) -> None:
    try:
        check_node_name(name)
    except ConfigError:
        raise ConfigError(
            "the name of an ingress group is 1 to 63 of a-z, 0-9 and inner hyphens, such as phones; "
            f"got {name[:64]!r}"
        ) from None


def _choose_pools(connection: Connection, network_id: str, taken: Sequence[Prefix]) -> list[Prefix]:
    """A block of each family. Raises Refusal `network_full`."""
    pools: list[Prefix] = []
    ranges = read_ranges(connection, network_id)
    for version in sorted({range_.version for range_ in ranges}):
        family = [range_ for range_ in ranges if range_.version == version]
        for range_ in family:
            mine = (addresses.c.network_id == network_id) & (addresses.c.range == str(range_))
            numbers = connection.execute(select(addresses.c.host).where(mine)).scalars().all()
            if (pool := choose_pool(range_, taken, numbers)) is not None:
                pools.append(pool)
                break
        else:
            shown = ", ".join(map(str, family))
            raise Refusal("network_full", f"{shown} has no block of addresses left for external clients")
    return pools


def edit_group(
    connection: Connection,
    network_id: str,
    wanted: str,
    changes: Mapping[str, Any],
    rng: RandomSource,
    *,
    now: float,
) -> GroupRow:
    """`changes` are fields of GroupWish. Raises as `create_group`."""
    lock_network(connection, network_id)
    before = find_group(connection, network_id, wanted)
    values = {name: value for name, value in changes.items() if name != "nodes"}
    if "endpoint" in values:
        values["endpoint"] = parse_endpoint(values["endpoint"])
    if "name" in values and values["name"] != before.name:
        _check_name(values["name"])
        if any(row.name == values["name"] for row in list_groups(connection, network_id)):
            raise Refusal(
                "name_in_use", f"another ingress group of this network is called {values['name']!r}"
            )
    if any(getattr(before, name) != value for name, value in values.items()):
        connection.execute(update(ingress_groups).where(ingress_groups.c.id == before.id).values(**values))
        bump(connection, network_id, before.id, now)
    if "nodes" in changes:
        _set_gateways(connection, before, tuple(changes["nodes"]), rng, now)
    return find_group(connection, network_id, before.id)


def delete_group(connection: Connection, network_id: str, wanted: str, now: float) -> GroupRow:
    """Raises Refusal `not_found`, and `conflict` while it has clients."""
    lock_network(connection, network_id)
    row = find_group(connection, network_id, wanted)
    if row.clients:
        count = "a client" if row.clients == 1 else f"{row.clients} clients"
        raise Refusal("conflict", f"{count} of this network come in by {row.name}: remove them first")
    _drop_gateways(connection, row, {gateway.node_id for gateway in row.gateways}, now)
    for range_ in row.ranges:
        mine = (addresses.c.network_id == network_id) & (addresses.c.range == str(range_))
        connection.execute(delete(addresses).where(mine))
    connection.execute(delete(ingress_groups).where(ingress_groups.c.id == row.id))
    return row


def _set_gateways(
    connection: Connection, group: GroupRow, wanted: Sequence[str], rng: RandomSource, now: float
) -> None:
    ids = list(
        dict.fromkeys(forward_rows.find_node_id(connection, group.network_id, each) for each in wanted)
    )
    if len(ids) > MAX_GATEWAYS:
        raise ConfigError(f"an ingress group has at most {MAX_GATEWAYS} gateways; got {len(ids)}")
    present = {gateway.node_id for gateway in group.gateways}
    for node_id in ids:
        if node_id not in present:
            _add_gateway(connection, group, node_id, rng, now)
    _drop_gateways(connection, group, present - set(ids), now)


def _add_gateway(
    connection: Connection, group: GroupRow, node_id: str, rng: RandomSource, now: float
) -> None:
    mine = ingress_gateways.c.node_id == node_id
    if connection.execute(select(ingress_gateways.c.group_id).where(mine)).one_or_none() is not None:
        name = connection.execute(select(nodes.c.name).where(nodes.c.id == node_id)).scalar_one()
        raise Refusal("conflict", f"{name} is a gateway of another ingress group: a node is in one at most")
    values = {"node_id": node_id, "group_id": group.id, "sealed_key": None, "created_at": now}
    connection.execute(insert(ingress_gateways).values(**values))
    for range_ in group.ranges:
        connection.execute(
            insert(forwards).values(
                id=rng.randbytes(16).hex(), network_id=group.network_id, node_id=node_id,
                range=str(range_), target=str(range_), nat=False, interface="", offered=False,
                approved_at=now, elected=False, problem="", created_at=now, group_id=group.id,
            )
        )  # fmt: skip
    touched = {node_id} | forward_rows.settle(connection, group.network_id, None)
    _bump(connection, group.id)
    record_change(connection, group.network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)


def _drop_gateways(connection: Connection, group: GroupRow, node_ids: set[str], now: float) -> None:
    if not node_ids:
        return
    connection.execute(
        delete(forwards).where(forwards.c.group_id == group.id, forwards.c.node_id.in_(node_ids))
    )
    _forget_keys(connection, group.id, node_ids)
    touched = node_ids | forward_rows.settle(connection, group.network_id, None)
    touched |= set(_gateway_ids(connection, group.id))
    _bump(connection, group.id)
    record_change(connection, group.network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)


def _forget_keys(connection: Connection, group_id: str, node_ids: set[str]) -> None:
    """These are no gateways any more. With the last one that has the key, the key is gone."""
    connection.execute(delete(ingress_gateways).where(ingress_gateways.c.node_id.in_(node_ids)))
    connection.execute(delete(client_sightings).where(client_sightings.c.node_id.in_(node_ids)))
    holds = (ingress_gateways.c.group_id == group_id) & ingress_gateways.c.sealed_key.is_not(None)
    if connection.execute(select(ingress_gateways.c.node_id).where(holds)).first() is None:
        connection.execute(
            update(ingress_groups).where(ingress_groups.c.id == group_id).values(public_key=None)
        )


def forget_gateway(connection: Connection, network_id: str, node_id: str, now: float) -> None:
    """The node goes; its ranges are gone already."""
    mine = ingress_gateways.c.node_id == node_id
    group_id = connection.execute(select(ingress_gateways.c.group_id).where(mine)).scalar_one_or_none()
    if group_id is not None:
        _forget_keys(connection, group_id, {node_id})
        bump(connection, network_id, group_id, now)


def _gateway_ids(connection: Connection, group_id: str) -> list[str]:
    mine = ingress_gateways.c.group_id == group_id
    return list(connection.execute(select(ingress_gateways.c.node_id).where(mine)).scalars())


def _bump(connection: Connection, group_id: str) -> None:
    mine = ingress_groups.c.id == group_id
    connection.execute(update(ingress_groups).where(mine).values(version=ingress_groups.c.version + 1))


def bump(connection: Connection, network_id: str, group_id: str, now: float) -> None:
    """Something changed that its gateways act on: they ask anew."""
    _bump(connection, group_id)
    changes = [(Kind.NODE, node_id) for node_id in sorted(_gateway_ids(connection, group_id))]
    if changes:
        record_change(connection, network_id, changes, now)


def read_marks(
    connection: Connection, network_id: str, node_ids: Sequence[str] | None = None
) -> dict[str, Mark]:
    """By node, of those that are gateways of clients: part of the map."""
    joined = ingress_gateways.join(ingress_groups, ingress_groups.c.id == ingress_gateways.c.group_id)
    conditions = [ingress_groups.c.network_id == network_id]
    if node_ids is not None:
        conditions.append(ingress_gateways.c.node_id.in_(node_ids))
    rows = connection.execute(
        select(ingress_gateways.c.node_id, ingress_groups).select_from(joined).where(*conditions)
    ).all()
    names = {group_id: _read_names(connection, group_id) for group_id in {row.id for row in rows}}
    return {
        row.node_id: Mark(row.version, tuple(map(ipaddress.ip_network, row.ranges)), names[row.id])
        for row in rows
    }


def _read_names(connection: Connection, group_id: str) -> dict[str, tuple[Prefix, ...]]:
    """The clients of a group that others know by name."""
    rows = connection.execute(
        select(clients.c.name, clients.c.addresses)
        .where(clients.c.group_id == group_id)
        .order_by(clients.c.created_at, clients.c.id)
        .limit(MAX_NAMED)
    )
    return {row.name: tuple(map(ipaddress.ip_network, row.addresses)) for row in rows}


def find_group_of(connection: Connection, network_id: str, node_id: str) -> GroupRow:
    """The group that a node is a gateway of. Raises Refusal `not_found`."""
    mine = ingress_gateways.c.node_id == node_id
    group_id = connection.execute(select(ingress_gateways.c.group_id).where(mine)).scalar_one_or_none()
    if group_id is None:
        raise Refusal("not_found", "this node is no gateway of external clients")
    return find_group(connection, network_id, group_id)


def read_keys(connection: Connection, group_id: str) -> dict[str, tuple[bytes, bytes | None]]:
    """Of each gateway its machine key, and the group's key as it was sealed for it."""
    joined = ingress_gateways.join(nodes, nodes.c.id == ingress_gateways.c.node_id)
    rows = connection.execute(
        select(nodes.c.id, nodes.c.machine_key, ingress_gateways.c.sealed_key)
        .select_from(joined)
        .where(ingress_gateways.c.group_id == group_id)
    )
    return {row.id: (row.machine_key, row.sealed_key) for row in rows}


def hand_over(
    connection: Connection, network_id: str, node_id: str, handover: KeyHandover, now: float
) -> GroupRow:
    """A gateway has made the group's key, or gives it to others. Raises Refusal `not_found`, `key_in_use`
    when another was faster.
    """
    lock_network(connection, network_id)
    group = find_group_of(connection, network_id, node_id)
    is_first = group.public_key is None
    if not is_first and group.public_key != handover.public_key:
        raise Refusal("key_in_use", "another gateway of this group has made its key: ask for that one")
    if is_first:
        if node_id not in handover.sealed:
            raise Refusal("malformed", "who makes the group's key seals it to itself, too")
        taken = ingress_groups.c.public_key == bytes(handover.public_key)
        if connection.execute(select(ingress_groups.c.id).where(taken)).first() is not None:
            raise Refusal("key_in_use", "another group has this WireGuard key already: make a fresh one")
        mine = ingress_groups.c.id == group.id
        connection.execute(update(ingress_groups).where(mine).values(public_key=bytes(handover.public_key)))
        connection.execute(
            update(ingress_gateways).where(ingress_gateways.c.group_id == group.id).values(sealed_key=None)
        )
    keys = read_keys(connection, group.id)
    changed = is_first
    for to, sealed in handover.sealed.items():
        if to in keys and (is_first or keys[to][1] is None):
            connection.execute(
                update(ingress_gateways).where(ingress_gateways.c.node_id == to).values(sealed_key=sealed)
            )
            changed = True
    if changed:
        bump(connection, network_id, group.id, now)
    return replace(group, public_key=handover.public_key)
