"""A coordinator in a file, and made of it again: from either store to either."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.backup import back_up, restore
from coordinator.state_dir import StateDir
from coordinator.store.api_keys import add_api_key
from coordinator.store.audit import Actor, AuditQuery, read_audit, write_audit
from coordinator.store.database import Database, parse_database_url
from coordinator.store.snapshot import read_epoch, read_snapshot
from coordinator.store.tables import meta, metadata
from coordinator.vault import load_secrets
from tests.coordinator.hosts import Host
from tests.coordinator.process import Coordinator, RemoteHost, wait_until
from tests.coordinator.rows import EPOCH, Rows, secret_of
from wgpy.errors import StateError

IDENTITY = {"identity": lambda: bytes(range(32))}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "state")
    found.prepare()
    return found


@pytest.fixture
def new_state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "new")
    found.prepare()
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.root, pytest.mark.slow])])
def target(request: pytest.FixtureRequest, new_state: StateDir) -> Iterator[Database]:
    """An empty place to restore to."""
    if request.param == "sqlite":
        found = Database(parse_database_url(f"sqlite:///{new_state.database}"))
    else:
        found = request.getfixturevalue("another_postgres_database")
    yield found
    found.close()


def contents(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, but for the epoch."""

    def read(connection: Any) -> dict[str, list[Any]]:
        tables = metadata.sorted_tables
        found = {table.name: connection.execute(select(table)).mappings().all() for table in tables}
        return {
            name: sorted(repr({key: row[key] for key in sorted(row) if key != "epoch"}) for row in rows)
            for name, rows in found.items()
        }

    return database.read(read)


def fill(rows: Rows, state: StateDir) -> None:
    """Something of everything that is hard to copy: JSON, null in JSON, octets, counters, removed things."""
    load_secrets(rows.database, state.key_file, IDENTITY, rows.now)
    home = rows.network("home")
    rows.network("empty")
    hosts = [rows.member(home, number) for number in range(5)]
    rows.remove(hosts[4])
    rows.write(add_api_key, secret_of(1), "with a name: ✓", rows.now)
    actor = Actor("person", "1", "ada", "192.0.2.1")
    rows.database.write(
        write_audit, actor, "x.y", None, rows.now, before=None, after={"id": "1", "n": None, "f": 0.1}
    )


