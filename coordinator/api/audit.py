"""The audit log, to look through."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Query
from coordinator.store.audit import AuditQuery, AuditRow, read_audit


class Entry(msgspec.Struct):
    """One change: the thing as it was before and after, null where there was none."""

    id: int
    at: float
    actor: str
    actor_kind: str
    address: str
    action: str
    network_id: str | None
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Entries(msgspec.Struct):
    entries: list[Entry]
    next: str | None


def _entry_of(row: AuditRow) -> Entry:
    actor = row.actor
    return Entry(
        row.id, row.at, actor.name, actor.kind, actor.address, row.action, row.network_id, row.subject,
        row.before, row.after,
    )  # fmt: skip


async def list_audit(call: Call[None]) -> Entries:
    limit, after = call.limit(), call.number("after")
    query = AuditQuery(
        actor=call.query("actor"),
        action=call.query("action"),
        subject=call.query("subject"),
        text=call.query("text"),
        since=call.number("since"),
        until=call.number("until"),
    )
    rows = await call.read(read_audit, query, after, limit)
    return Entries([_entry_of(row) for row in rows], str(rows[-1].id) if len(rows) == limit else None)


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/admin/audit", list_audit, Needs.ADMIN, "audit.list", "Who changed what, newest first",
        gives=Entries,
        query=(
            Query("limit", "how many at most: 1 to 1000, 100 unless told", int),
            Query("after", "the `next` of the page before", int),
            Query("actor", "name or id of who did it"),
            Query("action", "such as key.create, or key for all of keys"),
            Query("subject", "name or id of what was changed"),
            Query("text", "part of a name, an action or an address"),
            Query("since", "Unix time, seconds", int),
            Query("until", "Unix time, seconds", int),
        ),
    ),
)  # fmt: skip
