"""`wgpy coordinator token …`: what hosts join with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from coordinator.ages import parse_age, show_age
from coordinator.command import (
    admin_command,
    client_of,
    only_network,
    print_json,
    print_table,
)


@click.group()
def token() -> None:
    """Hand out tokens, with which hosts join."""


@token.command("create")
@click.argument("network", required=False)
@click.option("--uses", type=click.IntRange(min=0), default=1, show_default=True, help="0: no limit.")
@click.option("--expires", default="24h", show_default=True, metavar="TIME", help="30m, 24h, 7d …")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Of the nodes; may be repeated.")
@click.option("--name", "node_name", help="What its one node is called, whatever it asks for.")
@click.option("--address", "addresses", multiple=True, metavar="ADDR", help="What its one node gets.")
@click.option("--ephemeral", metavar="TIME", help="Remove its nodes when they were offline for that long.")
@click.option(
    "--approval/--no-approval", default=None, help="Whether its joins wait. Default: as the network."
)
@admin_command
def create_token(
    *,
    network: str | None,
    uses: int,
    expires: str,
    tags: tuple[str, ...],
    node_name: str | None,
    addresses: tuple[str, ...],
    ephemeral: str | None,
    approval: bool | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print it, alone, on standard output. It is shown this once."""
    body: dict[str, object] = {
        "uses": uses,
        "expires_in": parse_age(expires),
        "tags": list(tags),
        "node_name": node_name,
        "node_addresses": list(addresses),
        "ephemeral_after": None if ephemeral is None else parse_age(ephemeral),
        "approval": approval,
    }
    with client_of(state_dir) as client:
        made = client.call("POST", "networks", only_network(client, network), "tokens", body=body)
    if as_json:
        print_json(made)
        return
    how_often = "any number of hosts" if uses == 0 else "one host" if uses == 1 else f"{uses} hosts"
    click.echo(f"For {how_often} within {expires}, on the host that joins {made['network']}:", err=True)
    click.echo(f"  wgpy up {made['token']}", err=True)
    click.echo(made["token"])


@token.command("list")
@click.argument("network", required=False)
@admin_command
def list_tokens(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The tokens of a network, without their secrets."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks", only_network(client, network), "tokens")["tokens"]
    if as_json:
        print_json(found)
        return
    now = time.time()
    rows = []
    for row in found:
        left = show_age(row["expires_at"] - now) if row["expires_at"] > now else "-"
        uses = f"{row['uses']}/{row['uses_allowed'] or '∞'}"
        rows.append((row["id"], row["state"], uses, left, _shown_terms(row)))
    print_table(("ID", "STATE", "USES", "EXPIRES IN", "NODES"), rows)


def _shown_terms(row: dict[str, Any]) -> str:
    """What its nodes are, in a few words."""
    words = [*row["tags"], *row["node_addresses"]]
    if row["node_name"] is not None:
        words.insert(0, row["node_name"])
    if row["ephemeral_after"] is not None:
        words.append(f"gone after {show_age(row['ephemeral_after'])} offline")
    if row["approval"] is not None:
        words.append("waits for approval" if row["approval"] else "at once")
    return ", ".join(words)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@click.option("--network", help="Which network's; not needed when there is one.")
@admin_command
def revoke_token(token_id: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Take a token back: it admits nobody any more. Nodes that joined by it stay."""
    with client_of(state_dir) as client:
        gone = client.call("DELETE", "networks", only_network(client, network), "tokens", token_id)
    print_json(gone) if as_json else click.echo(f"token {gone['id']} is revoked")
