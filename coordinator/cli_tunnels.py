"""`wgpy coordinator tunnels`: which tunnels are up, as both their ends say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from coordinator.command import (
    admin_command,
    client_of,
    only_network,
    print_json,
    print_table,
)

HEADER = ("A", "B", "STATE", "PATH", "RTT", "HANDSHAKE", "A → B", "B → A", "TOLD", "")


@click.command()
@click.argument("network", required=False)
@click.option("--node", help="Those of this node alone: its name or id.")
@admin_command
def tunnels(network: str | None, node: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The tunnels of a network, as the nodes at both ends report them.

    Nodes report every 10 minutes and when a tunnel comes up or goes down; in the minute after this command,
    every 10 seconds.
    """
    found: list[dict[str, Any]] = []
    with client_of(state_dir) as client:
        path = ("networks", only_network(client, network), "tunnels")
        cursor = None
        while True:
            page = client.call("GET", *path, query={"limit": 1000, "after": cursor, "node": node})
            found += page["tunnels"]
            cursor = page["next"]
            if cursor is None:
                break
    if as_json:
        print_json(found)
    elif found:
        print_table(HEADER, [_row(pair, time.time()) for pair in found])
    else:
        click.echo("no node has reported a tunnel yet: they do some seconds after they come up")


def _row(pair: Mapping[str, Any], now: float) -> tuple[str, ...]:
    ends = {end["from"]: end for end in pair["ends"]}
    a, b = ends.get(pair["a"]), ends.get(pair["b"])
    fresh = [end for end in (a, b) if end is not None and not end["stale"]] or pair["ends"]
    return (
        pair["a_name"],
        pair["b_name"],
        pair["state"],
        _both([end["path"] for end in fresh]),
        _round_trip(fresh),
        _age(_latest(end["latest_handshake_at"] for end in fresh), now),
        _sent(a, b),
        _sent(b, a),
        _age(_latest(end["at"] for end in fresh), now),
        "; ".join(dict.fromkeys(end["reason"] for end in fresh if end["reason"])),
    )


def _both(words: list[str]) -> str:
    return " / ".join(dict.fromkeys(words))


def _latest(instants: Iterable[float | None]) -> float | None:
    return max((instant for instant in instants if instant is not None), default=None)


def _round_trip(ends: Iterable[Mapping[str, Any]]) -> str:
    """The shorter of the two: both are the same path's, and what is on top is work at the ends."""
    known = [end["rtt_ms"] for end in ends if end["rtt_ms"] is not None]
    return f"{min(known):.3g} ms" if known else "-"


def _age(instant: float | None, now: float) -> str:
    if instant is None:
        return "-"
    age = max(0, int(now - instant))
    return f"{age} s ago" if age < 120 else f"{age // 60} min ago"


def _sent(sender: Mapping[str, Any] | None, receiver: Mapping[str, Any] | None) -> str:
    """Octets from one to the other: what arrived, else what was sent."""
    octets = receiver["rx_bytes"] if receiver is not None else sender["tx_bytes"] if sender is not None else 0
    size, unit = float(octets), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{octets} B" if unit == "B" else f"{size:.1f} {unit}"