def test_what_was_backed_up_comes_back_on_either_store(
    rows: Rows, target: Database, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    fill(rows, state)
    before = contents(rows.database)
    held = back_up(rows.database, state, tmp_path / "backup", rows.now, with_key=True)
    assert (held.networks, held.nodes, held.made_at) == (2, 4, rows.now)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert contents(rows.database) == before
    assert restore(tmp_path / "backup", target, new_state, rows.now) == held
    assert contents(target) == before
    assert target.read(read_epoch) not in ("", EPOCH)
    assert load_secrets(target, new_state.key_file, {}, 0.0)["identity"] == bytes(range(32))
    assert {path.name for path in new_state.path.iterdir()} <= {
        "secrets.key", "coordinator.db", "coordinator.db-wal", "coordinator.db-shm"
    }  # fmt: skip


def test_a_restored_store_counts_on(
    rows: Rows, target: Database, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    fill(rows, state)
    back_up(rows.database, state, tmp_path / "backup", rows.now, with_key=True)
    restore(tmp_path / "backup", target, new_state, rows.now)
    actor = Actor("person", "1", "ada", "192.0.2.1")
    target.write(write_audit, actor, "later", None, rows.now, before=None, after={"id": "2"})
    newest, *before = target.read(read_audit, AuditQuery(), None, 10)
    assert newest.action == "later"
    assert "x.y" in [row.action for row in before]
    assert all(newest.id > row.id for row in before)


def test_a_backup_is_of_one_moment_while_nodes_join(
    rows: Rows, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    load_secrets(rows.database, state.key_file, IDENTITY, rows.now)
    home = rows.network("home")
    secret = rows.token(home)
    stop = threading.Event()

    def join() -> None:
        for number in range(1000):
            if stop.is_set():
                return
            host = Host(number)
            rows.join(host, secret)
            rows.sign(host)

    joining = threading.Thread(target=join)
    joining.start()
    try:
        for number in range(5):
            path = tmp_path / f"backup-{number}"
            held = back_up(rows.database, state, path, rows.now, with_key=True)
            place = StateDir(tmp_path / f"state-{number}")
            place.prepare()
            with contextlib.closing(Database(parse_database_url(f"sqlite:///{place.database}"))) as copy:
                restore(path, copy, place, rows.now)
                snapshot = copy.read(read_snapshot, home.network.id)
                assert snapshot is not None
                # A signature is a revision: members and revision are of one moment.
                signed = [member for member in snapshot.members.values() if member.record is not None]
                assert snapshot.revision - home.revision == len(signed)
                assert held.nodes == len(snapshot.members)
    finally:
        stop.set()
        joining.join()


def test_without_the_key_it_opens_only_where_the_key_is(
    sqlite_rows: Rows, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    fill(sqlite_rows, state)
    back_up(sqlite_rows.database, state, tmp_path / "backup", 5.0, with_key=False)
    assert bytes(state.key_file.read_bytes()) not in (tmp_path / "backup").read_bytes()
    with contextlib.closing(Database(parse_database_url(f"sqlite:///{new_state.database}"))) as target:
        with pytest.raises(StateError, match=r"secrets\.key is missing"):
            restore(tmp_path / "backup", target, new_state, 6.0)
        new_state.key_file.write_bytes(bytes(32))
        new_state.key_file.chmod(0o600)
        with pytest.raises(StateError, match="does not open the secrets"):
            restore(tmp_path / "backup", target, new_state, 6.0)
        assert not new_state.database.exists()
        new_state.key_file.write_bytes(state.key_file.read_bytes())
        restore(tmp_path / "backup", target, new_state, 6.0)


def test_nothing_is_overwritten(
    target: Database, sqlite_rows: Rows, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    fill(sqlite_rows, state)
    back_up(sqlite_rows.database, state, tmp_path / "backup", 5.0, with_key=True)
    restore(tmp_path / "backup", target, new_state, 6.0)
    before = contents(target)
    with pytest.raises(StateError, match="already: restore to an empty place"):
        restore(tmp_path / "backup", target, new_state, 7.0)
    assert contents(target) == before


@pytest.mark.parametrize("kind", ["absent", "text", "sqlite", "cut", "newer"])
def test_what_is_no_backup_is_said_and_leaves_nothing(
    kind: str, sqlite_rows: Rows, state: StateDir, new_state: StateDir, tmp_path: Path
) -> None:
    path = tmp_path / "backup?#%.db"
    fill(sqlite_rows, state)
    back_up(sqlite_rows.database, state, path, 5.0, with_key=True)
    match kind:
        case "absent":
            path.unlink()
        case "text":
            path.write_text("not a database at all\n" * 100)
        case "cut":
            os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
        case _:
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(
                    "DROP TABLE wgpy_backup" if kind == "sqlite" else "UPDATE wgpy_backup SET format = 99"
                )
    target = Database(parse_database_url(f"sqlite:///{new_state.database}"))
    with contextlib.closing(target), pytest.raises(StateError) as caught:
        restore(path, target, new_state, 6.0)
    assert "\n" not in str(caught.value)
    assert list(new_state.path.iterdir()) == []


def test_a_backup_that_cannot_be_written_leaves_the_older_one(
    sqlite_rows: Rows, state: StateDir, tmp_path: Path
) -> None:
    fill(sqlite_rows, state)
    with pytest.raises(StateError, match="cannot write"):
        back_up(sqlite_rows.database, state, tmp_path / "absent" / "backup", 5.0, with_key=True)
    path = tmp_path / "backup"
    back_up(sqlite_rows.database, state, path, 5.0, with_key=True)
    before = path.read_bytes()
    sqlite_rows.database.write(
        lambda connection: connection.exec_driver_sql("ALTER TABLE networks RENAME TO gone")
    )
    with pytest.raises(StateError):
        back_up(sqlite_rows.database, state, path, 6.0, with_key=True)
    assert path.read_bytes() == before
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith(".")] == []
    assert sqlite_rows.database.read(lambda connection: connection.execute(select(meta.c.epoch)).scalar())


@pytest.mark.slow
def test_nodes_come_back_to_a_coordinator_that_was_restored_on_another_place(
    tmp_path: Path, free_port: int
) -> None:
    first = Coordinator(tmp_path / "first", free_port)
    first.start()
    try:
        first.run("network", "create", "home")
        token = first.token("home", "--uses", "2")
        node, late = RemoteHost(1, token), RemoteHost(2, token)
        node.join()
        assert first.json("backup", str(tmp_path / "backup"))["nodes"] == 1
        late.join()  # what comes after a backup is lost with the host
        node.watch()
        wait_until(lambda: node.follower.held is not None, "the map", 30)
        assert node.follower.peer_names() == {"host-2"}
        refused = first.run("restore", str(tmp_path / "backup"), check=False)
        assert "stop it first" in refused.stderr
    finally:
        first.stop()
    second = Coordinator(tmp_path / "second", free_port)
    assert "restored from" in second.run("restore", str(tmp_path / "backup")).stdout
    second.start()
    try:
        assert node.stream_ended.wait(30)
        node.follower.frames.clear()
        node.watch()  # with the bearer of before: the session key is in the backup
        wait_until(lambda: "full" in node.follower.kinds(), "a whole map of the new epoch", 30)
        assert node.follower.peer_names() == set()
        node.hang_up()
        assert [row["name"] for row in second.json("node", "list")] == ["host-1"]
    finally:
        second.stop()
