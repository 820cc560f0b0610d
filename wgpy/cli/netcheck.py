"""`wgpy netcheck`: how this host is seen from outside, and what that means for paths."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from wgpy.addresses import Endpoint
from wgpy.agent.ask import ask, running_names
from wgpy.agent.checks import Verdict
from wgpy.agent.reachability import describe_reachability, reachability_to_json
from wgpy.cli.up import choose_network
from wgpy.errors import ConfigError, HostError
from wgpy.mesh.discovery import Discovery
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.stun import TRANSACTION_SIZE

_MARKS = {Verdict.GOOD: "ok  ", Verdict.NOTE: "note", Verdict.BAD: "BAD "}
_PATIENCE: Final = 8.0
"""Seconds for all servers: those that never answer are given up after six."""


@click.command()
@click.argument("network", required=False)
@click.option("--server", "servers", multiple=True, metavar="HOST:PORT", help="Ask this STUN server instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def netcheck(network: str | None, servers: tuple[str, ...], as_json: bool) -> None:
    """Ask how this host is seen from outside: UDP, NAT, and which direct paths there can be.

    The running agent asks from the tunnel's own socket, all networks or the one named. With --server no
    network need run, and the socket is a new one. The exit status is 1 when UDP does not come through at all.
    """
    if servers:
        if network is not None:
            raise ConfigError("--server asks without a network: leave its name away")
        found: dict[str, dict[str, Any]] = {
            "": _ask_servers([endpoint for text in servers for endpoint in _resolve(text)])
        }
    else:
        found = {name: _ask_agent(name) for name in _wanted(network)}
    if as_json:
        click.echo(
            json.dumps({"networks": [{"name": name, **value} for name, value in found.items()]}, indent=2)
        )
    else:
        for name, value in found.items():
            _show(name, value)
    if not any(view["endpoint"] for value in found.values() for view in value["views"].values()):
        raise click.exceptions.Exit(1)


def _wanted(network: str | None) -> list[str]:
    running = running_names()
    if network is not None:
        return [network if network in running else choose_network(network)]
    if not running:
        raise HostError(
            "no network is running on this host (wgpy up); to ask a STUN server without one: "
            "wgpy netcheck --server HOST:PORT"
        )
    return running


def _ask_agent(name: str) -> dict[str, Any]:
    fields = ask(name, {"op": "netcheck"}, timeout=_PATIENCE + 10)
    return {name: fields.raw(name) for name in ("views", "port_mapping", "findings")}


def _show(name: str, value: dict[str, Any]) -> None:
    if name:
        click.echo(f"{name}:")
    findings = value["findings"]
    width = max(len(finding["check"]) for finding in findings)
    for finding in findings:
        advice = f": {finding['advice']}" if finding["advice"] else ""
        click.echo(
            f"{_MARKS[finding['verdict']]}  {finding['check'].ljust(width)}  {finding['text']}{advice}"
        )


# --- without an agent ---------------------------------------------------------------------------------------


def _resolve(text: str) -> list[Endpoint]:
    """Raises ConfigError, HostError."""
    with contextlib.suppress(ConfigError):
        return [Endpoint.parse(text)]
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise ConfigError(f"--server is HOST:PORT, such as stun.example.org:3478; got {text!r}")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except (OSError, OverflowError) as error:
        raise HostError(f"{host}: {error.strerror if isinstance(error, OSError) else error}") from None
    return [_endpoint(entry[4]) for entry in found]


def _endpoint(address: tuple[Any, ...]) -> Endpoint:
    return Endpoint.parse(
        f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    )


def _ask_servers(servers: list[Endpoint]) -> JsonObject:
    discovery = Discovery(lambda: os.urandom(TRANSACTION_SIZE))
    with contextlib.ExitStack() as stack:
        sockets = {version: stack.enter_context(udp) for version, udp in _open_sockets()}
        own = list(_own_endpoints(sockets, servers))
        discovery.set_own(own)
        began = time.monotonic()
        discovery.set_servers(servers, began)
        while discovery.transactions and (now := time.monotonic()) < began + _PATIENCE:
            discovery.handle_timeout(now)
            for request in discovery.asks:
                with contextlib.suppress(OSError, KeyError):  # no route: as if nobody answered
                    sockets[request.to.address.version].sendto(
                        request.data, (str(request.to.address), request.to.port)
                    )
            discovery.asks.clear()
            for readable in select.select([*sockets.values()], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    data, source = readable.recvfrom(2048)
                    discovery.handle_answer(data, _endpoint(source), time.monotonic())
    views = discovery.views()
    return reachability_to_json(views, describe_reachability(views, own, servers))


def _open_sockets() -> Iterator[tuple[int, socket.socket]]:
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        with contextlib.suppress(OSError):  # a host without that family
            yield version, socket.socket(family, socket.SOCK_DGRAM)


def _own_endpoints(sockets: dict[int, socket.socket], servers: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """Where packets to the servers leave: the routing table tells by a second socket, and nothing is sent."""
    for udp in sockets.values():
        udp.bind(("", 0))
    for server in servers:
        tunnel = sockets.get(server.address.version)
        if tunnel is None:
            continue
        with socket.socket(tunnel.family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((str(server.address), server.port))
            yield _endpoint((probe.getsockname()[0], tunnel.getsockname()[1]))
