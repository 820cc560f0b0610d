"""`wgpy coordinator gateway …`: ranges behind nodes, and exit nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coordinator.command import (
    admin_command,
    client_of,
    dry_run_option,
    only_network,
    print_changes,
    print_json,
    print_table,
    trying,
)
from wgpy.errors import ConfigError

network_option = click.option("--network", help="Which network's; not needed when there is one.")


@click.group()
def gateway() -> None:
    """Publish ranges behind nodes to the other nodes: LANs, clusters, the internet."""


@gateway.command("add")
@click.argument("node")
@click.argument("ranges", metavar="RANGE[,RANGE…]", required=False)
@click.option("--exit", "as_exit", is_flag=True, help="Make it an exit node: all of IPv4 and IPv6.")
@click.option("--nat/--no-nat", default=True, help="Whether the far side sees the gateway's address.")
@click.option("--interface", default="", help="By which the ranges are reached. Default: by the route.")
@click.option("--virtual", metavar="RANGE|auto", help="Show it to the others under another range.")
@network_option
@dry_run_option
@admin_command
def add(
    *,
    node: str,
    ranges: str | None,
    as_exit: bool,
    nat: bool,
    interface: str,
    virtual: str | None,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Have NODE forward ranges for the others, or approve those that it offers.

    The node has to agree: `wgpy set --advertise` there. The same range at two nodes is one LAN with two
    gateways, of which one is used and the other stands by; two LANs with the same range need --virtual.
    """
    body = {
        "node": node,
        "ranges": [text.strip() for text in (ranges or "").split(",") if text.strip()],
        "nat": nat,
        "interface": interface,
        "virtual": virtual,
        "exit": as_exit,
    }
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "ranges")
        answer = client.call("POST", *place, body=body, query=trying(dry_run))
    if dry_run:
        print_changes([answer], as_json=as_json)
        return
    made = answer["ranges"]
    if as_json:
        print_json(made)
        return
    for row in made:
        click.echo(f"{_shown(row)} is published at {row['node_name']}{_next_step(row)}")


@gateway.command("list")
@click.argument("network", required=False)
@admin_command
def list_ranges(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The ranges of a network, who forwards them, and what keeps them from working."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks", only_network(client, network), "ranges")["ranges"]
    if as_json:
        print_json(found)
        return
    header = ("RANGE", "STANDS FOR", "NODE", "STATE", "NAT", "")
    print_table(header, [_row(row) for row in found])


@gateway.command("remove")
@click.argument("node")
@click.argument("ranges", metavar="RANGE[,RANGE…]", required=False)
@click.option("--exit", "as_exit", is_flag=True, help="It is no exit node any more.")
@network_option
@dry_run_option
@admin_command
def remove(
    *,
    node: str,
    ranges: str | None,
    as_exit: bool,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Withdraw ranges from NODE: the others lose their routes to them at once."""
    wanted = {text.strip() for text in (ranges or "").split(",") if text.strip()}
    if as_exit:
        wanted |= {"0.0.0.0/0", "::/0"}
    if not wanted:
        raise ConfigError("name the ranges to withdraw, or --exit")
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "ranges")
        rows = [
            row for row in client.call("GET", *place)["ranges"] if node in (row["node"], row["node_name"])
        ]
        found = [row for row in rows if wanted & {row["range"], row["target"]}]
        if missing := wanted - {text for row in found for text in (row["range"], row["target"])}:
            there = ", ".join(row["range"] for row in rows) or "none"
            raise ConfigError(f"{node} has no {', '.join(sorted(missing))}; it has {there}")
        gone = [client.call("DELETE", *place, row["id"], query=trying(dry_run)) for row in found]
    if dry_run:
        print_changes(gone, as_json=as_json)
        return
    if as_json:
        print_json(gone)
        return
    for row in gone:
        click.echo(f"{_shown(row)} is no longer published at {row['node_name']}")


def _shown(row: Mapping[str, Any]) -> str:
    return str(row["range"]) if row["range"] == row["target"] else f"{row['range']} (for {row['target']})"


def _next_step(row: Mapping[str, Any]) -> str:
    if row["state"] == "active":
        return ""
    word = "exit" if row["target"] in ("0.0.0.0/0", "::/0") else row["target"]
    return f"; the node has to agree, unless it did: wgpy set --advertise {word}"


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(row["state"])
    if state == "active":
        state = ("in use" if row["elected"] else "standby") if row["online"] else "offline"
    elif state == "pending":
        state = "offered: `gateway add` approves it"
    elif state == "waiting":
        state = "waits for the node"
    virtual = "-" if row["range"] == row["target"] else row["target"]
    return (row["range"], virtual, row["node_name"], state, "yes" if row["nat"] else "no", row["problem"])
