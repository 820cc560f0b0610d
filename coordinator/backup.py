"""A coordinator in one file, taken while it runs, and made of it again.

Whatever the store, a backup is a SQLite database with one table more, which has the key file. So what comes
from SQLite can be restored to PostgreSQL, and the other way round.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from coordinator.state_dir import StateDir
from coordinator.store.database import Database, parse_database_url
from coordinator.store.migrate import HEAD, migrate, read_version
from coordinator.store.tables import meta, metadata, networks, nodes
from coordinator.vault import check_key, open_key_file, write_key_file
from wgpy.errors import StateError

FORMAT: Final = 1
_BATCH: Final = 1000

_TABLE: Final = "CREATE TABLE wgpy_backup (format INTEGER, made_at REAL, key BLOB)"


@dataclass(frozen=True, slots=True)
class Held:
    """What a backup, or a restored database, holds."""

    networks: int
    nodes: int
    made_at: float


def back_up(database: Database, state: StateDir, target: Path, now: float, *, with_key: bool) -> Held:
    """Write `target`, mode 0600, whole or not at all. The coordinator may be running. Raises StateError."""
    if not database.is_sqlite:
        database.read(_require_head)
    elif not Path(database.shown).exists():
        raise StateError(f"there is no database at {database.shown}: name the right --state-dir")
    key = bytes(open_key_file(state.key_file, make=False)) if with_key else None
    try:
        with _made_whole(target) as part:
            if database.is_sqlite:
                _copy_sqlite(Path(database.shown), part)
            else:
                with _sqlite(part) as copy:
                    migrate(copy, "", now)
                    copy.write(_empty)
                    _copy_rows(database, copy)
            _seal(part, now, key)
            held = _look_at(part)
    except OSError as error:
        raise StateError(f"cannot write {target}: {error.strerror}") from None
    except (sqlite3.Error, DBAPIError) as error:
        raise StateError(f"cannot copy {database.shown} to {target}: {_first_line(error)}") from None
    return held


def restore(source: Path, database: Database, state: StateDir, now: float) -> Held:
    """Fill an empty database, and the state directory's key file, from a backup. Raises StateError.

    The caller holds the state directory's lock. Every node will take a whole map: the epoch is a new one.
    """
    try:
        _require_absent(database)
        with tempfile.TemporaryDirectory(prefix="restoring.", dir=state.path) as folder:
            part = Path(folder) / "coordinator.db"
            os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
            _copy_sqlite(source, part)
            held, key = _look_at(part), _take_key(part)
            if key is not None and not state.key_file.exists():
                write_key_file(state.key_file, key)
            with _sqlite(part) as copy:
                migrate(copy, "", now)
                check_key(copy, open_key_file(state.key_file, make=False), state.key_file)
                copy.write(_set_epoch, os.urandom(8).hex())
                _fill(copy, database, now)
    except OSError as error:
        raise StateError(f"cannot restore {source}: {error.strerror}") from None
    except (sqlite3.Error, DBAPIError) as error:
        raise StateError(f"cannot restore {source} to {database.shown}: {_first_line(error)}") from None
    return held


# --- files ---


@contextlib.contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its name at the end of the block, on the disk before."""
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
    try:
        yield part
        _flush(part)
        part.rename(target)
        _sync_directory(target.parent)
    finally:
        for name in (part.name, f"{part.name}-wal", f"{part.name}-shm", f"{part.name}-journal"):
            part.with_name(name).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _sqlite(path: Path) -> Iterator[Database]:
    """The copy as a database of ours; at the end it is one file again."""
    database = Database(parse_database_url(f"sqlite:///{path}"))
    try:
        yield database
    finally:
        database.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's own backup: one consistent snapshot, and the writer does not wait."""
    if not source.exists():
        raise StateError(f"there is no backup at {source}")
    uri = f"file:{source.resolve().as_posix().replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"
    with (
        contextlib.closing(sqlite3.connect(f"{uri}?mode=ro", uri=True)) as original,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")


def _seal(part: Path, now: float, key: bytes | None) -> None:
    with contextlib.closing(sqlite3.connect(part)) as copy, copy:
        copy.execute("DROP TABLE IF EXISTS wgpy_backup")
        copy.execute(_TABLE)
        copy.execute("INSERT INTO wgpy_backup VALUES (?, ?, ?)", (FORMAT, now, key))


def _look_at(part: Path) -> Held:
    """Raises StateError for what is no backup of ours, or damaged."""
    no_backup = "this is not a backup made by `wgpy coordinator backup`"
    try:
        with contextlib.closing(sqlite3.connect(part)) as copy:
            form, made_at = copy.execute("SELECT format, made_at FROM wgpy_backup").fetchone()
            if form > FORMAT:
                raise StateError("this backup was made by a newer version of wgpy: restore it with that one")
            if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise StateError("this backup is damaged: take another one")
            counts = [
                copy.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
                for table in (networks, nodes)
            ]
    except (sqlite3.DatabaseError, TypeError):
        raise StateError(no_backup) from None
    return Held(counts[0], counts[1], made_at)


def _take_key(part: Path) -> bytes | None:
    """The key file's octets; the copy is a plain database of ours then."""
    with contextlib.closing(sqlite3.connect(part)) as copy, copy:
        (key,) = copy.execute("SELECT key FROM wgpy_backup").fetchone()
        copy.execute("DROP TABLE wgpy_backup")
    return None if key is None else bytes(key)


# --- rows ---


def _require_head(connection: Connection) -> None:
    version = read_version(connection)
    if version != HEAD:
        raise StateError(
            f"the database has schema {version or 'none'} and this version of wgpy works with {HEAD}: "
            "start this version's coordinator on it once, then back it up"
        )


def _require_absent(database: Database) -> None:
    if database.is_sqlite and not Path(database.shown).exists():
        return
    if database.read(lambda connection: inspect(connection).has_table(meta.name)):
        raise StateError(
            f"there is a coordinator's database at {database.shown} already: restore to an empty place, "
            "or move that one away first"
        )


def _empty(connection: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        connection.execute(table.delete())


def _set_epoch(connection: Connection, epoch: str) -> None:
    connection.execute(update(meta).values(epoch=epoch))


def _fill(copy: Database, target: Database, now: float) -> None:
    """Rows and schema in one transaction: a database that was half restored does not exist."""
    if migrate(target, "", now, then=lambda connection: _take_rows(copy, connection)) is None:
        raise StateError(f"another coordinator was started on {target.shown} at this moment: stop it first")


def _take_rows(copy: Database, connection: Connection) -> None:
    _empty(connection)
    copy.read(_stream_rows, connection)
    for table in metadata.sorted_tables:
        counter = table.autoincrement_column
        if counter is not None and connection.dialect.name == "postgresql":  # SQLite counts on by itself
            connection.execute(
                select(
                    func.setval(
                        func.pg_get_serial_sequence(table.name, counter.name),
                        select(func.coalesce(func.max(counter), 0) + 1).scalar_subquery(),
                        text("false"),
                    )
                )
            )


def _copy_rows(source: Database, target: Database) -> None:
    """From one consistent snapshot, in one transaction."""
    target.write(lambda connection: source.read(_stream_rows, connection))


def _stream_rows(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        found = source.execution_options(yield_per=_BATCH).execute(select(table))
        for rows in found.mappings().partitions(_BATCH):
            _insert(target, table, [dict(row) for row in rows])


def _insert(target: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    target.execute(insert(table), rows)


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
