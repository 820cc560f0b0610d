"""`wgpy coordinator names`: records of one's own, and who knows other domains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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
from wgpy.errors import ConfigError

network_option = click.option("--network", help="Which network's; not needed when there is one.")


@click.group()
def names() -> None:
    """What a network's nodes are told of names, beside the names of its nodes."""


@names.command("list")
@network_option
@admin_command
def list_names(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Records, and domains that have name servers of their own."""
    with client_of(state_dir) as client:
        row = client.call("GET", "networks", only_network(client, network))
        found = client.call("GET", "networks", row["id"], "names")
    if as_json:
        print_json(found)
        return
    rows = [
        (f"{each['name']}.{row['suffix']}", "is", _shown(each["value"], row)) for each in found["records"]
    ]
    rows += [(f"*.{each['domain']}", "ask", ", ".join(each["servers"])) for each in found["domains"]]
    if rows:
        print_table(("NAME", "", "VALUE"), rows)
    else:
        click.echo(f"nothing was added; nodes are NODE.{row['suffix']}")


def _shown(value: str, row: dict[str, Any]) -> str:
    return value if value[-1:].isdigit() or ":" in value else f"{value}.{row['suffix']}"


@names.command("add")
@click.argument("name")
@click.argument("value", metavar="ADDRESS|NAME")
@network_option
@dry_run_option
@admin_command
def add_record(
    *, name: str, value: str, network: str | None, dry_run: bool, state_dir: Path | None, as_json: bool
) -> None:
    """Add a record: NAME (without the network's suffix) is an address, or another name of the network."""

    def change(now: dict[str, Any]) -> dict[str, object]:
        record = {"name": name, "value": value}
        return now | {"records": [*(each for each in now["records"] if each != record), record]}

    _rewrite(network, state_dir, change, f"{name} is {value}", dry_run=dry_run, as_json=as_json)


@names.command("remove")
@click.argument("name")
@click.argument("value", metavar="[ADDRESS|NAME]", required=False)
@network_option
@dry_run_option
@admin_command
def remove_record(
    *,
    name: str,
    value: str | None,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Remove the records of NAME, or the one with this value."""

    def change(now: dict[str, Any]) -> dict[str, object]:
        kept = [each for each in now["records"] if each["name"] != name or value not in (None, each["value"])]
        if len(kept) == len(now["records"]):
            there = ", ".join(sorted({each["name"] for each in now["records"]})) or "none"
            raise ConfigError(f"no such record: {name} {value or ''}".rstrip() + f"; there is: {there}")
        return now | {"records": kept}

    _rewrite(network, state_dir, change, f"{name} is removed", dry_run=dry_run, as_json=as_json)


@names.command("domain")
@click.argument("domain")
@click.argument("servers", nargs=-1, metavar="[ADDRESS]…")
@network_option
@dry_run_option
@admin_command
def set_domain(
    *,
    domain: str,
    servers: tuple[str, ...],
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Say which name servers know DOMAIN and all below it; without any, forget it.

    Nodes follow it that have said so: `wgpy up --accept-domain DOMAIN`.
    """

    def change(now: dict[str, Any]) -> dict[str, object]:
        others = [each for each in now["domains"] if each["domain"] != domain]
        if not servers and len(others) == len(now["domains"]):
            there = ", ".join(each["domain"] for each in now["domains"]) or "none"
            raise ConfigError(f"no name servers are set for {domain}; there is: {there}")
        new = [{"domain": domain, "servers": list(servers)}] if servers else []
        return now | {"domains": [*others, *new]}

    said = f"for {domain}: ask {', '.join(servers)}" if servers else f"{domain} is forgotten"
    _rewrite(network, state_dir, change, said, dry_run=dry_run, as_json=as_json)


def _rewrite(
    network: str | None,
    state_dir: Path | None,
    change: Callable[[Any], dict[str, object]],
    said: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "names")
        made = client.rewrite(*place, change=change, query=trying(dry_run))
    print_done(made, lambda _: said, dry_run=dry_run, as_json=as_json)
