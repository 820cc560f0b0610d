"""`wgpy coordinator token …`: what hosts join with."""

from __future__ import annotations

import time
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
from wgpy.errors import ConfigError


@click.group()
def token() -> None:
    """Hand out tokens, with which hosts join."""


def _parse_age(text: str) -> int:
    """Seconds in 30m, 24h, 7d or 90 (seconds). Raises ConfigError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if number.isascii() and number.isdigit() and len(number) < 10 and int(number) > 0:
        return int(number) * units[unit]
    raise ConfigError(f"a time is a number and s, m, h, d or w, such as 24h; got {text!r}")


def _shown_age(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * unit or seconds == unit:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.0f}s"


@token.command("create")
@click.argument("network", required=False)
@click.option("--uses", type=click.IntRange(min=0), default=1, show_default=True, help="0: no limit.")
@click.option("--expires", default="24h", show_default=True, metavar="TIME", help="30m, 24h, 7d …")
@state_dir_option
@json_option
@one_line_errors
def create_token(network: str | None, uses: int, expires: str, state_dir: Path | None, as_json: bool) -> None:
    """Make a token and print it, alone, on standard output. It is shown this once."""
    body: dict[str, object] = {"uses": uses, "expires_in": _parse_age(expires)}
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
@state_dir_option
@json_option
@one_line_errors
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
        left = _shown_age(row["expires_at"] - now) if row["expires_at"] > now else "-"
        rows.append((row["id"], row["state"], f"{row['uses']}/{row['uses_allowed'] or '∞'}", left))
    print_table(("ID", "STATE", "USES", "EXPIRES IN"), rows)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@click.option("--network", help="Which network's; not needed when there is one.")
@state_dir_option
@json_option
@one_line_errors
def revoke_token(token_id: str, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Take a token back: it admits nobody any more. Nodes that joined by it stay."""
    with client_of(state_dir) as client:
        gone = client.call("DELETE", "networks", only_network(client, network), "tokens", token_id)
    print_json(gone) if as_json else click.echo(f"token {gone['id']} is revoked")
