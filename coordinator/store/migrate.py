"""Bringing a database to this version's schema, at start, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, insert, inspect, select, text

from coordinator.store.database import Database
from coordinator.store.tables import meta
from wgpy.errors import StateError

if TYPE_CHECKING:
    from alembic.config import Config

logger = logging.getLogger(__name__)

HEAD: Final = "0008"
"""The revision that `tables.py` describes; a test holds it to the newest migration."""

_LOCK: Final = 0x77677079
"""The advisory lock that keeps two processes from migrating one PostgreSQL database at once ("wgpy")."""


def migrate(
    database: Database, epoch: str, now: float, then: Callable[[Connection], None] | None = None
) -> str | None:
    """Make or upgrade the schema → the revision it came from, None when nothing had to be done.

    `epoch` is that of a database made now; `then` runs at the end of the transaction. Raises StateError for
    one that a newer version made.
    """
    with database.connect() as connection, connection.begin():
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = read_version(connection)
        if before == HEAD:
            return None
        _upgrade(connection, database.shown)
        if connection.execute(select(meta.c.id)).one_or_none() is None:
            connection.execute(insert(meta).values(id=1, epoch=epoch, urls=[], created_at=now))
        if then is not None:
            then(connection)
    logger.info("database schema: %s → %s", before or "none", HEAD)
    return before or "none"


def read_version(connection: Connection) -> str | None:
    """The schema's revision; None where there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(connection: Connection, shown: str) -> None:
    # Alembic costs 10 MB and a fifth of a second: only a database that has to change pays for it.
    from alembic import command  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = alembic_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise StateError(
            f"the database {shown} was made by a newer version of wgpy: "
            "upgrade this one, or take another database"
        ) from None


def alembic_config() -> Config:
    """Alembic's configuration without a file: the migrations lie in this package."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "coordinator.store:migrations")
    config.set_main_option("path_separator", "os")
    return config
