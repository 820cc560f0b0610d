"""Databases: SQLite for every test, PostgreSQL as well for those that ask for `database`."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from coordinator.store.database import Database, parse_database_url
from tests.coordinator.postgres import PostgresServer
from tests.coordinator.process import Coordinator
from tests.coordinator.rows import Rows


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for all tests that do not kill it."""
    with tempfile.TemporaryDirectory(prefix="wgpy-postgres-") as folder:
        server = PostgresServer(folder, "fsync=off")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    database = Database(parse_database_url(f"sqlite:///{tmp_path}/coordinator.db"))
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[Database]:
    database = Database(parse_database_url(postgres_server.create(f"wgpy_{os.urandom(6).hex()}")))
    yield database
    database.close()


@pytest.fixture
def another_postgres_database(postgres_server: PostgresServer) -> Iterator[Database]:
    database = Database(parse_database_url(postgres_server.create(f"wgpy_{os.urandom(6).hex()}")))
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.root, pytest.mark.slow])])
def database(request: pytest.FixtureRequest) -> Database:
    """The same test on either."""
    found = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(found, Database)
    return found


@pytest.fixture
def rows(database: Database) -> Rows:
    return Rows(database)


@pytest.fixture
def sqlite_rows(sqlite_database: Database) -> Rows:
    return Rows(sqlite_database)


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2id that costs nothing."""
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr("coordinator.passwords.PasswordHasher", lambda: cheap)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def coordinator(tmp_path: Path, free_port: int) -> Iterator[Coordinator]:
    server = Coordinator(tmp_path / "state", free_port)
    server.start()
    yield server
    server.stop()
