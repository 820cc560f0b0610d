"""External clients: phones, and whatever else runs stock WireGuard, behind gateways of an ingress group."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.gateways import EXIT_RANGES
from coordinator.ingress import SESSION_TIME, allowed_prefixes, check_reachable, crowded_gateway
from coordinator.names import check_node_name
from coordinator.store import forwards as forward_rows
from coordinator.store import ingress
from coordinator.store.claims import claim_named, claim_of_pool, read_ranges, release_addresses
from coordinator.store.ingress import GroupRow
from coordinator.store.log import Kind, lock_network, note, record_change
from coordinator.store.tables import (
    client_links,
    client_sightings,
    clients,
    forwards,
    ingress_gateways,
    ingress_groups,
    networks,
    nodes,
)
from wgpy.addresses import IPAddress, Prefix
from wgpy.errors import ConfigError
from wgpy.keys import PublicKey
from wgpy.mesh.client_file import ClientFile
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.forward import is_default
from wgpy.mesh.ingress import MAX_CLIENTS, MAX_REACHED, Client, Group, Reach, Sighting
from wgpy.mesh.signing import MachinePublicKey

DEFAULT_KEEPALIVE: Final = 25
"""Seconds between keepalives of a client where the network has none: as a rule it is behind a NAT, and others
want to reach it.
"""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """`group_key` is the group's key that its file names; another one now: the file is of no use any more."""

    id: str
    network_id: str
    group_id: str
    group_name: str
    name: str
    public_key: PublicKey
    key_by: str
    group_key: PublicKey
    addresses: tuple[Prefix, ...]
    reach: Reach
    created_at: float
    disabled_at: float | None
    expires_at: float | None
    expired_at: float | None
    is_current: bool

    @property
    def state(self) -> str:
        """`stale`: the group has another key than its file names, so it needs a new file."""
        if self.disabled_at is not None:
            return "disabled"
        if self.expired_at is not None:
            return "expired"
        return "active" if self.is_current else "stale"


@dataclass(frozen=True, slots=True)
class ReachWish:
    """Where a client is to go: `nodes` are names or ids. Neither: everything. `internet`: out there, too."""

    nodes: tuple[str, ...] | None = None
    ranges: tuple[Prefix, ...] | None = None
    internet: bool = False


