"""What the feed reads: a network's rows at one revision, whole or as far as they changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from coordinator.netmap import Member, Snapshot, Step
from coordinator.store.forwards import read_forwards
from coordinator.store.ingress import read_marks
from coordinator.store.log import read_changes
from coordinator.store.networks import read_standing
from coordinator.store.nodes import read_record
from coordinator.store.tables import meta, nodes
from wgpy.mesh.forward import Forward
from wgpy.mesh.ingress import Mark

_MEMBER = (
    nodes.c.id,
    nodes.c.name,
    nodes.c.key_epoch,
    nodes.c.record,
    nodes.c.visible_from,
    nodes.c.tags,
    nodes.c.disabled_at,
    nodes.c.expired_at,
    nodes.c.rotation_wanted_at,
)

_BATCH = 500
"""Ids in one statement: SQLite takes a bounded number of parameters."""


def read_epoch(connection: Connection) -> str:
    return str(connection.execute(select(meta.c.epoch)).scalar_one())


def _member(row: Any, forwards: Mapping[str, tuple[Forward, ...]], marks: Mapping[str, Mark]) -> Member:
    return Member(
        row.id,
        row.name,
        row.key_epoch,
        read_record(row.record),
        row.visible_from,
        tags=frozenset(row.tags or ()),
        is_disabled=row.disabled_at is not None or row.expired_at is not None,
        forwards=forwards.get(row.id, ()),
        needs_key=row.rotation_wanted_at is not None,
        mark=marks.get(row.id),
    )


def read_snapshot(connection: Connection, network_id: str) -> Snapshot | None:
    """All of a network; None when there is none."""
    found = read_standing(connection, network_id)
    if found is None:
        return None
    rows = connection.execute(select(*_MEMBER).where(nodes.c.network_id == network_id))
    forwards, marks = read_forwards(connection, network_id), read_marks(connection, network_id)
    members = {row.id: _member(row, forwards, marks) for row in rows}
    return Snapshot(found.revision, found.network, members, found.settings.visibility, found.notices)


def read_step(connection: Connection, network_id: str, since: int) -> Step | None:
    """What changed after revision `since`; None when the network is gone."""
    found = read_standing(connection, network_id)
    if found is None:
        return None
    changes = read_changes(connection, network_id, since, found.revision)
    members = _read_members(connection, network_id, changes.nodes)
    return Step(changes, found.network, members, found.settings.visibility, found.notices)


def _read_members(connection: Connection, network_id: str, ids: Iterable[str]) -> dict[str, Member | None]:
    wanted = sorted(ids)
    members: dict[str, Member | None] = dict.fromkeys(wanted)
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        rows = connection.execute(
            select(*_MEMBER).where(nodes.c.network_id == network_id, nodes.c.id.in_(batch))
        )
        forwards = read_forwards(connection, network_id, batch)
        marks = read_marks(connection, network_id, batch)
        members.update((row.id, _member(row, forwards, marks)) for row in rows)
    return members
