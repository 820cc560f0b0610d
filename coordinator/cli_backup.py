"""`wgpy coordinator backup` and `restore`: on the database itself, whether a coordinator runs or not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.command import (
    admin_command,
    database_option,
    print_json,
)
from coordinator.instants import show_instant
from coordinator.state_dir import StateDir, default_state_dir

if TYPE_CHECKING:
    from coordinator.backup import Held
    from coordinator.store.database import Database

_FILE = click.Path(dir_okay=False, path_type=Path)


def _database_of(url: str | None, state: StateDir) -> Database:
    from coordinator.store.database import Database, parse_database_url  # noqa: PLC0415

    return Database(parse_database_url(url or f"sqlite:///{state.database}"))


def _show(held: Held, done: str, as_json: bool) -> None:
    if as_json:
        print_json({"networks": held.networks, "nodes": held.nodes, "made_at": held.made_at})
        return
    made = show_instant(held.made_at)
    click.echo(f"{done}: {held.networks} networks, {held.nodes} nodes, as of {made}")


@click.command()
@click.argument("file", type=_FILE)
@click.option("--without-key", is_flag=True, help="Leave secrets.key out: keep it elsewhere yourself.")
@database_option
@admin_command
def backup(
    file: Path, without_key: bool, database: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Write everything that the coordinator keeps to FILE, while it runs.

    With its key FILE is all that there is to the coordinator: keep it as safe as the coordinator itself.
    """
    from coordinator.backup import back_up  # noqa: PLC0415

    state = StateDir(state_dir or default_state_dir())
    source = _database_of(database, state)
    try:
        held = back_up(source, state, file, time.time(), with_key=not without_key)
    finally:
        source.close()
    _show(held, f"backed up to {file}", as_json)


@click.command()
@click.argument("file", type=_FILE)
@database_option
@admin_command
def restore(file: Path, database: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Make the coordinator of FILE here: in a state directory, or a PostgreSQL database, that has none yet.

    Then start it with `serve`: its nodes come back by themselves and take a whole map once.
    """
    from coordinator import backup as backups  # noqa: PLC0415

    state = StateDir(state_dir or default_state_dir())
    state.prepare()
    with state.locked():
        target = _database_of(database, state)
        try:
            held = backups.restore(file, target, state, time.time())
        finally:
            target.close()
    _show(held, f"restored from {file}", as_json)
