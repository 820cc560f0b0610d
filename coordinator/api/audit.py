"""The audit log, to look through and to take away."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.responses import StreamingResponse

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Query
from coordinator.errors import Refusal
from coordinator.store.audit import AuditQuery, AuditRow, read_audit

BATCH: Final = 500
"""Entries that an export holds in memory at once."""


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


def _query_of(call: Call[None]) -> AuditQuery:
    return AuditQuery(
        actor=call.query("actor"),
        action=call.query("action"),
        subject=call.query("subject"),
        text=call.query("text"),
        since=call.number("since"),
        until=call.number("until"),
    )


async def list_audit(call: Call[None]) -> Entries:
    limit, after = call.limit(), call.number("after")
    rows = await call.read(read_audit, _query_of(call), after, limit)
    return Entries([_entry_of(row) for row in rows], str(rows[-1].id) if len(rows) == limit else None)


# --- taken away ---


def _as_ndjson(entries: Iterable[Entry]) -> bytes:
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def _as_csv(entries: Iterable[Entry]) -> bytes:
    """RFC 4180. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    for entry in entries:
        cells = [_cell_of(getattr(entry, name)) for name in Entry.__struct_fields__]
        lines.writerow("'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells)
    return text.getvalue().encode()


def _cell_of(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return "" if value is None else str(value)


_FORMS: Final[dict[str, tuple[str, bytes, Callable[[Iterable[Entry]], bytes]]]] = {
    "ndjson": ("application/x-ndjson", b"", _as_ndjson),
    "csv": ("text/csv; charset=utf-8", ",".join(Entry.__struct_fields__).encode() + b"\r\n", _as_csv),
}


async def export_audit(call: Call[None]) -> StreamingResponse:
    form = call.query("format") or "ndjson"
    if form not in _FORMS:
        raise Refusal("malformed", "format: expected ndjson or csv, got something else")
    media_type, head, encode = _FORMS[form]
    query = _query_of(call)

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        before = None
        while True:
            rows = await call.read(read_audit, query, before, BATCH)
            yield encode(map(_entry_of, rows))
            if len(rows) < BATCH or not await call.is_still_allowed():
                return
            before = rows[-1].id

    name = f'attachment; filename="audit.{form}"'
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", "content-disposition": name}
    return StreamingResponse(pieces(), headers=headers, media_type=media_type)


_FILTERS: Final = (
    Query("actor", "name or id of who did it"),
    Query("action", "such as key.create, or key for all of keys"),
    Query("subject", "name or id of what was changed"),
    Query("text", "part of a name, an action or an address"),
    Query("since", "Unix time, seconds", int),
    Query("until", "Unix time, seconds", int),
)

ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/admin/audit", list_audit, Needs.ADMIN, "audit.list", "Who changed what, newest first",
        gives=Entries,
        query=(
            Query("limit", "how many at most: 1 to 1000, 100 unless told", int),
            Query("after", "the `next` of the page before", int),
            *_FILTERS,
        ),
    ),
    Endpoint(
        "GET", "/v1/admin/audit/export", export_audit, Needs.ADMIN, "audit.export",
        "All of it, newest first, one entry a line",
        media=("application/x-ndjson", "text/csv"),
        query=(Query("format", "ndjson (the default) or csv"), *_FILTERS),
    ),
)  # fmt: skip
