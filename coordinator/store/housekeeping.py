"""What the store lets go of, once an hour."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from coordinator.store.log import trim_log
from coordinator.store.nodes import TOMBSTONE_AGE
from coordinator.store.presence import drop_old_leases
from coordinator.store.tables import removed_nodes


def tidy(connection: Connection, now: float) -> int:
    """Trim the log, old leases and the stones of nodes removed long ago → rows of the log that went."""
    connection.execute(delete(removed_nodes).where(removed_nodes.c.removed_at < now - TOMBSTONE_AGE))
    drop_old_leases(connection, now)
    return trim_log(connection, now)
