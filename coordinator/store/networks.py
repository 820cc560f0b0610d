"""Networks: made, listed, edited, deleted with everything in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from coordinator.addresses import RandomSource, Taken, check_ranges, complete_ranges
from coordinator.errors import Refusal
from coordinator.names import check_network_name
from coordinator.policy import Policy
from coordinator.settings import NetworkSettings
from coordinator.store import nodes as node_rows
from coordinator.store.clients import delete_clients
from coordinator.store.database import CHANGED
from coordinator.store.joins import IS_WAITING
from coordinator.store.log import Kind, lock_network, note, record_change
from coordinator.store.prepared import Prepared
from coordinator.store.ranges import check_free, move_ranges, replaced_ranges
from coordinator.store.tables import addresses, change_log, joins, meta, networks, nodes, relays, tokens
from wgpy.addresses import Prefix
from wgpy.mesh.netmap import Network
from wgpy.mesh.relays import Relay
from wgpy.mesh.signing import RelayPublicKey


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """What an admin asks for. `settings` without a suffix: NAME.internal."""

    name: str
    ranges: tuple[Prefix, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """A network's own row. `notices` counts what no map shows."""

    network: Network
    settings: NetworkSettings
    revision: int
    notices: int
    created_at: float


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network, and how it stands: how many nodes it has, and joins that wait."""

    network: Network
    settings: NetworkSettings
    revision: int
    created_at: float
    nodes: int
    waiting: int


def _read_settings(row: Any) -> NetworkSettings:
    return NetworkSettings(
        suffix=row.suffix,
        description=row.description or "",
        mtu=row.mtu,
        keepalive=row.keepalive,
        listen_port=row.listen_port,
        keyless=row.keyless,
        approval=row.approval,
        rotate_after=row.rotate_after,
        visibility=Policy.of(row.visibility),
    )


def _read_network(row: Any, urls: Sequence[str], relays: tuple[Relay, ...]) -> Network:
    return Network(
        id=row.id,
        name=row.name,
        ranges=tuple(ipaddress.ip_network(text) for text in row.ranges),
        mtu=row.mtu,
        keepalive=row.keepalive,
        suffix=row.suffix,
        urls=tuple(urls),
        listen_port=row.listen_port,
        extra={} if row.names is None else {"names": row.names},
        relays=relays,
    )


_URLS: Final = Prepared(select(meta.c.urls))
_ONE: Final = Prepared(select(networks).where(networks.c.id == bindparam("network")))
_RELAYS: Final = Prepared(select(relays).order_by(relays.c.created_at, relays.c.id))
"""In the order of every map."""


def read_urls(connection: Connection) -> tuple[str, ...]:
    return tuple(_URLS.scalar(connection))


def read_standing(connection: Connection, network_id: str) -> Standing | None:
    row = _ONE.first(connection, network=network_id)
    if row is None:
        return None
    network = _read_network(row, read_urls(connection), read_relays(connection))
    return Standing(network, _read_settings(row), row.revision, row.notices, row.created_at)


def list_networks(connection: Connection) -> list[NetworkRow]:
    urls, relays = read_urls(connection), read_relays(connection)
    count = select(func.count()).where(nodes.c.network_id == networks.c.id).scalar_subquery()
    asking = select(func.count()).where(joins.c.network_id == networks.c.id, IS_WAITING).scalar_subquery()
    rows = connection.execute(
        select(networks, count.label("nodes"), asking.label("waiting")).order_by(networks.c.name)
    )
    return [
        NetworkRow(
            _read_network(row, urls, relays),
            _read_settings(row),
            row.revision,
            row.created_at,
            row.nodes,
            row.waiting,
        )
        for row in rows
    ]


def find_network(connection: Connection, name: str) -> NetworkRow:
    """A network by name or id. Raises Refusal `not_found`, which names those that there are."""
    found = list_networks(connection)
    for row in found:
        if name in (row.network.name, row.network.id):
            return row
    names = ", ".join(row.network.name for row in found[:8])
    hint = f"there is {names}" if found else "make it with `wgpy coordinator network create`"
    raise Refusal("not_found", f"no network has the name {name[:64]!r}: {hint}")


def find_network_id(connection: Connection, name: str, sees: Callable[[str], bool]) -> str:
    """The id of a network by name or id, of those that the asker may know of. Raises Refusal `not_found`."""
    rows = connection.execute(select(networks.c.id, networks.c.name).order_by(networks.c.name)).all()
    found = [row for row in rows if sees(row.id)]
    for row in found:
        if name in (row.name, row.id):
            return str(row.id)
    names = ", ".join(row.name for row in found[:8])
    hint = f"there is {names}" if found else "make it with `wgpy coordinator network create`"
    raise Refusal("not_found", f"no network has the name {name[:64]!r}: {hint}")


def create_network(
    connection: Connection, wish: NetworkWish, rng: RandomSource, now: float, taken: Sequence[Taken] = ()
) -> NetworkRow:
    """Make a network; a family without a range gets one. `taken` are ranges of this host's own.

    Raises ConfigError, Refusal `name_in_use`, `range_in_use`.
    """
    existing = list_networks(connection)
    _check_name(wish.name, existing)
    asked: dict[str, Any] = {"suffix": f"{wish.name}.internal", **wish.settings}
    settings = NetworkSettings(**asked)
    check_ranges(wish.ranges)
    used = [*_ranges_of(existing), *taken]
    check_free(wish.ranges, used, "a host in both could not tell them apart; take another range")
    ranges = complete_ranges(wish.ranges, [other.prefix for other in used], rng)
    plain = Network(
        rng.randbytes(16).hex(), wish.name, ranges, 0, 0, "", read_urls(connection),
        relays=read_relays(connection),
    )  # fmt: skip
    network = settings.in_maps(plain)
    connection.execute(
        insert(networks).values(
            id=network.id,
            name=network.name,
            ranges=[str(prefix) for prefix in ranges],
            revision=0,
            created_at=now,
            **settings.to_json(),
        )
    )
    revision = record_change(connection, network.id, [(Kind.NETWORK, network.id)], now)
    return NetworkRow(network, settings, revision, now, 0, 0)


def _check_name(name: str, others: Sequence[NetworkRow]) -> None:
    """Raises ConfigError, Refusal `name_in_use`."""
    check_network_name(name)
    if any(row.network.name == name for row in others):
        raise Refusal("name_in_use", f"a network named {name!r} exists: use it, or take another name")


def _ranges_of(rows: Sequence[NetworkRow]) -> list[Taken]:
    return [Taken(prefix, f"network {row.network.name}") for row in rows for prefix in row.network.ranges]


@dataclass(frozen=True, slots=True)
class NetworkChanges:
    """What an admin changes of a network. `settings` are fields of `NetworkSettings`; `ranges` take the place
    of those of their family.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    ranges: tuple[Prefix, ...] = ()


