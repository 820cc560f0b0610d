"""The change log: a network's revision and what each step of it touched.

A change takes the next revision by `UPDATE … RETURNING` under the network's row lock, in the transaction that
makes it: commit order is revision order, without holes. Each revision has at least one row here, so that a
gap at the old end can only mean that the log was trimmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from coordinator.netmap import Changes
from coordinator.store.database import CHANGED
from coordinator.store.prepared import Prepared
from coordinator.store.tables import change_log, networks

LOG_AGE: Final = 7 * 86400.0
LOG_ROWS: Final = 100_000


class Kind(StrEnum):
    NODE = "node"
    NETWORK = "network"
    VISIBILITY = "visibility"


_IS_IT: Final = networks.c.id == bindparam("network")
_LOCK: Final = Prepared(select(networks.c.id).where(_IS_IT).with_for_update())
_LOG: Final = Prepared(insert(change_log))
_NEXT_REVISION: Final = Prepared(
    update(networks).where(_IS_IT).values(revision=networks.c.revision + 1).returning(networks.c.revision)
)
_NEXT_NOTICE: Final = Prepared(update(networks).where(_IS_IT).values(notices=networks.c.notices + 1))


def lock_network(connection: Connection, network_id: str) -> bool:
    """Hold the network's row until the transaction ends, so that changes of one network come one after the
    other.

    False when it is gone. Every change takes this lock first: no two wait for each other.
    """
    return _LOCK.first(connection, network=network_id) is not None


def record_change(
    connection: Connection, network_id: str, changes: Iterable[tuple[Kind, str]], now: float
) -> int:
    """Take the network's next revision for this transaction and log what it touches → the revision."""
    touched = list(changes)
    if not touched:
        raise ValueError("a revision that touches nothing would be a hole in the log")
    revision: int = _NEXT_REVISION.scalar(connection, network=network_id)
    for kind, entity in touched:
        _LOG.run(connection, network_id=network_id, revision=revision, kind=kind.value, entity=entity, at=now)
    connection.info[CHANGED].add(network_id)
    return revision


def note(connection: Connection, network_id: str) -> None:
    """Something changed that no map shows: admins who look at the network hear of it, nodes do not."""
    _NEXT_NOTICE.run(connection, network=network_id)
    connection.info[CHANGED].add(network_id)


def read_changes(connection: Connection, network_id: str, since: int, revision: int) -> Changes:
    """What was touched in (since, revision]."""
    mine = change_log.c.network_id == network_id
    rows = connection.execute(
        select(change_log.c.revision, change_log.c.kind, change_log.c.entity).where(
            mine, change_log.c.revision > since, change_log.c.revision <= revision
        )
    ).all()
    first = min((row.revision for row in rows), default=None)
    return Changes(
        since=since,
        revision=revision,
        complete=since == revision or first == since + 1,
        nodes=frozenset(row.entity for row in rows if row.kind == Kind.NODE),
        network=any(row.kind == Kind.NETWORK for row in rows),
        visibility=any(row.kind == Kind.VISIBILITY for row in rows),
    )


def trim_log(connection: Connection, now: float, age: float = LOG_AGE, rows: int = LOG_ROWS) -> int:
    """Drop what is older than `age` seconds or beyond the newest `rows` of a network → how many rows went.

    Only whole revisions go, and only from the old end.
    """
    gone = 0
    heads = connection.execute(
        select(change_log.c.network_id, func.count(), func.max(change_log.c.revision))
        .group_by(change_log.c.network_id)
        .order_by(change_log.c.network_id)
    ).all()
    for network_id, count, _newest in heads:
        mine = change_log.c.network_id == network_id
        old = select(func.max(change_log.c.revision)).where(mine, change_log.c.at < now - age)
        bound: int = connection.execute(old).scalar() or 0
        if count > rows:
            nth = select(change_log.c.revision).where(mine).order_by(change_log.c.revision.desc())
            bound = max(bound, connection.execute(nth.offset(rows).limit(1)).scalar_one())
        if bound:
            gone += connection.execute(
                delete(change_log).where(mine, change_log.c.revision <= bound)
            ).rowcount
    return gone