@dataclass(frozen=True, slots=True)
class ClientWish:
    """`group` None: the only one. `addresses`: of one's own choice; none: the next."""

    name: str
    public_key: PublicKey
    key_by: str = "client"
    group: str | None = None
    addresses: tuple[IPAddress, ...] = ()
    reach: ReachWish = ReachWish()
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gateway where a client was last says of it."""

    node_id: str
    handshake_at: float
    endpoint: str
    rx_bytes: int
    tx_bytes: int
    at: float


def client_json(row: ClientRow) -> JsonObject:
    """What the API and the audit log show, without what moves by itself."""
    return {
        "id": row.id,
        "name": row.name,
        "group": row.group_id,
        "group_name": row.group_name,
        "public_key": str(row.public_key),
        "key_by": row.key_by,
        "addresses": [str(prefix.network_address) for prefix in row.addresses],
        "reach": row.reach.to_json(),
        "created_at": row.created_at,
        "disabled_at": row.disabled_at,
        "expires_at": row.expires_at,
        "state": row.state,
    }


_JOINED: Final = clients.join(ingress_groups, ingress_groups.c.id == clients.c.group_id)
_COLUMNS: Final = (
    clients,
    ingress_groups.c.name.label("group_name"),
    ingress_groups.c.public_key.label("key_now"),
)


def _row(row: Any) -> ClientRow:
    return ClientRow(
        id=row.id,
        network_id=row.network_id,
        group_id=row.group_id,
        group_name=row.group_name,
        name=row.name,
        public_key=PublicKey(row.public_key),
        key_by=row.key_by,
        group_key=PublicKey(row.group_key),
        addresses=tuple(map(ipaddress.ip_network, row.addresses)),
        reach=Reach.from_json(row.reach, "reach"),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        expires_at=row.expires_at,
        expired_at=row.expired_at,
        is_current=row.group_key == row.key_now,
    )


def list_clients(connection: Connection, network_id: str) -> list[ClientRow]:
    """By name."""
    mine = clients.c.network_id == network_id
    statement = select(*_COLUMNS).select_from(_JOINED).where(mine).order_by(clients.c.name)
    return [_row(row) for row in connection.execute(statement)]


def find_client(connection: Connection, network_id: str, wanted: str) -> ClientRow:
    """By id or name. Raises Refusal `not_found`."""
    mine = (clients.c.network_id == network_id) & or_(clients.c.id == wanted, clients.c.name == wanted)
    row = connection.execute(select(*_COLUMNS).select_from(_JOINED).where(mine)).one_or_none()
    if row is None:
        raise Refusal("not_found", f"no client of this network is called {wanted[:64]!r}: see `clients list`")
    return _row(row)


def read_seen(connection: Connection, ids: Collection[str] | None, network_id: str) -> dict[str, Seen]:
    """By client: what the gateway with its latest handshake says."""
    joined = client_sightings.join(clients, clients.c.id == client_sightings.c.client_id)
    statement = select(client_sightings).select_from(joined).where(clients.c.network_id == network_id)
    if ids is not None:
        statement = statement.where(client_sightings.c.client_id.in_(ids))
    found: dict[str, Seen] = {}
    for row in connection.execute(statement.order_by(client_sightings.c.handshake_at)):
        found[row.client_id] = Seen(
            row.node_id, row.handshake_at, row.endpoint, row.rx_bytes, row.tx_bytes, row.at
        )
    return found


def create_client(
    connection: Connection, network_id: str, wish: ClientWish, rng: RandomSource, now: float
) -> ClientRow:
    """Raises ConfigError, Refusal `name_in_use`, `key_in_use`, `not_found`, `not_ready`, `network_full`,
    `address_in_use`.
    """
    lock_network(connection, network_id)
    _check_name(connection, network_id, wish.name)
    group = _find_ready(connection, network_id, wish.group)
    if group.clients >= MAX_CLIENTS:
        raise Refusal("network_full", f"an ingress group has at most {MAX_CLIENTS} clients: make another")
    _check_key(connection, wish.public_key)
    _check_end(wish.expires_at, now)
    reach = resolve_reach(connection, network_id, wish.reach)
    client_id = rng.randbytes(16).hex()
    if wish.addresses:
        claimed = claim_named(connection, network_id, group.ranges, wish.addresses, client_id)
    else:
        claimed = claim_of_pool(connection, network_id, group.ranges, client_id, now)
    connection.execute(
        insert(clients).values(
            id=client_id, network_id=network_id, group_id=group.id, name=wish.name,
            public_key=bytes(wish.public_key), key_by=wish.key_by, group_key=bytes(_key_of(group)),
            addresses=[str(prefix) for prefix in claimed], reach=reach.to_json(), created_at=now,
            expires_at=wish.expires_at,
        )
    )  # fmt: skip
    ingress.bump(connection, network_id, group.id, now)
    return find_client(connection, network_id, client_id)


def _check_name(connection: Connection, network_id: str, name: str) -> None:
    try:
        check_node_name(name)
    except ConfigError:
        raise ConfigError(
            f"a client's name is 1 to 63 of a-z, 0-9 and inner hyphens, such as phone; got {name[:64]!r}"
        ) from None
    mine = (clients.c.network_id == network_id) & (clients.c.name == name)
    if connection.execute(select(clients.c.id).where(mine)).one_or_none() is not None:
        raise Refusal("name_in_use", f"another client of this network is called {name!r}")


def _check_end(expires_at: float | None, now: float) -> None:
    if expires_at is not None and expires_at <= now:
        raise ConfigError("a client's end lies in the future, or it has none; got a time that is over")


def _check_key(connection: Connection, key: PublicKey, but: str = "") -> None:
    taken = (
        connection.execute(
            select(clients.c.id).where(clients.c.public_key == bytes(key), clients.c.id != but)
        ).first()
        or connection.execute(select(nodes.c.id).where(nodes.c.wireguard_key == bytes(key))).first()
        or connection.execute(
            select(ingress_groups.c.id).where(ingress_groups.c.public_key == bytes(key))
        ).first()
    )
    if taken:
        raise Refusal("key_in_use", "this WireGuard key is in use already: make a fresh one for each client")


def _find_ready(connection: Connection, network_id: str, wanted: str | None) -> GroupRow:
    groups = ingress.list_groups(connection, network_id)
    if wanted is not None:
        group = ingress.find_group(connection, network_id, wanted)
    elif len(groups) == 1:
        [group] = groups
    elif groups:
        names = ", ".join(row.name for row in groups)
        raise ConfigError(f"this network has several ingress groups: name one of {names}")
    else:
        raise Refusal(
            "not_ready",
            "this network has no gateway for external clients: "
            "`clients gateway add NODE --endpoint HOST:PORT` makes one",
        )
    _key_of(group)
    return group


def _key_of(group: GroupRow) -> PublicKey:
    if group.public_key is None:
        names = ", ".join(gateway.node_name for gateway in group.gateways) or "none"
        raise Refusal(
            "not_ready",
            f"no gateway of {group.name} has made its key yet (there is: {names}): it has to be online, and "
            "its host to agree with `wgpy set --advertise ingress`",
        )
    return group.public_key


def resolve_reach(connection: Connection, network_id: str, wish: ReachWish) -> Reach:
    """With the nodes' ids. Raises ConfigError, Refusal `not_found`."""
    if wish.nodes is None and wish.ranges is None:
        return Reach(internet=wish.internet)
    ranges = tuple(dict.fromkeys(wish.ranges or ()))
    ids = tuple(
        dict.fromkeys(forward_rows.find_node_id(connection, network_id, each) for each in wish.nodes or ())
    )
    if not ids and not ranges and not wish.internet:
        raise ConfigError("a client that may reach nothing is of no use: name nodes or ranges, or disable it")
    if max(len(ids), len(ranges)) > MAX_REACHED:
        raise ConfigError(
            f"a client is given at most {MAX_REACHED} nodes and {MAX_REACHED} ranges one by one"
        )
    published = _published(connection, network_id)
    for prefix in ranges:
        check_reachable(prefix, read_ranges(connection, network_id), published)
    return Reach(everything=False, nodes=ids, ranges=ranges, internet=wish.internet)


