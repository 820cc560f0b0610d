"""Relays: made, listed, removed; they are part of every network's map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from coordinator.errors import Refusal
from coordinator.names import is_node_id
from coordinator.store.networks import change_all_networks
from coordinator.store.tables import networks, nodes, relays, removed_nodes
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import is_coordinator_url, is_label
from wgpy.mesh.relay_ticket import TICKET_AGE
from wgpy.mesh.relays import MAX_HOSTS, MAX_RELAYS, MAX_REMOVED, is_relay_host
from wgpy.mesh.signing import RelayPublicKey

OWN_NAME: Final = "coordinator"
"""Of the relay that `serve` itself runs."""
REMEMBERED_AGE: Final = TICKET_AGE + 86400.0
"""Seconds for which relays are told of a removed node: for longer than its tickets live."""


@dataclass(frozen=True, slots=True)
class RelayRow:
    """A relay. `is_own`: `serve` runs it."""

    id: str
    name: str
    key: RelayPublicKey
    hosts: tuple[str, ...]
    url: str | None
    is_own: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class RelayWish:
    """What an admin asks for. `hosts` are HOST:PORT of its UDP, `url` its TLS side."""

    name: str
    hosts: tuple[str, ...]
    url: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not is_label(self.name) or is_node_id(self.name):
            expected = "a relay's name is a DNS label (a-z, 0-9, inner hyphens), such as paris"
            raise ConfigError(f"{expected}; got {self.name[:64]!r}")
        if not 1 <= len(self.hosts) <= MAX_HOSTS:
            raise ConfigError(f"a relay has 1 to {MAX_HOSTS} endpoints; got {len(self.hosts)}")
        for host in self.hosts:
            if not is_relay_host(host):
                raise ConfigError(f"a relay's endpoint is HOST:PORT; got {re.sub(r'[^ -~]', '?', host[:64])}")
        if self.url is not None and not is_coordinator_url(self.url):
            raise ConfigError("a relay's URL is https://HOST or https://HOST:PORT and nothing more")


def _relay_row(row: Any) -> RelayRow:
    hosts = tuple(row.hosts)
    return RelayRow(
        row.id, row.name, RelayPublicKey(row.public_key), hosts, row.url, row.is_own, row.created_at
    )


def list_relays(connection: Connection) -> list[RelayRow]:
    """In the order of every map."""
    statement = select(relays).order_by(relays.c.created_at, relays.c.id)
    return [_relay_row(row) for row in connection.execute(statement)]


def find_relay(connection: Connection, wanted: str) -> RelayRow:
    """A relay by name or id. Raises Refusal `not_found`."""
    for row in list_relays(connection):
        if wanted in (row.id, row.name):
            return row
    raise Refusal("not_found", f"no relay is called {wanted[:64]!r}: see `wgpy coordinator relay list`")


def create_relay(connection: Connection, wish: RelayWish, key: RelayPublicKey, now: float) -> RelayRow:
    """Raises Refusal `name_in_use`, `busy`."""
    return _add(connection, RelayRow(key.id, wish.name, key, wish.hosts, wish.url, False, now))


def _add(connection: Connection, made: RelayRow) -> RelayRow:
    existing = list_relays(connection)
    if any(row.name == made.name for row in existing):
        raise Refusal("name_in_use", f"a relay named {made.name!r} exists: remove it, or take another name")
    if len(existing) >= MAX_RELAYS:
        raise Refusal("conflict", f"a coordinator has at most {MAX_RELAYS} relays: remove one")
    connection.execute(
        insert(relays).values(
            id=made.id,
            name=made.name,
            public_key=bytes(made.key),
            hosts=list(made.hosts),
            url=made.url,
            is_own=made.is_own,
            created_at=made.created_at,
        )
    )
    change_all_networks(connection, made.created_at)
    return made


def remove_relay(connection: Connection, wanted: str, now: float) -> RelayRow:
    """By name or id. Raises Refusal `not_found`."""
    found = find_relay(connection, wanted)
    connection.execute(delete(relays).where(relays.c.id == found.id))
    change_all_networks(connection, now)
    return found


def set_own_relay(
    connection: Connection, key: RelayPublicKey | None, hosts: Sequence[str], url: str | None, now: float
) -> bool:
    """`serve` runs this relay, None: none → whether that is news."""
    own = next((row for row in list_relays(connection) if row.is_own), None)
    if key is None:
        if own is not None:
            remove_relay(connection, own.id, now)
        return own is not None
    if own is not None and own.key == key:
        if (own.hosts, own.url) == (tuple(hosts), url):
            return False
        connection.execute(update(relays).where(relays.c.id == own.id).values(hosts=list(hosts), url=url))
        change_all_networks(connection, now)
        return True
    if own is not None:
        remove_relay(connection, own.id, now)
    name = OWN_NAME
    while any(row.name == name for row in list_relays(connection)):
        name += "-own"
    _add(connection, RelayRow(key.id, name, key, tuple(hosts), url, True, now))
    return True


def read_removed(connection: Connection, since: float, now: float) -> list[tuple[str, str, float]]:
    """Nodes removed since then, as far as any ticket of theirs may still be good: network, node, when."""
    earliest = max(since, now - REMEMBERED_AGE)
    statement = (
        select(removed_nodes.c.network_id, removed_nodes.c.id, removed_nodes.c.removed_at)
        .where(removed_nodes.c.removed_at >= earliest)
        .order_by(removed_nodes.c.removed_at)
        .limit(MAX_REMOVED)
    )
    return [(row.network_id, row.id, row.removed_at) for row in connection.execute(statement)]


def read_news_stamp(connection: Connection) -> tuple[int, int]:
    """Another one than before whenever a node was disabled, let in again, or its time was over."""
    statement = select(func.count(), func.coalesce(func.sum(networks.c.revision), 0)).select_from(networks)
    count, revisions = connection.execute(statement).one()
    return int(count), int(revisions)


def read_kept_out(connection: Connection, now: float) -> list[tuple[str, str]]:
    """Members that are disabled, or whose time is over, the latest first, as far as any ticket of theirs may
    still be good: network, node.
    """
    since = func.coalesce(nodes.c.disabled_at, nodes.c.expired_at)
    statement = (
        select(nodes.c.network_id, nodes.c.id)
        .where(since >= now - REMEMBERED_AGE)
        .order_by(since.desc(), nodes.c.id)
        .limit(MAX_REMOVED)
    )
    return [(row.network_id, row.id) for row in connection.execute(statement)]
