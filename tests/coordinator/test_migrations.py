"""The schema that migrations make is the one that tables.py declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    LargeBinary,
    MetaData,
    String,
    insert,
    inspect,
    select,
    text,
)

from coordinator.store.database import Database, parse_database_url
from coordinator.store.migrate import HEAD, alembic_config, migrate
from coordinator.store.snapshot import read_epoch
from coordinator.store.tables import metadata
from wgpy.errors import ConfigError, StateError


def test_a_migrated_database_has_the_declared_schema(database: Database) -> None:
    assert migrate(database, "first", 1.0) == "none"
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.tables.values():
            assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
            unique = {item["name"] for item in found.get_unique_constraints(table.name)}
            assert unique == {item.name for item in table.constraints if str(item.name).startswith("uq_")}


def test_every_column_says_what_it_is() -> None:
    for table in metadata.tables.values():
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name}"


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]


def test_migrating_again_changes_nothing_not_even_the_epoch(database: Database) -> None:
    migrate(database, "first", 1.0)
    assert migrate(database, "second", 2.0) is None
    assert database.read(read_epoch) == "first"


def revisions() -> list[str]:
    """All that a release may have made, the oldest first, but for the newest."""
    script = ScriptDirectory.from_config(alembic_config())
    return [each.revision for each in script.walk_revisions()][::-1][:-1]


def invented(column: Column[Any]) -> Any:
    """Something that the column can hold."""
    if isinstance(column.type, JSON):
        return ["10.7.0.0/16"]
    if isinstance(column.type, LargeBinary):
        return bytes(32)
    if isinstance(column.type, String):
        return "5" * min(column.type.length or 8, 32)
    return True if isinstance(column.type, Boolean) else 1


def read_all(database: Database) -> dict[str, list[dict[str, Any]]]:
    with database.connect() as connection:
        reflected = MetaData()
        reflected.reflect(connection)
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in reflected.sorted_tables
            if table.name != "alembic_version"
        }


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_each_older_schema_is_brought_forward_with_all_that_is_in_it(
    database: Database, revision: str
) -> None:
    config = alembic_config()
    with database.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        reflected = MetaData()
        reflected.reflect(connection)
        for table in reflected.sorted_tables:  # whom others point to comes first
            if table.name != "alembic_version":
                declared = metadata.tables[table.name].columns
                values = {each.name: invented(declared.get(each.name, each)) for each in table.columns}
                connection.execute(insert(table).values(values))
    before = read_all(database)
    assert before["nodes"]
    assert migrate(database, "new", 2.0) == revision
    after = read_all(database)
    for name, found in before.items():
        kept = [{column: row[column] for column in found[0] if column in row} for row in after[name]]
        assert kept == [
            {column: row[column] for column in found[0] if column in after[name][0]} for row in found
        ]
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    migrate(database, "first", 1.0)
    database.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    with pytest.raises(StateError, match="newer version of wgpy"):
        migrate(database, "second", 2.0)
    assert database.read(read_epoch) == "first"


def test_a_migration_that_fails_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("coordinator.store.migrate.insert", fail)
        with pytest.raises(RuntimeError):
            migrate(database, "first", 1.0)
    with database.connect() as connection:
        assert inspect(connection).get_table_names() == []
    assert migrate(database, "second", 2.0) == "none"


def test_a_file_that_is_no_database_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    path.write_text("this is not a database, and long enough that SQLite looks at it " * 20)
    database = Database(parse_database_url(f"sqlite:///{path}"))
    with pytest.raises(StateError, match="file is not a database"):
        database.connect()
    database.close()


@pytest.mark.parametrize(
    "text",
    ["", "x", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "postgresql+asyncpg://h/d", "http://h"],
)
def test_a_url_that_names_no_database_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_database_url(text)


def test_a_password_is_not_shown() -> None:
    database = Database(parse_database_url("postgresql://wgpy:hunter2@127.0.0.1:1/wgpy"))
    assert "hunter2" not in database.shown
    with pytest.raises(StateError) as caught:
        database.connect()
    assert "hunter2" not in str(caught.value)
    database.close()


def test_sqlite_waits_for_the_disk_and_is_not_readable_by_others(sqlite_database: Database) -> None:
    migrate(sqlite_database, "first", 1.0)
    assert sqlite_database.read(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar()) == 2
    assert sqlite_database.read(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar()) == "wal"
    path = Path(str(sqlite_database.url.database))
    for file in path.parent.glob("coordinator.db*"):
        assert file.stat().st_mode & 0o077 == 0, file