def _published(connection: Connection, network_id: str) -> list[Prefix]:
    """Ranges behind gateways, as others see them."""
    rows = forward_rows.list_forwards(connection, network_id)
    found = (row.forward.range for row in rows if row.approved_at is not None and row.group_id is None)
    return list(dict.fromkeys(range_ for range_ in found if not is_default(range_)))


@dataclass(frozen=True, slots=True)
class ClientEdit:
    """`changes`: name, disabled, expires_at, reach (a ReachWish), or public_key with key_by."""

    changes: Mapping[str, Any]


def edit_client(
    connection: Connection, network_id: str, wanted: str, edit: ClientEdit, now: float
) -> ClientRow:
    """Gateways hear of it within a second. Raises ConfigError, Refusal `not_found`, `name_in_use`,
    `key_in_use`.
    """
    lock_network(connection, network_id)
    before, values = find_client(connection, network_id, wanted), dict(edit.changes)
    if "name" in values and values["name"] != before.name:
        _check_name(connection, network_id, values["name"])
    if "disabled" in values:
        values["disabled_at"] = (before.disabled_at or now) if values.pop("disabled") else None
    if "expires_at" in values:
        is_over = values["expires_at"] is not None and values["expires_at"] <= now
        values["expired_at"] = (before.expired_at or now) if is_over else None
    if "reach" in values:
        values["reach"] = resolve_reach(connection, network_id, values["reach"]).to_json()
    if "public_key" in values:
        _check_key(connection, values["public_key"], before.id)
        group = ingress.find_group(connection, network_id, before.group_id)
        values["group_key"] = bytes(_key_of(group))
        values["public_key"] = bytes(values["public_key"])
        connection.execute(delete(client_links).where(client_links.c.client_id == before.id))
    if values:
        connection.execute(update(clients).where(clients.c.id == before.id).values(**values))
    after = find_client(connection, network_id, before.id)
    if after != before:
        ingress.bump(connection, network_id, after.group_id, now)
    return after


