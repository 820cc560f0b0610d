"""`wgpy coordinator network …`: make, show, edit and delete networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from coordinator.ages import parse_end, show_age
from coordinator.command import (
    admin_command,
    client_of,
    print_json,
    print_table,
)
from wgpy.addresses import parse_prefix
from wgpy.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")


@click.group()
def network() -> None:
    """Make, show, edit and delete networks."""


def _settings(command: Callable[P, T]) -> Callable[P, T]:
    """What can be said of a network when it is made, and changed later."""
    for option in reversed(
        (
            click.option("--description", help="In your own words."),
            click.option("--mtu", type=int, help="Of the nodes' interfaces (1380 unless told)."),
            click.option("--keepalive", type=int, help="Seconds between keepalives (20; 0 for none)."),
            click.option("--listen-port", type=int, help="Of nodes without a choice of their own; 0: any."),
            click.option("--suffix", help="DNS suffix of the nodes' names (NAME.internal)."),
            click.option(
                "--keyless/--no-keyless", default=None, help="Hosts may ask to join without a token."
            ),
            click.option("--approval/--no-approval", default=None, help="Joins wait for approval."),
            click.option(
                "--rotate-after", metavar="TIME", help="Nodes renew their key at this age, or never."
            ),
            click.option(
                "--see",
                "pairs",
                multiple=True,
                metavar="TAG:TAG",
                help="Only such pairs see each other, '*' is any.",
            ),
            click.option("--all-see-all", is_flag=True, help="All nodes see each other."),
        )
    ):
        command = option(command)
    return command


def _body(settings: dict[str, Any]) -> dict[str, object]:
    """The settings that were given, as the API takes them. Raises ConfigError."""
    pairs, all_see_all, rotate = (settings.pop(name) for name in ("pairs", "all_see_all", "rotate_after"))
    body = {name: value for name, value in settings.items() if value is not None}
    if pairs and all_see_all:
        raise ConfigError("--see and --all-see-all exclude each other")
    if pairs:
        body["visibility"] = [_pair(text) for text in pairs]
    elif all_see_all:
        body["visibility"] = None
    if rotate is not None:
        body["rotate_after"] = parse_end(rotate) or 0
    return body


def _pair(text: str) -> list[str]:
    pair = text.split(":")
    if len(pair) != 2 or not all(pair):
        raise ConfigError(
            f"--see takes two tags with a colon between them, such as laptops:servers; got {text!r}"
        )
    return pair


@network.command("create")
@click.argument("name")
@click.option("--cidr", "cidrs", multiple=True, metavar="RANGE", help="Such as 10.7.0.0/16; may be repeated.")
@_settings
@admin_command
def create_network(
    name: str, cidrs: tuple[str, ...], state_dir: Path | None, as_json: bool, **settings: Any
) -> None:
    """Make a network. A family that no --cidr names gets a private range of its own."""
    body: dict[str, object] = {"name": name, "ranges": [str(parse_prefix(text)) for text in cidrs]}
    body |= _body(settings)
    with client_of(state_dir) as client:
        made = client.call("POST", "networks", body=body)
    if as_json:
        print_json(made)
        return
    click.echo(f"network {made['name']}: {', '.join(made['ranges'])}")
    if made["keyless"]:
        click.echo(
            f"Next: wgpy up --coordinator {made['coordinator']['urls'][0]} --network {made['name']}", err=True
        )
    click.echo(f"Next: wgpy coordinator token create {made['name']}", err=True)


@network.command("edit")
@click.argument("name")
@click.option("--rename", metavar="NEW", help="Its suffix stays, unless --suffix is told, too.")
@click.option(
    "--cidr",
    "cidrs",
    multiple=True,
    metavar="RANGE",
    help="In place of those of its family; has to hold every address that a node has.",
)
@_settings
@admin_command
def edit_network(
    name: str,
    rename: str | None,
    cidrs: tuple[str, ...],
    state_dir: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Change a network; what is not named stays. Its nodes follow within a second."""
    body = _body(settings)
    if rename is not None:
        body["name"] = rename
    if cidrs:
        body["ranges"] = [str(parse_prefix(text)) for text in cidrs]
    if not body:
        raise ConfigError("name what is to change: see `wgpy coordinator network edit --help`")
    with client_of(state_dir) as client:
        changed = client.call("PATCH", "networks", name, body=body, if_match="*")
    print_json(changed) if as_json else _show(changed)


@network.command("list")
@admin_command
def list_networks(state_dir: Path | None, as_json: bool) -> None:
    """All networks."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks")["networks"]
    if as_json:
        print_json(found)
        return
    rows = [(row["name"], str(row["nodes"]), ", ".join(row["ranges"])) for row in found]
    print_table(("NAME", "NODES", "RANGES"), rows)


@network.command("show")
@click.argument("name")
@admin_command
def show_network(name: str, state_dir: Path | None, as_json: bool) -> None:
    """One network and how it stands."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", name)
    if as_json:
        print_json(row)
        return
    _show(row)


def _show(row: dict[str, Any]) -> None:
    pairs = row["visibility"]
    who = "all of each other" if pairs is None else ", ".join(":".join(pair) for pair in pairs) or "nobody"
    joins = ["without a token"] if row["keyless"] else []
    joins.append("with a token, after approval" if row["approval"] else "with a token, at once")
    for label, value in (
        ("name", row["name"]),
        ("description", row["description"] or "-"),
        ("id", row["id"]),
        ("ranges", ", ".join(row["ranges"])),
        ("nodes", row["nodes"]),
        ("joins", "; ".join(joins)),
        ("waiting", f"{row['waiting']} (wgpy coordinator node waiting)" if row["waiting"] else "nobody"),
        ("sees", who),
        ("mtu", row["mtu"]),
        ("keepalive", f"{row['keepalive']} s" if row["keepalive"] else "off"),
        ("listen port", row["listen_port"] or "any"),
        ("new keys", f"after {show_age(row['rotate_after'])}" if row["rotate_after"] else "when asked for"),
        ("suffix", row["suffix"]),
        ("coordinator", ", ".join(row["coordinator"]["urls"])),
        ("revision", row["revision"]),
    ):
        click.echo(f"{label:12} {value}")


@network.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@admin_command
def delete_network(name: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete a network: its nodes are removed and forget it."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", name)
        if not yes:
            click.confirm(f"Delete {row['name']} and remove its {row['nodes']} nodes?", abort=True, err=True)
        gone = client.call("DELETE", "networks", row["id"])
    print_json(gone) if as_json else click.echo(f"deleted {gone['name']}, {gone['nodes']} nodes removed")
