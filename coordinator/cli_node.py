"""`wgpy coordinator node …`: who is in a network."""

from __future__ import annotations

from pathlib import Path

import click

from coordinator.command import (
    client_of,
    json_option,
    one_line_errors,
    only_network,
    print_json,
    print_table,
    state_dir_option,
)


@click.group()
def node() -> None:
    """Show and remove nodes."""


@node.command("list")
@click.argument("network", required=False)
@state_dir_option
@json_option
@one_line_errors
def list_nodes(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The nodes of a network."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks", only_network(client, network), "nodes")["nodes"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            row["name"],
            ", ".join(row["addresses"]),
            "online" if row["online"] else "offline",
            row["wireguard_key"],
        )
        for row in found
    ]
    print_table(("NAME", "ADDRESSES", "STATE", "WIREGUARD KEY"), rows)


@node.command("show")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@state_dir_option
@json_option
@one_line_errors
def show_node(name: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """One node, by name or id."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", only_network(client, network), "nodes", name)
    if as_json:
        print_json(row)
        return
    for label, value in (
        ("name", row["name"]),
        ("id", row["id"]),
        ("addresses", ", ".join(row["addresses"])),
        ("state", "online" if row["online"] else "offline"),
        ("endpoints", ", ".join(row["endpoints"]) or "none reported"),
        ("wireguard", row["wireguard_key"]),
        ("machine", row["machine_key"]),
        ("record", "not signed yet" if row["seq"] is None else f"signed, seq {row['seq']}"),
    ):
        click.echo(f"{label:10} {value}")


@node.command("remove")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@state_dir_option
@json_option
@one_line_errors
def remove_node(name: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Remove a node, by name or id: it forgets the network, and the others forget it."""
    with client_of(state_dir) as client:
        gone = client.call("DELETE", "networks", only_network(client, network), "nodes", name)
    print_json(gone) if as_json else click.echo(f"removed {gone['name']}")