def remove_client(connection: Connection, network_id: str, wanted: str, now: float) -> ClientRow:
    """Raises Refusal `not_found`."""
    lock_network(connection, network_id)
    row = find_client(connection, network_id, wanted)
    _drop(connection, [row.id])
    release_addresses(connection, row.id, now)
    ingress.bump(connection, network_id, row.group_id, now)
    return row


def _drop(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(delete(client_links).where(client_links.c.client_id.in_(ids)))
    connection.execute(delete(client_sightings).where(client_sightings.c.client_id.in_(ids)))
    connection.execute(delete(clients).where(clients.c.id.in_(ids)))


def delete_clients(connection: Connection, network_id: str) -> None:
    """All of a network that goes, and its ingress groups."""
    mine = select(clients.c.id).where(clients.c.network_id == network_id)
    connection.execute(delete(client_links).where(client_links.c.client_id.in_(mine)))
    connection.execute(delete(client_sightings).where(client_sightings.c.client_id.in_(mine)))
    connection.execute(delete(clients).where(clients.c.network_id == network_id))
    groups = select(ingress_groups.c.id).where(ingress_groups.c.network_id == network_id)
    connection.execute(delete(ingress_gateways).where(ingress_gateways.c.group_id.in_(groups)))
    connection.execute(delete(ingress_groups).where(ingress_groups.c.network_id == network_id))


def expire_due(connection: Connection, now: float, limit: int) -> list[tuple[ClientRow, ClientRow]]:
    """Keep those out whose time is over → each as it was, and as it is."""
    due = (clients.c.expires_at <= now) & clients.c.expired_at.is_(None)
    asked = select(clients.c.network_id, clients.c.id).where(due).order_by(clients.c.network_id).limit(limit)
    found, done = connection.execute(asked).all(), []
    for network_id in dict.fromkeys(row.network_id for row in found):
        lock_network(connection, network_id)
    groups = set()
    for each in found:
        mine = (clients.c.id == each.id) & due
        if connection.execute(update(clients).where(mine).values(expired_at=now)).rowcount:
            after = find_client(connection, each.network_id, each.id)
            done.append((replace(after, expired_at=None), after))
            groups.add((each.network_id, after.group_id))
    for network_id, group_id in sorted(groups):
        ingress.bump(connection, network_id, group_id, now)
    return done


# --- what a client's file says --------------------------------------------------------------------


def read_file(connection: Connection, row: ClientRow) -> ClientFile:
    """Raises Refusal `not_ready`."""
    network = connection.execute(select(networks).where(networks.c.id == row.network_id)).one()
    group = ingress.find_group(connection, row.network_id, row.group_id)
    servers = [str(prefix.network_address) for prefix in group.addresses] if group.dns else []
    reached = [*(group.addresses if group.dns else ())]
    if row.reach.everything:
        reached += [*read_ranges(connection, row.network_id), *_published(connection, row.network_id)]
    else:
        mine = nodes.c.id.in_(row.reach.nodes)
        for texts in connection.execute(select(nodes.c.addresses).where(mine)).scalars():
            reached += map(ipaddress.ip_network, texts)
        reached += row.reach.ranges
    if row.reach.internet:
        reached += EXIT_RANGES
    return ClientFile(
        addresses=row.addresses,
        servers=(*servers, network.suffix) if servers else (),
        mtu=network.mtu,
        peer=_key_of(group),
        allowed_ips=allowed_prefixes(reached),
        endpoint=group.endpoint,
        keepalive=network.keepalive or DEFAULT_KEEPALIVE,
    )


# --- what gateways ask and tell -------------------------------------------------------------------


def read_group(connection: Connection, network_id: str, node_id: str, now: float) -> Group:
    """All that a gateway has to know of its group. Raises Refusal `not_found`."""
    group = ingress.find_group_of(connection, network_id, node_id)
    keys = ingress.read_keys(connection, group.id)
    mine = (clients.c.group_id == group.id) & clients.c.disabled_at.is_(None) & clients.c.expired_at.is_(None)
    rows = connection.execute(select(*_COLUMNS).select_from(_JOINED).where(mine).order_by(clients.c.id))
    allowed = [row for row in map(_row, rows) if row.expires_at is None or row.expires_at > now]
    return Group(
        id=group.id,
        name=group.name,
        version=group.version,
        listen_port=group.listen_port,
        addresses=group.addresses,
        ranges=group.ranges,
        dns=group.dns,
        public_key=group.public_key,
        sealed=keys[node_id][1],
        wanting={id_: MachinePublicKey(key) for id_, (key, sealed) in keys.items() if sealed is None},
        clients=tuple(_wire_client(row, now) for row in allowed),
    )


def _wire_client(row: ClientRow, now: float) -> Client:
    left = None if row.expires_at is None else max(1, int(row.expires_at - now))
    return Client(row.id, row.public_key, row.addresses, row.reach, left)


def take_sightings(
    connection: Connection, network_id: str, node_id: str, sightings: Iterable[Sighting], now: float
) -> None:
    """What a gateway says of its clients. Traffic to them comes by the gateway where most of them are."""
    told = {each.client: each for each in sightings}
    if not told:
        return
    lock_network(connection, network_id)
    gateway = ingress_gateways.c.node_id == node_id
    group_id = connection.execute(select(ingress_gateways.c.group_id).where(gateway)).scalar_one_or_none()
    mine = (clients.c.group_id == group_id) & clients.c.id.in_(told)
    known = connection.execute(select(clients.c.id).where(mine)).scalars().all()
    if not known:
        return
    theirs = (client_sightings.c.node_id == node_id) & client_sightings.c.client_id.in_(known)
    connection.execute(delete(client_sightings).where(theirs))
    connection.execute(
        insert(client_sightings),
        [
            {
                "client_id": id_,
                "node_id": node_id,
                "handshake_at": now - told[id_].handshake_age,
                "endpoint": str(told[id_].endpoint or ""),
                "rx_bytes": told[id_].rx_bytes,
                "tx_bytes": told[id_].tx_bytes,
                "at": now,
            }
            for id_ in known
        ],
    )
    if not _follow_clients(connection, network_id, str(group_id), now):
        note(connection, network_id)


def _follow_clients(connection: Connection, network_id: str, group_id: str, now: float) -> bool:
    """Elect the gateway where the clients are → whether that is another one."""
    joined = client_sightings.join(clients, clients.c.id == client_sightings.c.client_id)
    recent = (clients.c.group_id == group_id) & (client_sightings.c.handshake_at > now - SESSION_TIME)
    rows = connection.execute(
        select(client_sightings.c.client_id, client_sightings.c.node_id)
        .select_from(joined)
        .where(recent)
        .order_by(client_sightings.c.handshake_at)
    )
    latest: dict[str, str] = {row.client_id: row.node_id for row in rows}
    mine = forwards.c.group_id == group_id
    elected = (
        connection.execute(
            select(forwards.c.node_id).where(mine, forwards.c.elected).order_by(forwards.c.range)
        )
        .scalars()
        .first()
    )
    winner = crowded_gateway(elected, latest)
    if winner is None or winner == elected:
        return False
    count = select(func.count()).select_from(forwards).where(mine, forwards.c.node_id == winner)
    if not connection.execute(count).scalar():
        return False  # it is no gateway any more
    connection.execute(update(forwards).where(mine).values(elected=forwards.c.node_id == winner))
    touched = sorted({winner, elected} - {None})  # type: ignore[type-var]
    record_change(connection, network_id, [(Kind.NODE, str(id_)) for id_ in touched], now)
    return True
