"""`wgpy ping`: echoes through the tunnel, sent by the agent, which may."""

from __future__ import annotations

import time
from typing import Final

import click

from wgpy.agent.ask import ask, running_names
from wgpy.agent.report import describe_age
from wgpy.cli.up import choose_network
from wgpy.errors import ConfigError, HostError
from wgpy.mesh.encoding import Fields

_COUNT: Final = click.IntRange(1, 65535)
_SECONDS: Final = click.FloatRange(0.01, 3600)
_TIMEOUT: Final = click.IntRange(1, 60)


@click.command()
@click.argument("node")
@click.option("-c", "--count", type=_COUNT, default=4, show_default=True, help="Echoes.")
@click.option("-i", "--interval", type=_SECONDS, default=1.0, show_default=True, help="Seconds.")
@click.option("-W", "--timeout", type=_TIMEOUT, default=5, show_default=True, help="Seconds.")
@click.option("--network", help="The network the node is in, when several have one of that name.")
def ping(node: str, count: int, interval: float, timeout: int, network: str | None) -> None:
    """Ping a peer by name or address, and say by which path it is reached.

    The exit status is 1 when no answer came.
    """
    name = _find_network(node, network)
    answered = 0
    for sequence in range(1, count + 1):
        began = time.monotonic()
        request = {"op": "ping", "node": node, "sequence": sequence, "timeout": timeout}
        answer = ask(name, dict(request), timeout=timeout + 30)
        answered += not answer.is_null("rtt_ms")
        click.echo(describe_echo(answer, sequence, timeout))
        if sequence < count:
            time.sleep(max(0.0, began + interval - time.monotonic()))
    click.echo(f"{answered} of {count} answered")
    if not answered:
        raise click.exceptions.Exit(1)


def describe_echo(answer: Fields, sequence: int, timeout: int) -> str:
    """One line about one echo."""
    who = f"{answer.text('name')} ({answer.text('address')})"
    shaken_at = None if answer.is_null("latest_handshake") else answer.integer("latest_handshake")
    if answer.is_null("rtt_ms"):
        handshake = "no handshake yet" if shaken_at is None else f"last handshake {_ago(shaken_at)}"
        why = answer.text("reason", 4096)
        return f"{sequence}: no answer from {who} within {timeout} s ({handshake}): {why}"
    endpoint = "" if answer.is_null("endpoint") else f" by {answer.text('endpoint')}"
    path = answer.text("path")
    path = "direct" if path == "none" else path  # the answer came before the report knew
    return f"{sequence}: {who} answered in {answer.raw('rtt_ms')} ms, {path}{endpoint}"


def _ago(shaken_at: int) -> str:
    return f"{describe_age(max(0, int(time.time()) - shaken_at))} ago"


def _find_network(node: str, network: str | None) -> str:
    """The running network that has the node. Raises ConfigError."""
    running = running_names()
    if network is not None:
        return network if network in running else choose_network(network)
    if not running:
        raise HostError("no network is running on this host (wgpy up)")
    if len(running) == 1:
        return running[0]
    having = [name for name in running if _has(name, node)]
    if len(having) == 1:
        return having[0]
    if not having:
        raise ConfigError(f"no node {node!r} in any of the running networks: {', '.join(running)}")
    raise ConfigError(f"several networks have a node {node!r}, say which by --network: {', '.join(having)}")


def _has(name: str, node: str) -> bool:
    report = ask(name, {"op": "status"})
    for value, where in report.items("peers", 1 << 20):
        peer = Fields(value, where)
        if node in (peer.text("name"), peer.text("id"), *peer.texts("addresses", 256)):
            return True
    return False
