"""What time does to nodes: those whose time is over are kept out, ephemeral ones that stay away are removed.

One process does it for all. Each function is a transaction of its own: it takes the networks' locks in one
order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from coordinator.store.audit import Actor, write_audit
from coordinator.store.clients import client_json, expire_due
from coordinator.store.jobs import Job, take_job
from coordinator.store.log import lock_network
from coordinator.store.nodes import NodeRow, find_node, node_json, remove_node, store_edit
from coordinator.store.tables import leases, networks, nodes

SWEEP_INTERVAL: Final = 5.0
SETTLE_TIME: Final = 120.0
"""Seconds after the start of a process in which no absence counts: while the coordinator was away nobody
could be heard, and nodes take up to a minute to come back.
"""
AT_ONCE: Final = 200
"""Nodes changed in one transaction, which holds up others."""

KEYS_AT_ONCE: Final = 20
"""Nodes asked for a new key in one look, so that a network does not change all of them in one second."""

_BY_TIME: Final = Actor("host", "", "coordinator", "")


def expire_nodes(connection: Connection, now: float) -> int:
    """Keep those out of all maps whose time is over → how many."""
    due = (nodes.c.expires_at <= now) & nodes.c.expired_at.is_(None)
    if not take_job(connection, Job.SWEEP):
        return 0
    expired = _locked(connection, due)
    for node in expired:
        after = replace(node, expired_at=now)
        store_edit(connection, node, after, now)
        before, shown = node_json(node), node_json(after)
        write_audit(connection, _BY_TIME, "node.expire", node.network_id, now, before=before, after=shown)
    return len(expired)


def expire_clients(connection: Connection, now: float) -> int:
    """Keep external clients out whose time is over → how many."""
    if not take_job(connection, Job.SWEEP):
        return 0
    expired = expire_due(connection, now, AT_ONCE)
    for before, after in expired:
        shown, then = client_json(before), client_json(after)
        write_audit(connection, _BY_TIME, "client.expire", after.network_id, now, before=shown, after=then)
    return len(expired)


def ask_for_keys(connection: Connection, now: float) -> int:
    """Ask nodes for a new WireGuard key whose own is as old as their network allows → how many, a few at a
    time.
    """
    if not take_job(connection, Job.SWEEP):
        return 0
    allowed = select(networks.c.rotate_after).where(networks.c.id == nodes.c.network_id).scalar_subquery()
    made_at = func.coalesce(nodes.c.key_made_at, nodes.c.joined_at)
    due = (allowed > 0) & (made_at <= now - allowed)
    due &= nodes.c.rotation_wanted_at.is_(None) & nodes.c.record.is_not(None)
    asked = _locked(connection, due, KEYS_AT_ONCE)
    for node in asked:
        store_edit(connection, node, replace(node, rotation_wanted_at=now), now)
    return len(asked)


def watch_ephemeral(connection: Connection, now: float) -> int:
    """Note of ephemeral nodes who is away, and since when → of how many that is news."""
    if not take_job(connection, Job.SWEEP):
        return 0
    ephemeral = nodes.c.ephemeral_after.is_not(None)
    is_there = exists().where(leases.c.node_id == nodes.c.id, leases.c.until > now)
    absent = nodes.c.absent_since
    moved = ephemeral & ((absent.is_not(None) & is_there) | (absent.is_(None) & ~is_there))
    found = _locked(connection, moved)
    ids = nodes.c.id.in_([node.id for node in found])
    connection.execute(update(nodes).where(ids, is_there).values(absent_since=None))
    connection.execute(update(nodes).where(ids, ~is_there, absent.is_(None)).values(absent_since=now))
    return len(found)


def remove_absent(connection: Connection, now: float) -> int:
    """Remove ephemeral nodes that were away for too long, as far as `watch_ephemeral` saw → how many."""
    if not take_job(connection, Job.SWEEP):
        return 0
    gone = _locked(connection, nodes.c.absent_since <= now - nodes.c.ephemeral_after)
    for node in gone:
        remove_node(connection, node.network_id, node.id, now)
        before = node_json(node)
        write_audit(connection, _BY_TIME, "node.vanish", node.network_id, now, before=before, after=None)
    return len(gone)


def _locked(connection: Connection, due: ColumnElement[bool], at_once: int = AT_ONCE) -> list[NodeRow]:
    """The nodes that this is true of under their networks' locks, which are taken in one order."""
    asked = select(nodes.c.network_id, nodes.c.id).order_by(nodes.c.network_id).limit(at_once)
    found = connection.execute(asked.where(due)).all()
    for network_id in dict.fromkeys(row.network_id for row in found):
        lock_network(connection, network_id)
    still = (
        connection.execute(asked.where(due, nodes.c.id.in_([row.id for row in found]))).all() if found else []
    )
    rows = [find_node(connection, row.network_id, row.id) for row in still]
    return [row for row in rows if row is not None]
