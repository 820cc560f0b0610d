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
from coordinator.cli_clients import clients
from coordinator.cli_gateway import gateway
from coordinator.cli_names import names
from coordinator.cli_network import network
from coordinator.cli_node import node
from coordinator.cli_provider import provider
from coordinator.cli_relay import relay
from coordinator.cli_token import token
from coordinator.cli_tunnels import tunnels
from coordinator.command import (
    admin_command,
    client_of,
    database_option,
    one_line_errors,
    print_json,
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


coordinator.add_command(network)
coordinator.add_command(token)
coordinator.add_command(node)
coordinator.add_command(provider)
coordinator.add_command(relay)
coordinator.add_command(gateway)
coordinator.add_command(audit)
coordinator.add_command(tunnels)
coordinator.add_command(names)
coordinator.add_command(clients)
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
@click.option(
    "--relay-port", type=click.IntRange(0, 65535), metavar="PORT",
    help="UDP port of its relay. Default: that of --listen, none with --database; 0: no relay.",
)  # fmt: skip
@click.option("--join", metavar="NETWORK", help="Put this host on a network, too, by a `wgpy up` of its own.")
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
    relay_port: int | None,
    join: str | None,
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
        join=join,
        trusted_proxies=tuple(parse_prefix(text) for text in proxies),
        tls_by_proxy=tls_by_proxy,
        relay_port=relay_port,
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
    if started.own_node is not None:
        from coordinator.own_node import start_own_node  # noqa: PLC0415

        start_own_node(started.own_node, click.echo)
    click.echo(f"Next: wgpy coordinator network create home{where}")
    click.echo(f"      wgpy coordinator token create home{where}")


@coordinator.command("setup-link")
@click.argument("person", required=False)
@admin_command
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
