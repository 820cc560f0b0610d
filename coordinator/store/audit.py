"""The audit log: who changed what, from where, written in the transaction of the change itself.

What is written are the readings of a thing before and after, as the API shows it, which hold no secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, or_, select

from coordinator.store.prepared import Prepared
from coordinator.store.tables import audit
from wgpy.mesh.encoding import JsonObject

AUDIT_AGE: Final = 400 * 86400.0
"""Seconds for which it is kept: a year, and a month to look back on it."""


_WRITE: Final = Prepared(insert(audit))


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, and the address that the request came from."""

    kind: str
    id: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change."""

    id: int
    at: float
    actor: Actor
    action: str
    network_id: str | None
    subject_id: str
    subject: str
    before: JsonObject | None
    after: JsonObject | None


def write_audit(
    connection: Connection,
    actor: Actor,
    action: str,
    network_id: str | None,
    now: float,
    *,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
) -> None:
    """`before` and `after` have an `id`, and a `name` if the thing has one; not both are None."""
    shown = after or before or {}
    _WRITE.run(
        connection,
        at=now,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor=actor.name,
        address=actor.address,
        action=action,
        network_id=network_id,
        subject_id=str(shown["id"]),
        subject=str(shown.get("name", shown["id"])),
        before=before,
        after=after,
    )


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is looked for; None does not matter. `text` is part of a name or an action."""

    networks: tuple[str, ...] | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None


def read_audit(connection: Connection, query: AuditQuery, before: int | None, limit: int) -> list[AuditRow]:
    """Newest first, from below the id `before` on."""
    statement = select(audit).order_by(audit.c.id.desc()).limit(limit)
    for condition in _conditions(query):
        statement = statement.where(condition)
    if before is not None:
        statement = statement.where(audit.c.id < before)
    return [_row(row) for row in connection.execute(statement)]


def _conditions(query: AuditQuery) -> Iterator[Any]:
    if query.networks is not None:
        yield audit.c.network_id.in_(query.networks)
    if query.actor is not None:
        yield or_(audit.c.actor == query.actor, audit.c.actor_id == query.actor)
    if query.action is not None:
        yield or_(
            audit.c.action == query.action, audit.c.action.startswith(query.action + ".", autoescape=True)
        )
    if query.subject is not None:
        yield or_(audit.c.subject == query.subject, audit.c.subject_id == query.subject)
    if query.text is not None:
        columns = (audit.c.actor, audit.c.action, audit.c.subject, audit.c.address)
        yield or_(*(column.icontains(query.text, autoescape=True) for column in columns))
    if query.since is not None:
        yield audit.c.at >= query.since
    if query.until is not None:
        yield audit.c.at < query.until


def _row(row: Any) -> AuditRow:
    actor = Actor(row.actor_kind, row.actor_id, row.actor, row.address)
    return AuditRow(
        row.id, row.at, actor, row.action, row.network_id, row.subject_id, row.subject, row.before, row.after
    )


def trim_audit(connection: Connection, now: float) -> None:
    connection.execute(delete(audit).where(audit.c.at < now - AUDIT_AGE))
