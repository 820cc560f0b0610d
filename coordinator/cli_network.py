"""`wgpy coordinator network …`: make, show and delete networks."""

from __future__ import annotations

from pathlib import Path

import click

from coordinator.command import (
    client_of,
    json_option,
    one_line_errors,
    print_json,
    print_table,
    state_dir_option,
)
from wgpy.addresses import parse_prefix


@click.group()
def network() -> None:
    """Make, show and delete networks."""


@network.command("create")
@click.argument("name")
@click.option("--cidr", "cidrs", multiple=True, metavar="RANGE", help="Such as 10.7.0.0/16; may be repeated.")
@click.option("--mtu", type=int, help="Of the nodes' interfaces (default 1380).")
@click.option("--keepalive", type=int, help="Seconds between keepalives (default 20, 0 for none).")
@state_dir_option
@json_option
@one_line_errors
def create_network(
    *,
    name: str,
    cidrs: tuple[str, ...],
    mtu: int | None,
    keepalive: int | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a network. A family that no --cidr names gets a private range of its own."""
    body: dict[str, object] = {"name": name, "ranges": [str(parse_prefix(text)) for text in cidrs]}
    body |= {key: value for key, value in (("mtu", mtu), ("keepalive", keepalive)) if value is not None}
    with client_of(state_dir) as client:
        made = client.call("POST", "networks", body=body)
    if as_json:
        print_json(made)
        return
    click.echo(f"network {made['name']}: {', '.join(made['ranges'])}")
    click.echo(f"Next: wgpy coordinator token create {made['name']}", err=True)


@network.command("list")
@state_dir_option
@json_option
@one_line_errors
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
@state_dir_option
@json_option
@one_line_errors
def show_network(name: str, state_dir: Path | None, as_json: bool) -> None:
    """One network and how it stands."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", name)
    if as_json:
        print_json(row)
        return
    for label, value in (
        ("name", row["name"]),
        ("id", row["id"]),
        ("ranges", ", ".join(row["ranges"])),
        ("nodes", row["nodes"]),
        ("mtu", row["mtu"]),
        ("keepalive", f"{row['keepalive']} s" if row["keepalive"] else "off"),
        ("suffix", row["suffix"]),
        ("coordinator", ", ".join(row["coordinator"]["urls"])),
        ("revision", row["revision"]),
    ):
        click.echo(f"{label:12} {value}")


@network.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_dir_option
@json_option
@one_line_errors
def delete_network(name: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete a network: its nodes are removed and forget it."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", name)
        if not yes:
            click.confirm(f"Delete {row['name']} and remove its {row['nodes']} nodes?", abort=True, err=True)
        gone = client.call("DELETE", "networks", row["id"])
    print_json(gone) if as_json else click.echo(f"deleted {gone['name']}, {gone['nodes']} nodes removed")
