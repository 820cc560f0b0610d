"""The database: SQLite in WAL mode with one writer, or PostgreSQL. Everything here blocks; `Store` is its
async face.

SQLite keeps `synchronous=FULL`: what was acknowledged to a node is on the disk, also after a power cut. A
commit costs an fsync, and there is none per packet, ping or check-in.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from coordinator.store.bell import ring
from wgpy.errors import ConfigError, StateError

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4
"""Reading connections of SQLite: readers never wait for the writer in WAL mode."""

POSTGRES_CONNECTIONS = 8
CONNECT_TIMEOUT = 10
"""Seconds."""

CHANGED = "wgpy_changed"
"""The key in `Connection.info` under which the log notes the networks that this transaction changed."""

MOVED = "wgpy_moved"
"""The same for networks whose presence this transaction tells: other processes hear of it, our own knows."""


def parse_database_url(text: str) -> URL:
    """`sqlite:///PATH` or `postgresql://…`, with the driver that we use. Raises ConfigError, without the
    password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(
            "a database is sqlite:///PATH or postgresql://USER@HOST/NAME; got neither"
        ) from None
    drivers = {
        "sqlite": "sqlite+pysqlite",
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
    }
    name = url.drivername.partition("+")[0]
    if name not in drivers or (url.drivername != name and url.drivername != drivers[name]):
        raise ConfigError(
            f"a database is sqlite:///PATH or postgresql://USER@HOST/NAME; got {url.drivername}://"
        )
    if name == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError("a SQLite database is a file: sqlite:////var/lib/wgpy-coordinator/coordinator.db")
    return url.set(drivername=drivers[name])


