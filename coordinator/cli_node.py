"""`wgpy coordinator node …`: who is in a network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.ages import parse_end, show_age
from coordinator.command import (
    admin_command,
    client_of,
    dry_run_option,
    only_network,
    print_done,
    print_json,
    print_table,
    trying,
)
from coordinator.instants import show_instant
from wgpy.errors import ConfigError

if TYPE_CHECKING:
    from coordinator.client import AdminClient


@click.group()
def node() -> None:
    """Show, approve, edit and remove nodes."""


@node.command("list")
@click.argument("network", required=False)
@admin_command
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
            _state(row),
            ", ".join(row["tags"]),
            row["wireguard_key"],
        )
        for row in found
    ]
    print_table(("NAME", "ADDRESSES", "STATE", "TAGS", "WIREGUARD KEY"), rows)


@node.command("show")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@admin_command
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
        ("state", _state(row)),
        ("tags", ", ".join(row["tags"]) or "none"),
        ("expires", "never" if row["expires_at"] is None else show_instant(row["expires_at"])),
        (
            "ephemeral",
            "no" if row["ephemeral_after"] is None else f"after {show_age(row['ephemeral_after'])} offline",
        ),
        ("endpoints", ", ".join(row["endpoints"]) or "none reported"),
        ("wireguard", row["wireguard_key"]),
        ("machine", row["machine_key"]),
        ("record", "not signed yet" if row["seq"] is None else f"signed, seq {row['seq']}"),
    ):
        click.echo(f"{label:10} {value}")


def _state(row: Mapping[str, Any]) -> str:
    kept_out = "expired" if row["expired"] else "disabled" if row["disabled_at"] is not None else ""
    here = "online" if row["online"] else "offline"
    return f"{kept_out}, {here}" if kept_out else here


@node.command("edit")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@click.option("--rename", metavar="NAME", help="A DNS label, unique in the network.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="All of its tags; may be repeated.")
@click.option("--no-tags", is_flag=True, help="None.")
@click.option("--disable/--enable", "disabled", default=None, help="Keep it out of all maps, or let it in.")
@click.option("--expires", metavar="TIME", help="Keep it out after that long from now, or never.")
@click.option("--ephemeral", metavar="TIME", help="Remove it after that long offline, or never.")
@dry_run_option
@admin_command
def edit_node(
    *,
    name: str,
    network: str | None,
    rename: str | None,
    tags: tuple[str, ...],
    no_tags: bool,
    disabled: bool | None,
    expires: str | None,
    ephemeral: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Change a node, by name or id; what is not named stays."""
    if tags and no_tags:
        raise ConfigError("--tag and --no-tags exclude each other")
    body: dict[str, object] = {}
    if rename is not None:
        body["name"] = rename
    if tags or no_tags:
        body["tags"] = list(tags)
    if disabled is not None:
        body["disabled"] = disabled
    if expires is not None:
        age = parse_end(expires)
        body["expires_at"] = None if age is None else time.time() + age
    if ephemeral is not None:
        body["ephemeral_after"] = parse_end(ephemeral)
    if not body:
        raise ConfigError("name what is to change: see `wgpy coordinator node edit --help`")
    with client_of(state_dir) as client:
        path = ("networks", only_network(client, network), "nodes", name)
        changed = client.call("PATCH", *path, body=body, if_match="*", query=trying(dry_run))
    print_done(changed, lambda row: f"changed {row['name']}: {_state(row)}", dry_run=dry_run, as_json=as_json)


@node.command("rotate")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@admin_command
def rotate_node(name: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Ask a node for a new WireGuard key. It makes one when it hears of it, and its tunnels go on."""
    with client_of(state_dir) as client:
        path = ("networks", only_network(client, network), "nodes", name, "rotate")
        asked = client.call("POST", *path)
    when = "now" if asked["online"] else "when it is online again"
    print_json(asked) if as_json else click.echo(f"{asked['name']} makes itself a new key {when}")


# --- joins that wait ---


@node.command("waiting")
@click.argument("network", required=False)
@admin_command
def list_waiting(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Hosts that ask to join and wait for approval."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks", only_network(client, network), "joins")["joins"]
    if as_json:
        print_json(found)
        return
    now = time.time()
    rows = [
        (
            row["id"][:8],
            row["name"],
            row["address"],
            "code" if row["needs_code"] else f"token {row['token']}",
            show_age(max(0, now - row["created_at"])),
            show_age(max(0, row["expires_at"] - now)),
        )
        for row in found
    ]
    print_table(("ID", "NAME", "FROM", "BY", "SINCE", "FORGOTTEN IN"), rows)


def _find_join(client: AdminClient, network: str, wanted: str) -> dict[str, Any]:
    """The one that waits under this name, or whose id begins so. Raises ConfigError."""
    found: list[dict[str, Any]] = client.call("GET", "networks", network, "joins")["joins"]
    meant = [row for row in found if row["id"] == wanted]
    meant = meant or [row for row in found if row["name"] == wanted or row["id"].startswith(wanted)]
    if len(meant) == 1:
        return meant[0]
    shown = ", ".join(f"{row['name']} ({row['id'][:8]})" for row in meant or found) or "nobody"
    how = "several hosts that wait are meant by" if meant else "no host that waits is called"
    raise ConfigError(f"{how} {wanted!r}: waiting for approval {'are' if meant else 'is'} {shown}")


@node.command("approve")
@click.argument("host", metavar="HOST")
@click.option("--network", help="Which network's; not needed when there is one.")
@click.option("--code", help="What the host's screen shows, for one without a token. Asked for if need be.")
@admin_command
def approve(host: str, network: str | None, code: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Let a host in that waits, by its name or the start of its id."""
    with client_of(state_dir) as client:
        where = only_network(client, network)
        row = _find_join(client, where, host)
        if row["needs_code"] and code is None:
            code = click.prompt(f"The code that {row['name']} shows on its own screen", err=True)
        path = ("networks", where, "joins", row["id"], "approve")
        node = client.call("POST", *path, body={"code": code})
    addresses = " and ".join(node["addresses"])
    print_json(node) if as_json else click.echo(f"{node['name']} is in, as {addresses}")


@node.command("refuse")
@click.argument("host", metavar="HOST")
@click.option("--network", help="Which network's; not needed when there is one.")
@admin_command
def refuse(host: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Keep a host out that waits, by its name or the start of its id."""
    with client_of(state_dir) as client:
        where = only_network(client, network)
        row = _find_join(client, where, host)
        gone = client.call("POST", "networks", where, "joins", row["id"], "refuse")
    print_json(gone) if as_json else click.echo(f"refused {gone['name']} from {gone['address']}")


@node.command("remove")
@click.argument("name", metavar="NODE")
@click.option("--network", help="Which network's; not needed when there is one.")
@dry_run_option
@admin_command
def remove_node(
    *, name: str, network: str | None, dry_run: bool, state_dir: Path | None, as_json: bool
) -> None:
    """Remove a node, by name or id: it forgets the network, and the others forget it."""
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "nodes", name)
        gone = client.call("DELETE", *place, query=trying(dry_run))
    print_done(gone, lambda row: f"removed {row['name']}", dry_run=dry_run, as_json=as_json)