def edit_network(
    connection: Connection, name: str, changes: NetworkChanges, now: float, taken: Sequence[Taken] = ()
) -> NetworkRow:
    """Change a network; what is left out stays. Nodes hear of what concerns them. `taken` as for a new one.

    Raises ConfigError, Refusal `not_found`, `name_in_use`, `range_in_use`, `address_in_use`.
    """
    lock_network(connection, find_network(connection, name).network.id)
    before = find_network(connection, name)
    network_id = before.network.id
    settings = replace(before.settings, **changes.settings)
    network = settings.in_maps(before.network)
    others = [row for row in list_networks(connection) if row.network.id != network_id]
    if changes.name not in (None, network.name):
        _check_name(changes.name, others)
        network = replace(network, name=changes.name)
        connection.execute(update(networks).where(networks.c.id == network_id).values(name=changes.name))
    ranges = replaced_ranges(network.ranges, changes.ranges)
    if ranges != network.ranges:
        used = [*_ranges_of(others), *taken]
        move_ranges(connection, network_id, network.ranges, ranges, taken=used, now=now)
        network = replace(network, ranges=ranges)
    if (settings, network) == (before.settings, before.network):
        return before
    connection.execute(update(networks).where(networks.c.id == network_id).values(**settings.to_json()))
    logged = []
    if network != before.network:
        logged.append((Kind.NETWORK, network_id))
    if settings.visibility != before.settings.visibility:
        logged.append((Kind.VISIBILITY, network_id))
    if logged:
        record_change(connection, network_id, logged, now)
    else:
        note(connection, network_id)
    return find_network(connection, network_id)


def delete_network(connection: Connection, name: str, now: float) -> NetworkRow:
    """Remove all of its nodes, then the network. Raises Refusal `not_found`."""
    found = find_network(connection, name)
    network_id = found.network.id
    lock_network(connection, network_id)
    for node_id in (
        connection.execute(select(nodes.c.id).where(nodes.c.network_id == network_id)).scalars().all()
    ):
        node_rows.bury_node(connection, network_id, node_id, now)
    delete_clients(connection, network_id)
    for table in (addresses, tokens, joins, change_log):
        connection.execute(delete(table).where(table.c.network_id == network_id))
    connection.execute(delete(networks).where(networks.c.id == network_id))
    connection.info[CHANGED].add(network_id)
    return found


def set_urls(connection: Connection, urls: Sequence[str], now: float) -> bool:
    """Where nodes reach the coordinator from now on → whether that is news. It is part of every network's
    map.
    """
    if read_urls(connection) == tuple(urls):
        return False
    connection.execute(update(meta).values(urls=list(urls)))
    change_all_networks(connection, now)
    return True


def change_all_networks(connection: Connection, now: float) -> None:
    """Something changed that is part of every network's map."""
    for network_id in connection.execute(select(networks.c.id).order_by(networks.c.id)).scalars().all():
        record_change(connection, network_id, [(Kind.NETWORK, network_id)], now)


def read_relays(connection: Connection) -> tuple[Relay, ...]:
    """In the order of every map."""
    return tuple(
        Relay(row.id, row.name, RelayPublicKey(row.public_key), tuple(row.hosts), row.url)
        for row in _RELAYS.all(connection)
    )


def read_revisions(connection: Connection, network_ids: Sequence[str]) -> dict[str, int]:
    """The revisions of those of the networks that still exist."""
    statement = select(networks.c.id, networks.c.revision).where(networks.c.id.in_(network_ids))
    return {row.id: row.revision for row in connection.execute(statement)}
