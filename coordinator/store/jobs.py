"""Work that one process does for all of them."""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import Connection, text


class Job(IntEnum):
    """The keys of the advisory locks; "wgpy" in the upper half."""

    TIDY = 0x77677079_00000001
    SWEEP = 0x77677079_00000002


def take_job(connection: Connection, job: Job) -> bool:
    """Whether it is ours until this transaction ends; False while another process does it."""
    if connection.dialect.name == "sqlite":  # its one writer is this process
        return True
    taken = connection.execute(text("SELECT pg_try_advisory_xact_lock(:job)"), {"job": int(job)})
    return bool(taken.scalar_one())
