"""What the store lets go of, once an hour."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from coordinator.store.audit import trim_audit
from coordinator.store.browser_sessions import drop_old_sessions
from coordinator.store.claims import drop_rested
from coordinator.store.client_links import drop_old_client_links
from coordinator.store.jobs import Job, take_job
from coordinator.store.log import trim_log
from coordinator.store.nodes import TOMBSTONE_AGE
from coordinator.store.presence import drop_old_leases
from coordinator.store.replies import drop_old_replies
from coordinator.store.setup_links import drop_old_links
from coordinator.store.tables import removed_nodes


def tidy(connection: Connection, now: float) -> int:
    """Trim the logs, old leases, sessions, links, answers, tombstones and addresses that have rested → rows
    of the change log. Nothing while another process is at it.
    """
    if not take_job(connection, Job.TIDY):
        return 0
    connection.execute(delete(removed_nodes).where(removed_nodes.c.removed_at < now - TOMBSTONE_AGE))
    drop_rested(connection, now)
    drop_old_leases(connection, now)
    drop_old_sessions(connection, now)
    drop_old_links(connection, now)
    drop_old_client_links(connection, now)
    drop_old_replies(connection, now)
    trim_audit(connection, now)
    return trim_log(connection, now)