class Write(Generic[T]):
    """A change that is to be made, and what came of it. Compared by identity."""

    __slots__ = ("_change", "_error", "_result", "is_done")

    def __init__(self, change: Callable[[Connection], T]) -> None:
        self._change = change
        self._result: T | None = None
        self._error: BaseException | None = None
        self.is_done = False

    def run(self, connection: Connection) -> frozenset[tuple[str, str]]:
        """The networks that it changed or moved. Raises what the change raises."""
        noted: dict[str, set[str]] = {CHANGED: set(), MOVED: set()}
        connection.info.update(noted)
        self._result = self._change(connection)
        return frozenset((kind, id_) for kind, ids in noted.items() for id_ in ids)

    def result(self) -> T:
        """What the change gave, or what it raised."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def fail(self, error: BaseException) -> None:
        """It was undone, alone or with the transaction."""
        self._error, self.is_done = error, True


class Database:
    """Two ways in: `read` sees one consistent snapshot, `write` is one transaction, whole or not at all."""

    def __init__(self, url: URL) -> None:
        """Opens no connection yet. Raises ConfigError when the driver is not installed."""
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        try:
            self._writer, self._reader = _open_sqlite(url) if self.is_sqlite else _open_postgres(url)
        except (NoSuchModuleError, ModuleNotFoundError):
            raise ConfigError("PostgreSQL needs its driver: pip install 'wgpy[postgres]'") from None
        self.origin = os.urandom(8).hex()
        """What tells our own bell from those of other processes."""
        self.readers = READERS if self.is_sqlite else POSTGRES_CONNECTIONS // 2
        self.writers = 1 if self.is_sqlite else POSTGRES_CONNECTIONS // 2

    @property
    def shown(self) -> str:
        """The database for a message: a file's path, or the URL without its password."""
        if self.is_sqlite:
            return str(self.url.database)
        return self.url.render_as_string(hide_password=True)

    def connect(self) -> Connection:
        """A writing connection outside of any transaction, for the migrations. Raises StateError."""
        try:
            return self._writer.connect()
        except DBAPIError as error:
            raise StateError(f"cannot open the database {self.shown}: {_first_line(error)}") from None

    def read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `query(connection, …)` on one snapshot."""
        with self._reader.begin() as connection:
            return query(connection, *args, **kwargs)

    def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, frozenset[str]]:
        """Run `change(connection, …)` in one transaction → its result and the ids of the networks it changed.

        An exception, a Refusal too, undoes all of it.
        """
        made = Write(lambda connection: change(connection, *args, **kwargs))
        networks = self.write_all([made])
        return made.result(), networks

    def write_all(self, batch: Sequence[Write[Any]]) -> frozenset[str]:
        """Make these changes in one transaction, each whole or not at all → the networks that changed.

        What each gave or raised it knows itself, once the commit is on the disk; when the commit fails, all
        have failed.
        """
        try:
            with self._writer.begin() as connection:
                noted: set[tuple[str, str]] = set()
                if len(batch) == 1:
                    noted |= batch[0].run(connection)
                else:
                    for write in batch:
                        noted |= self._run_beside_others(connection, write)
                changed = frozenset(id_ for kind, id_ in noted if kind == CHANGED)
                if not self.is_sqlite:
                    ring(connection, self.origin, "change", changed)
                    ring(connection, self.origin, "presence", {id_ for kind, id_ in noted if kind == MOVED})
        except BaseException as error:
            for write in batch:
                write.fail(error)
            if not isinstance(error, Exception):
                raise
            return frozenset()
        for write in batch:
            write.is_done = True
        return changed

    def _run_beside_others(self, connection: Connection, write: Write[Any]) -> frozenset[tuple[str, str]]:
        """In a savepoint, so that it fails alone. Of SQLite alone: PostgreSQL gathers commits by itself."""
        connection.exec_driver_sql("SAVEPOINT one")
        try:
            noted = write.run(connection)
        except Exception as error:
            # On a full disk SQLite gives up the whole transaction: then the others have failed as well.
            if not getattr(connection.connection.dbapi_connection, "in_transaction", False):
                raise
            connection.exec_driver_sql("ROLLBACK TO one")
            connection.exec_driver_sql("RELEASE one")
            write.fail(error)
            return frozenset()
        connection.exec_driver_sql("RELEASE one")
        return noted

    def driver_arguments(self) -> dict[str, Any]:
        """How psycopg connects to this PostgreSQL by itself. They hold the password."""
        _, arguments = self._writer.dialect.create_connect_args(self.url)
        return dict(arguments) | {"connect_timeout": CONNECT_TIMEOUT}

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()


def is_disk_full(error: BaseException) -> bool:
    """Whether this is the database's word for a disk without room."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) == "53100"  # disk_full


def _first_line(error: DBAPIError) -> str:
    text = str(error.orig).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _open_sqlite(url: URL) -> tuple[Engine, Engine]:
    writer = create_engine(
        url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=60, hide_parameters=True
    )
    reader = create_engine(
        url, poolclass=QueuePool, pool_size=READERS, max_overflow=0, pool_timeout=60, hide_parameters=True,
        pool_reset_on_return=None,  # `read` has ended its transaction by then
    )  # fmt: skip
    for engine, begin, query_only in ((writer, "BEGIN IMMEDIATE", False), (reader, "BEGIN", True)):
        _prepare_sqlite(engine, begin, query_only)
        event.listen(engine, "do_connect", partial(_make_file, Path(str(url.database))))
    return writer, reader


def _make_file(path: Path, *_: object) -> None:
    """Made here, so that neither it nor its -wal and -shm are ever readable by others."""
    if not path.exists():
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StateError(f"cannot make the database {path}: {error.strerror}") from None


def _prepare_sqlite(engine: Engine, begin: str, query_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver leaves BEGIN to us
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 30000")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA query_only = {'ON' if query_only else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        if query_only:  # it locks nothing yet, so it does not fail: the short way
            connection.connection.cursor().execute(begin)
        else:
            connection.exec_driver_sql(begin)


def _open_postgres(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(
        url,
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_timeout=60,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT},
    )
    reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine, reader
