"""What every command of `wgpy coordinator` is made of: options, errors as one line, the client, tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from coordinator.state_dir import ENVIRONMENT, StateDir, default_state_dir
from wgpy.errors import ConfigError, WgpyError

if TYPE_CHECKING:
    from coordinator.client import AdminClient

MOST_NAMED: Final = 8
"""Nodes of one change that are named."""

P = ParamSpec("P")
T = TypeVar("T")


class Failure(click.ClickException):
    """An error as one line, with its own exit code."""

    def __init__(self, error: WgpyError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"wgpy coordinator: {self.message}", file=file, err=file is None)


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except WgpyError as error:
            raise Failure(error) from None
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in ("wgpy", "coordinator"):
                raise
            missing = f"this needs {error.name}, which is not installed: pip install 'wgpy[coordinator]'"
            raise Failure(WgpyError(missing)) from None

    return run


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=ENVIRONMENT,
    help="Where the coordinator keeps its database, keys and admin.json.",
)
database_option = click.option(
    "--database",
    metavar="URL",
    envvar="WGPY_COORDINATOR_DATABASE",
    help="postgresql://USER@HOST/NAME; default: SQLite in the state directory.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Change nothing: tell what would change, and on which nodes."
)


def trying(dry_run: bool) -> dict[str, int]:
    """The query of a request that is only to be tried, or is to be done."""
    return {"dry_run": 1} if dry_run else {}


def admin_command(command: Callable[P, T]) -> Callable[P, T]:
    """What every command that asks the coordinator begins with: --state-dir, --json, errors as one line."""
    return state_dir_option(json_option(one_line_errors(command)))


def client_of(state_dir: Path | None) -> AdminClient:
    from coordinator.client import open_client  # noqa: PLC0415

    return open_client(StateDir(state_dir or default_state_dir()))


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_changes(tried: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The answers of requests that were tried: what each would change."""
    changes = [change for answer in tried for change in answer["changes"]]
    if as_json:
        print_json(changes)
        return
    for change in changes:
        click.echo(("mind: " if change["warning"] else "") + change["text"] + _where(change))
    click.echo("nothing was changed" if changes else "nothing would change: it is like that already")


def print_done(
    answer: Mapping[str, Any], said: Callable[[Mapping[str, Any]], str], *, dry_run: bool, as_json: bool
) -> None:
    """What was done, said of the answer in words, or what would be where it was only tried."""
    if dry_run:
        print_changes([answer], as_json=as_json)
    elif as_json:
        print_json(answer)
    else:
        click.echo(said(answer))


def _where(change: Mapping[str, Any]) -> str:
    named, count = change["nodes"][:MOST_NAMED], change["count"]
    more = f" and {count - len(named)} more" if count > len(named) else ""
    return f" (on {', '.join(named)}{more})" if named else ""


def only_network(client: AdminClient, name: str | None) -> str:
    """The network meant: the one named, or the only one that there is. Raises ConfigError."""
    if name is not None:
        return name
    names = [row["name"] for row in client.call("GET", "networks")["networks"]]
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise ConfigError("there is no network yet: make one with `wgpy coordinator network create NAME`")
    raise ConfigError(f"name one of the networks: {', '.join(names)}")
