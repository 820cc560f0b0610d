"""The fast lane's rows: endpoints and leases, written in batches, never in the change log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.store.database import MOVED
from coordinator.store.tables import endpoints, leases, nodes
from wgpy.addresses import Endpoint


@dataclass(frozen=True, slots=True)
class EndpointsRow:
    """What a node reported last: of two reports the larger (boot, sequence) is the truth."""

    node_id: str
    network_id: str
    boot: int
    sequence: int
    endpoints: tuple[Endpoint, ...]
    updated_at: float


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """The node is connected to this process, or was heard by it, and counts as online until then."""

    node_id: str
    process: str
    until: float


def _upsert(connection: Connection, table: Table) -> Any:
    """Both dialects know INSERT … ON CONFLICT, each by its own construct."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def flush_presence(
    connection: Connection,
    reports: Sequence[EndpointsRow],
    held: Sequence[LeaseRow],
    moved: Collection[str] = (),
) -> None:
    """Write what came in since the last flush. Reports of nodes that are gone meanwhile are left out.

    Of the networks `moved` other processes hear at once, of others when they look.
    """
    connection.info[MOVED].update(moved)
    ids = {row.node_id for row in reports} | {row.node_id for row in held}
    if not ids:
        return
    alive = set(connection.execute(select(nodes.c.id).where(nodes.c.id.in_(sorted(ids)))).scalars())
    values = [
        {
            "node_id": row.node_id,
            "network_id": row.network_id,
            "boot": row.boot,
            "sequence": row.sequence,
            "endpoints": [str(endpoint) for endpoint in row.endpoints],
            "updated_at": row.updated_at,
        }
        for row in sorted(reports, key=lambda row: row.node_id)
        if row.node_id in alive
    ]
    if values:
        statement = _upsert(connection, endpoints)
        new = statement.excluded
        newer = or_(
            endpoints.c.boot < new.boot,
            (endpoints.c.boot == new.boot) & (endpoints.c.sequence < new.sequence),
        )
        written = {name: new[name] for name in ("boot", "sequence", "endpoints", "updated_at")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["node_id"], set_=written, where=newer), values
        )
    renewed = [
        {"node_id": row.node_id, "process": row.process, "until": row.until}
        for row in sorted(held, key=lambda row: row.node_id)
        if row.node_id in alive
    ]
    if renewed:
        statement = _upsert(connection, leases)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["node_id", "process"], set_={"until": statement.excluded.until}
            ),
            renewed,
        )


def _endpoints_row(row: Any) -> EndpointsRow:
    found = tuple(Endpoint.parse(text) for text in row.endpoints)
    return EndpointsRow(row.node_id, row.network_id, row.boot, row.sequence, found, row.updated_at)


def read_presence(
    connection: Connection, network_id: str, now: float
) -> tuple[list[EndpointsRow], dict[str, float]]:
    """All reports of a network, and until when each of its nodes has a lease, from any process."""
    rows = connection.execute(select(endpoints).where(endpoints.c.network_id == network_id))
    reports = [_endpoints_row(row) for row in rows]
    statement = (
        select(leases.c.node_id, leases.c.until)
        .join(nodes, nodes.c.id == leases.c.node_id)
        .where(nodes.c.network_id == network_id, leases.c.until > now)
    )
    until: dict[str, float] = {}
    for row in connection.execute(statement):
        until[row.node_id] = max(until.get(row.node_id, 0.0), row.until)
    return reports, until


def read_presence_elsewhere(
    connection: Connection, network_ids: Sequence[str], process: str, now: float
) -> tuple[list[EndpointsRow], dict[str, tuple[str, float]]]:
    """Reports of the last minute, and network and end of each lease that other processes hold or just held.

    A minute, because the clocks of two machines differ, and a report that was read twice does no harm.
    """
    recent = (endpoints.c.network_id.in_(network_ids), endpoints.c.updated_at > now - 60)
    reports = [_endpoints_row(row) for row in connection.execute(select(endpoints).where(*recent))]
    statement = (
        select(leases.c.node_id, nodes.c.network_id, func.max(leases.c.until).label("until"))
        .join(nodes, nodes.c.id == leases.c.node_id)
        .where(nodes.c.network_id.in_(network_ids), leases.c.process != process, leases.c.until > now - 60)
        .group_by(leases.c.node_id, nodes.c.network_id)
    )
    return reports, {row.node_id: (row.network_id, row.until) for row in connection.execute(statement)}


def drop_old_leases(connection: Connection, now: float) -> None:
    connection.execute(delete(leases).where(leases.c.until < now - 3600))
