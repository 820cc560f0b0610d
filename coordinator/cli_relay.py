"""`wgpy coordinator relay …`: what carries packets for nodes that cannot reach each other."""

from __future__ import annotations

from pathlib import Path

import click

from coordinator.command import (
    admin_command,
    client_of,
    print_json,
    print_table,
)


@click.group()
def relay() -> None:
    """Make relays, which carry packets for nodes that cannot reach each other."""


@relay.command("create")
@click.argument("name")
@click.option(
    "--endpoint", "endpoints", multiple=True, required=True, metavar="HOST:PORT",
    help="Where nodes reach its UDP port; may be repeated.",
)  # fmt: skip
@click.option("--url", metavar="URL", help="https://HOST[:PORT], where it takes the same over TLS.")
@admin_command
def create_relay(
    name: str, endpoints: tuple[str, ...], url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Make a relay and print its key, alone, on standard output. It is shown this once.

    Nodes learn of it at once. Run it, on the host of that endpoint, with `wgpy relay serve`.
    """
    body: dict[str, object] = {"name": name, "endpoints": list(endpoints), "url": url}
    with client_of(state_dir) as client:
        made = client.call("POST", "relays", body=body)
    if as_json:
        print_json(made)
        return
    port = endpoints[0].rpartition(":")[2]
    click.echo("On the relay's host, with this key on its standard input or in a file:", err=True)
    click.echo(f"  wgpy relay serve --port {port} KEY_FILE", err=True)
    click.echo(made["key"])


@relay.command("list")
@admin_command
def list_relays(state_dir: Path | None, as_json: bool) -> None:
    """The relays, in the order in which nodes try them."""
    with client_of(state_dir) as client:
        found = client.call("GET", "relays")["relays"]
    if as_json:
        print_json(found)
        return
    rows = [
        (row["name"], ", ".join(row["endpoints"]), row["url"] or "-", "coordinator" if row["own"] else "-")
        for row in found
    ]
    print_table(("NAME", "ENDPOINTS", "TLS", "RUN BY"), rows)


@relay.command("remove")
@click.argument("name")
@admin_command
def remove_relay(name: str, state_dir: Path | None, as_json: bool) -> None:
    """Take a relay (NAME or id) out of all maps: nodes leave it at once."""
    with client_of(state_dir) as client:
        gone = client.call("DELETE", "relays", name)
    if as_json:
        print_json(gone)
        return
    click.echo(f"{gone['name']} is removed; stop its `wgpy relay serve`")
