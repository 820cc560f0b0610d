"""`wgpy coordinator …`: the server, and its administration as a client of its own HTTPS API.

What is heavy is imported inside the commands: `wgpy --help` must not wait for SQLAlchemy.
"""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli_audit import audit
from coordinator.cli_backup import backup, restore
from coordinator.cli_tunnels import tunnels
from coordinator.command import (
    client_of,
    database_option,
    json_option,
    one_line_errors,
    only_network,
    print_json,
    print_table,
    state_dir_option,
)
from coordinator.state_dir import ENVIRONMENT, default_state_dir
from wgpy.addresses import parse_prefix
from wgpy.errors import ConfigError

if TYPE_CHECKING:
    from coordinator.logs import LogFormat
    from coordinator.serve import Started


@click.group(name="coordinator")
def coordinator() -> None:
    """Run and administer a coordinator, the server that makes hosts one mesh."""


coordinator.add_command(audit)
coordinator.add_command(tunnels)
coordinator.add_command(backup)
coordinator.add_command(restore)


@coordinator.command()
@state_dir_option
@click.option("--listen", "listen_text", metavar="ADDR:PORT", help="Default: port 443 if allowed, else 8443.")
@click.option("--url", "urls", multiple=True, metavar="URL", help="How nodes reach it; may be repeated.")
@database_option
@click.option("--tls-cert", type=click.Path(path_type=Path), help="An own certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option(
    "--trusted-proxy", "proxies", multiple=True, metavar="RANGE", help="Whose X-Forwarded-For is believed."
)
@click.option("--tls-by-proxy", is_flag=True, help="Serve plain HTTP to the trusted proxies, which have TLS.")
@click.option("--new-leaf", is_flag=True, help="Serve with the next TLS key, which nodes know already.")
@click.option("--new-epoch", is_flag=True, help="After a restored backup: all nodes take a full map.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@click.option("-v", "--verbose", is_flag=True, help="Log for debugging.")
@one_line_errors
def serve(
    *,
    state_dir: Path | None,
    listen_text: str | None,
    urls: tuple[str, ...],
    database: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    proxies: tuple[str, ...],
    tls_by_proxy: bool,
    new_leaf: bool,
    new_epoch: bool,
    log_format: LogFormat,
    verbose: bool,
) -> None:
    """Run the coordinator in the foreground until SIGTERM or Ctrl-C."""
    from coordinator.identity import OwnCertificate  # noqa: PLC0415
    from coordinator.listen import ListenAddress  # noqa: PLC0415
    from coordinator.logs import configure_logging  # noqa: PLC0415
    from coordinator.serve import ServeOptions, serve  # noqa: PLC0415

    own = None
    if tls_cert is not None and tls_key is not None:
        own = OwnCertificate(tls_cert, tls_key)
    elif tls_cert is not None or tls_key is not None:
        raise ConfigError("--tls-cert and --tls-key go together: give both, or neither for a self-made leaf")
    configure_logging(log_format, verbose=verbose)
    options = ServeOptions(
        state_dir=state_dir or default_state_dir(),
        listen=None if listen_text is None else ListenAddress.parse(listen_text),
        urls=urls,
        database=database,
        own_certificate=own,
        new_epoch=new_epoch,
        new_leaf=new_leaf,
        trusted_proxies=tuple(parse_prefix(text) for text in proxies),
        tls_by_proxy=tls_by_proxy,
    )
    serve(options, functools.partial(_announce, state_dir))


def _announce(state_dir: Path | None, started: Started) -> None:
    guessed = "   (guessed: name the address that nodes reach with --url)" if started.urls_guessed else ""
    if started.fallback:
        click.echo(f"not on 443: {started.fallback}")
    click.echo(f"listening    {started.listening}")
    click.echo(f"for nodes    {', '.join(started.urls)}{guessed}")
    click.echo(f"identity     {started.identity}")
    click.echo(f"admin file   {started.admin_file}")
    click.echo(f"database     {started.database}")
    if started.setup_url is not None:
        click.echo(f"set up       {started.setup_url}   (once, for the first admin)")
    named = state_dir is not None and os.environ.get(ENVIRONMENT) != str(state_dir)
    where = f" --state-dir {shlex.quote(str(state_dir))}" if named else ""
    click.echo(f"Next: wgpy coordinator network create home{where}")
    click.echo(f"      wgpy coordinator token create home{where}")


@coordinator.command("setup-link")
@click.argument("person", required=False)
@state_dir_option
@json_option
@one_line_errors
def setup_link(person: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Print a link that makes the first admin or, with a name, gives this PERSON a new password.

    It is good once, for a day. Whoever owns the coordinator's host gets in again with it.
    """
    with client_of(state_dir) as client:
        made = client.call("POST", "setup-links", body={"person": person})
        url = made["url"]
    if as_json:
        print_json(made)
        return
    whose = f"{made['person']}'s password" if made["person"] else "the first admin"
    click.echo(f"For {whose}, once, within a day:", err=True)
    click.echo(url)


# --- networks ---


@coordinator.group()
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


# --- tokens ---


@coordinator.group()
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
    import time  # noqa: PLC0415

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


# --- nodes ---


@coordinator.group()
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
