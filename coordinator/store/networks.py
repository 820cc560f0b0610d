"""Networks: made, listed, deleted with everything in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from coordinator.addresses import RandomSource, complete_ranges
from coordinator.errors import Refusal
from coordinator.names import check_network_name
from coordinator.store import nodes as node_rows
from coordinator.store.database import CHANGED
from coordinator.store.log import Kind, lock_network, record_change
from coordinator.store.tables import addresses, change_log, meta, networks, nodes, tokens
from wgpy.addresses import Prefix
from wgpy.errors import ConfigError
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU, Network

DEFAULT_MTU: Final = 1380
"""Leaves room for a relay's header under a 1500-octet path."""
DEFAULT_KEEPALIVE: Final = 20


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """What an admin asks for. `mtu` in octets, `keepalive` in seconds, 0 for none."""

    name: str
    ranges: tuple[Prefix, ...] = ()
    mtu: int = DEFAULT_MTU
    keepalive: int = DEFAULT_KEEPALIVE

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise ConfigError(f"an MTU is {MIN_MTU} to {MAX_MTU} octets; got {self.mtu}")
        if not 0 <= self.keepalive <= 65535:
            raise ConfigError(f"a keepalive is 0 (none) to 65535 seconds; got {self.keepalive}")


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network, and how it stands."""

    network: Network
    revision: int
    created_at: float
    nodes: int


def _read_network(row: Any, urls: Sequence[str]) -> Network:
    return Network(
        id=row.id,
        name=row.name,
        ranges=tuple(ipaddress.ip_network(text) for text in row.ranges),
        mtu=row.mtu,
        keepalive=row.keepalive,
        suffix=row.suffix,
        urls=tuple(urls),
    )


def read_urls(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.execute(select(meta.c.urls)).scalar_one())


def read_network_by_id(connection: Connection, network_id: str) -> tuple[Network, int] | None:
    """A network and its revision."""
    row = connection.execute(select(networks).where(networks.c.id == network_id)).one_or_none()
    return None if row is None else (_read_network(row, read_urls(connection)), row.revision)


def list_networks(connection: Connection) -> list[NetworkRow]:
    urls = read_urls(connection)
    count = select(func.count()).where(nodes.c.network_id == networks.c.id).scalar_subquery()
    rows = connection.execute(select(networks, count.label("nodes")).order_by(networks.c.name))
    return [NetworkRow(_read_network(row, urls), row.revision, row.created_at, row.nodes) for row in rows]


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


def create_network(connection: Connection, wish: NetworkWish, rng: RandomSource, now: float) -> NetworkRow:
    """Make a network; a family without a range gets one. Raises ConfigError, Refusal `name_in_use`."""
    check_network_name(wish.name)
    existing = list_networks(connection)
    if any(row.network.name == wish.name for row in existing):
        raise Refusal("name_in_use", f"a network named {wish.name!r} exists: use it, or take another name")
    in_use = [prefix for row in existing for prefix in row.network.ranges]
    network = Network(
        id=rng.randbytes(16).hex(),
        name=wish.name,
        ranges=complete_ranges(wish.ranges, in_use, rng),
        mtu=wish.mtu,
        keepalive=wish.keepalive,
        suffix=f"{wish.name}.internal",
        urls=read_urls(connection),
    )
    values = network.to_json()
    del values["coordinator"]
    connection.execute(insert(networks).values(**values, revision=0, created_at=now))
    revision = record_change(connection, network.id, [(Kind.NETWORK, network.id)], now)
    return NetworkRow(network, revision, now, 0)


def delete_network(connection: Connection, name: str, now: float) -> NetworkRow:
    """Remove all of its nodes, then the network. Raises Refusal `not_found`."""
    found = find_network(connection, name)
    network_id = found.network.id
    lock_network(connection, network_id)
    for node_id in (
        connection.execute(select(nodes.c.id).where(nodes.c.network_id == network_id)).scalars().all()
    ):
        node_rows.bury_node(connection, network_id, node_id, now)
    for table in (addresses, tokens, change_log):
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
    for network_id in connection.execute(select(networks.c.id).order_by(networks.c.id)).scalars().all():
        record_change(connection, network_id, [(Kind.NETWORK, network_id)], now)
    return True


def read_revisions(connection: Connection, network_ids: Sequence[str]) -> dict[str, int]:
    """The revisions of those of the networks that still exist."""
    statement = select(networks.c.id, networks.c.revision).where(networks.c.id.in_(network_ids))
    return {row.id: row.revision for row in connection.execute(statement)}
