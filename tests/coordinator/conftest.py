"""Databases: SQLite for every test, PostgreSQL as well for those that ask for `database`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from coordinator.store.database import Database, parse_database_url
from tests.coordinator.rows import Rows


def _postgres_tool(name: str) -> str | None:
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else shutil.which(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private cluster on a socket in a directory of its own; its URL without a database."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'wgpy[postgres]'")
    initdb, postgres = _postgres_tool("initdb"), _postgres_tool("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and PostgreSQL does not run as root")
    with tempfile.TemporaryDirectory(prefix="wgpy-postgres-") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = f"{folder}/data"
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **identity,
        )  # fmt: skip
        server = subprocess.Popen(
            [postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **identity,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
                    break
                except psycopg.OperationalError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield f"postgresql://postgres@/%s?host={folder}"
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    database = Database(parse_database_url(f"sqlite:///{tmp_path}/coordinator.db"))
    yield database
    database.close()


def _made_postgres(server: str) -> Database:
    import psycopg  # noqa: PLC0415

    name = f"wgpy_{os.urandom(6).hex()}"
    with psycopg.connect(server.replace("%s", "postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return Database(parse_database_url(server.replace("%s", name)))


@pytest.fixture
def postgres_database(postgres_server: str) -> Iterator[Database]:
    database = _made_postgres(postgres_server)
    yield database
    database.close()


@pytest.fixture
def another_postgres_database(postgres_server: str) -> Iterator[Database]:
    database = _made_postgres(postgres_server)
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
