"""`wgpy up` and `wgpy down`: a host on a mesh, or with a file of wg-quick's format."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from wgpy.addresses import Endpoint
from wgpy.agent.ask import ask, running_names, wait_ended
from wgpy.agent.options import UpOptions, hand_over
from wgpy.agent.state_file import known_names
from wgpy.cli.choices import choice_options, read_choices
from wgpy.cli.conf import down_file, has_tunnel, up_file
from wgpy.cli.engine_options import engine_options
from wgpy.darwin import IS_DARWIN
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import decode_b64u, is_coordinator_url, is_label
from wgpy.mesh.signing import HASH_SIZE
from wgpy.mesh.token import PREFIX, Token

_TOKEN_VARIABLE: Final = "WGPY_TOKEN"
_LONGEST_TOKEN: Final = 8192
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_PORT: Final = click.IntRange(0, 65535)


@click.command()
@click.argument("what", metavar="[TOKEN | - | FILE.conf | NAME]", required=False)
@click.option("--token-file", type=_FILE, help="Read the token from a file.")
@click.option("--coordinator", metavar="URL", help="Join without a token: ask this coordinator, and wait.")
@click.option("--network", metavar="NAME", help="Which of its networks.")
@click.option("--pin", metavar="IDENTITY", help="Its identity, as `serve` prints it, to be sure of it.")
@click.option("--name", "node_name", help="What this host is to be called. Default: its host name.")
@click.option("--interface", help="The interface to make. Default: wg-NETWORK.")
@click.option("--listen-port", type=_PORT, help="UDP port. Default: the last one, else any.")
@click.option(
    "--endpoint",
    "endpoints",
    metavar="ADDR:PORT",
    multiple=True,
    help="Where others reach this host, if a port is forwarded to it. May be repeated.",
)
@choice_options
@click.option("--no-routes", is_flag=True, help="Set no routes: that is seen to elsewhere.")
@click.option("--no-firewall", is_flag=True, help="Touch neither nftables nor forwarding.")
@click.option("--dry-run", is_flag=True, help="Show what would be changed on this host, and change nothing.")
@engine_options
@click.option("--detach", is_flag=True, help="Return once the tunnels are up; go on in the background.")
def up(
    *,
    what: str | None,
    token_file: Path | None,
    coordinator: str | None,
    network: str | None,
    pin: str | None,
    node_name: str | None,
    interface: str | None,
    listen_port: int | None,
    endpoints: tuple[str, ...],
    dry_run: bool,
    detach: bool,
    **choices: object,
) -> None:
    """Join a mesh by a token, start one that this host joined, or bring FILE.conf up.

    The token may come as argument, from standard input (-), from --token-file or from WGPY_TOKEN; other
    users of this host can see arguments for a moment. Without any, the one network that this host joined is
    started. With --coordinator and --network it asks to join without a token, shows a code and waits until an
    admin has typed that. Runs in the foreground until Ctrl-C or `wgpy down`.
    """
    keyless = _read_keyless(coordinator, network, pin)
    if keyless is not None and (what is not None or token_file is not None):
        raise ConfigError("--coordinator and --network join without a token: expected no other argument")
    token = None if keyless is not None else _read_token(what, token_file)
    verbose = bool(click.get_current_context().find_root().params.get("verbose"))
    if token is None and what is not None and is_file(what):
        up_file(Path(what), detach=detach, verbose=verbose)
    if IS_DARWIN:
        raise ConfigError("networks of a coordinator are for Linux hosts; macOS has `wgpy up FILE.conf`")
    if dry_run and (token is not None or keyless is not None):
        raise ConfigError("--dry-run is for a network that this host has joined: nothing is known of it yet")
    options = UpOptions(
        token=token,
        name=None if token is not None or keyless is not None else choose_network(what),
        coordinator=None if keyless is None else keyless[0],
        network=None if keyless is None else keyless[1],
        pin=None if keyless is None else keyless[2],
        node_name=_check_node_name(node_name),
        interface=interface,
        listen_port=listen_port,
        endpoints=tuple(map(Endpoint.parse, endpoints)),
        choices=read_choices(choices),
        dry_run=dry_run,
        detach=detach,
        verbose=verbose,
    )
    become_agent(options)


def _read_token(what: str | None, token_file: Path | None) -> Token | None:
    """The token, wherever it comes from; None: there is none. Raises ConfigError, which never repeats it."""
    if what is not None and token_file is not None:
        raise ConfigError("expected one of an argument and --token-file; got both")
    if what == "-":
        return Token.decode(sys.stdin.read(_LONGEST_TOKEN))
    if token_file is not None:
        try:
            return Token.decode(token_file.read_text()[:_LONGEST_TOKEN])
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"cannot read the token from {token_file}: {reason}") from None
    if what is not None:
        return Token.decode(what) if what.startswith(PREFIX) else None
    if text := os.environ.pop(_TOKEN_VARIABLE, ""):
        return Token.decode(text)
    return None


def _read_keyless(
    coordinator: str | None, network: str | None, pin: str | None
) -> tuple[str, str, bytes | None] | None:
    """URL, network and identity hash; None: a token is to be used. Raises ConfigError."""
    if coordinator is None and network is None:
        if pin is not None:
            raise ConfigError("--pin goes with --coordinator and --network; a token has the pin in it")
        return None
    if coordinator is None or network is None:
        raise ConfigError("--coordinator URL and --network NAME go together: give both")
    url = coordinator.rstrip("/")
    if not is_coordinator_url(url):
        raise ConfigError("--coordinator: expected a URL such as https://coordinator.example:8443")
    if not is_label(network):
        raise ConfigError("--network: expected a network's name, such as home")
    if pin is None:
        return url, network, None
    try:
        octets = decode_b64u(pin)
    except ValueError:
        octets = b""
    if len(octets) != HASH_SIZE:
        raise ConfigError(
            "--pin: expected the 43 characters that `wgpy coordinator serve` prints as identity"
        )
    return url, network, octets


def _check_node_name(name: str | None) -> str | None:
    if name is not None and not (name.isprintable() and 1 <= len(name.encode()) <= 63):
        raise ConfigError("--name: expected 1 to 63 printable characters")
    return name


def is_file(what: str) -> bool:
    """Whether the argument is meant as a configuration file, and not as a network."""
    return what.endswith(".conf") or "/" in what


def choose_network(name: str | None) -> str:
    """The network meant: the one named, or the only one. Raises ConfigError."""
    known = known_names()
    if name is not None:
        if name in known:
            return name
        there = f"; joined are: {', '.join(known)}" if known else ""
        shown = repr(name) if is_label(name) else "the argument"
        raise ConfigError(
            f"expected a token ({PREFIX}…), a FILE.conf or a network that this host joined; "
            f"{shown} is none{there}"
        )
    if len(known) == 1:
        return known[0]
    if not known:
        raise ConfigError("this host joined no network yet: wgpy up TOKEN")
    raise ConfigError(f"this host joined several networks, say which: {', '.join(known)}")


def become_agent(options: UpOptions) -> None:
    """Go on as the agent, in this process: another program, whose arguments hold no secret."""
    fd = hand_over(options)
    os.environ.pop(_TOKEN_VARIABLE, None)
    # -P: the directory we were called in is no place to import from.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "wgpy.agent", str(fd)])


@click.command()
@click.argument("name", required=False, metavar="[NAME | FILE.conf]")
def down(name: str | None) -> None:
    """Stop a mesh or a tunnel. `wgpy up` starts it again."""
    if name is not None and (is_file(name) or has_tunnel(name)):
        down_file(Path(name))
        return
    network = _choose_running(name, running_names())
    ask(network, {"op": "down"})
    wait_ended(network)
    click.echo(f"{network} is down")


def _choose_running(name: str | None, running: list[str]) -> str:
    if name is not None:
        return name if name in running else choose_network(name)
    if len(running) == 1:
        return running[0]
    if not running:
        raise ConfigError("no network is running on this host")
    raise ConfigError(f"several networks are running, say which: {', '.join(running)}")
