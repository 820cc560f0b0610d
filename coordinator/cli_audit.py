"""`wgpy coordinator audit …`: who changed what."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from coordinator.command import (
    admin_command,
    client_of,
    one_line_errors,
    print_json,
    print_table,
    state_dir_option,
)

P = ParamSpec("P")
T = TypeVar("T")

_INSTANT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


def _filters(command: Callable[P, T]) -> Callable[P, T]:
    for option in (
        click.option("--text", help="Part of a name, an action or an address."),
        click.option("--actor", help="Name or id of who did it."),
        click.option("--action", help="Such as key.create, or key for all of keys."),
        click.option("--subject", help="Name or id of what was changed."),
        click.option("--since", type=_INSTANT, callback=_seconds, help="UTC."),
        click.option("--until", type=_INSTANT, callback=_seconds, help="UTC."),
    ):
        command = option(command)
    return command


def _seconds(_context: object, _option: object, value: object) -> int | None:
    """Unix time of a naive instant, which is UTC's."""
    import calendar  # noqa: PLC0415
    from datetime import datetime  # noqa: PLC0415

    return calendar.timegm(value.timetuple()) if isinstance(value, datetime) else None


@click.group()
def audit() -> None:
    """Who changed what, and from where."""


@audit.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@admin_command
def list_audit(limit: int, state_dir: Path | None, as_json: bool, **filters: str | int | None) -> None:
    """The newest entries."""
    with client_of(state_dir) as client:
        found = client.call("GET", "audit", query={"limit": limit, **filters})["entries"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["at"])),
            row["actor"] or row["actor_kind"],
            row["address"],
            row["action"],
            row["subject"],
        )
        for row in found
    ]
    print_table(("WHEN (UTC)", "WHO", "FROM", "WHAT", "SUBJECT"), rows)


@audit.command("export")
@_filters
@click.option(
    "--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", help="Default: ndjson."
)
@state_dir_option
@one_line_errors
def export_audit(form: str, state_dir: Path | None, **filters: str | int | None) -> None:
    """All entries to standard output, newest first."""
    with client_of(state_dir) as client:
        for piece in client.download("audit", "export", query={"format": form, **filters}):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
