"""`wgpy status`: every peer, how it is reached, and the reason in words."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final

import click

from wgpy.agent.ask import NotRunning, ask, running_names
from wgpy.agent.report import describe_age
from wgpy.agent.state_file import known_names
from wgpy.cli.up import choose_network
from wgpy.errors import WgpyError

WATCH_INTERVAL: Final = 1.0
"""Seconds."""
HEADER: Final = ("PEER", "ADDRESS", "PATH", "RTT", "HANDSHAKE", "RECEIVED", "SENT", "ENDPOINT", "")


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--paths", is_flag=True, help="Show all endpoints of each peer, and what became of them.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
def status(name: str | None, as_json: bool, paths: bool, watch: bool) -> None:
    """Show each network of this host: its coordinator, and every peer with its path and the reason.

    The exit status is 1 when a network that was asked for does not run.
    """
    if name is not None:
        choose_network(name)
    while True:
        reports = [_report(each) for each in _names(name)]
        text = "\n\n".join(render(report, with_paths=paths) for report in reports)
        if as_json:
            text = json.dumps({"networks": reports}, indent=2)
        if watch and not as_json and sys.stdout.isatty():
            click.clear()
        click.echo(text or _nothing())
        if not watch:
            break
        time.sleep(WATCH_INTERVAL)
    if name is not None and "peers" not in reports[0]:
        raise click.exceptions.Exit(1)


def _nothing() -> str:
    if os.geteuid() and os.path.exists("/var/lib/wgpy"):
        return "you joined no network on this host; those of root are shown to root: sudo wgpy status"
    return "this host joined no network yet: wgpy up TOKEN"


def _names(name: str | None) -> list[str]:
    return [name] if name is not None else sorted({*known_names(), *running_names()})


def _report(name: str) -> dict[str, Any]:
    """The running agent's report; of one that does not answer, why."""
    try:
        fields = ask(name, {"op": "status"})
    except NotRunning:
        return {"name": name, "state": "down", "reason": f"not running; start it: wgpy up {name}"}
    except WgpyError as error:
        return {"name": name, "state": "unknown", "reason": str(error)}
    return {**fields.extra(frozenset()), "state": "up"}


def render(report: dict[str, Any], *, with_paths: bool = False) -> str:
    """A report for a person. `with_paths`: with what was tried to reach each peer."""
    if "peers" not in report:
        return f"{report['name']}: {report['reason']}"
    coordinator, now = report["coordinator"], time.time()
    lines = [
        f"{report['name']}: {report['node']} on {report['interface']}, UDP port {report['listen_port']}",
        f"  addresses    {', '.join(report['addresses'])}",
        f"  coordinator  {_coordinator(coordinator, now)}",
    ]
    if report.get("names", {}).get("is_on"):
        lines.append(f"  names        {_names_line(report['names'])}")
    if report.get("names", {}).get("is_on") or report["exit_node"]:
        lines.append(f"  dns          {_rest_line(report['names']['rest'])}")
    if report["relays"]:
        lines.append(f"  relays       {', '.join(map(_relay, report['relays']))}")
    if report["forwards"]:
        lines.append(f"  forwards     {', '.join(report['forwards'])}")
    if report["exit_node"]:
        lines.append(f"  exit node    {report['exit_node']}")
    lines += [f"  note         {problem}" for problem in report["problems"]]
    rows = [_row(peer, now) for peer in report["peers"]]
    if not rows:
        return "\n".join([*lines, "  peers        none yet: make a token for another host"])
    table = [HEADER, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER) - 1)]
    lines.append("")
    for row, peer in zip(table, (None, *report["peers"]), strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(("  " + "  ".join([*cells, row[-1]])).rstrip())
        if with_paths and peer is not None:
            lines += _paths(peer)
    return "\n".join(lines)


def _names_line(names: dict[str, Any]) -> str:
    told = f"by {names['resolver']}" if names["resolver"] else "not asked for on this host yet"
    return f"NODE.{names['suffix']}, {told}"


_WAYS: Final = {
    "host": "",
    "exit": ", by the exit node {by}",
    "tunnel": ", through the tunnel to {by}",
    "local": ", a resolver of this host's own",
    "outside": ", outside of the tunnel to {by}",
    "lost": ": lost, for the tunnel to {by} leads to none",
}


def _rest_line(rest: dict[str, Any]) -> str:
    """Who answers for all names but the mesh's, and by which way."""
    return (", ".join(rest["servers"]) or "no name server") + _WAYS[rest["way"]].format(by=rest["by"])


def _coordinator(coordinator: dict[str, Any], now: float) -> str:
    text = f"{coordinator['state']}, {coordinator['reason'] or coordinator['url']}"
    return f"{text} (for {describe_age(max(0, int(now) - coordinator['since']))})"


def _relay(relay: dict[str, Any]) -> str:
    if relay["state"] != "up":
        return f"{relay['name']} ({relay['state']}{': ' * bool(relay['reason'])}{relay['reason']})"
    how = " over TLS" if str(relay["endpoint"]).startswith("https:") else ""
    stops = ", about to stop" if relay["draining"] else ""
    return f"{relay['name']} ({describe_rtt(relay['rtt_ms'])}{how}{stops})"


def _row(peer: dict[str, Any], now: float) -> tuple[str, ...]:
    shaken_at = peer["latest_handshake"]
    age = "never" if shaken_at is None else f"{describe_age(max(0, int(now) - shaken_at))} ago"
    is_noteworthy = peer["path"] in ("none", "relayed") or peer.get("mtu") is not None
    notes = [peer["reason"]] if is_noteworthy else []
    notes += [f"left out: {refused}" for refused in peer["refused"]]
    return (
        peer["name"],
        ", ".join([*peer["addresses"], *peer["ranges"]]) or "-",
        peer["path"],
        describe_rtt(peer.get("rtt_ms")),
        age,
        describe_size(peer["rx_bytes"]),
        describe_size(peer["tx_bytes"]),
        peer["endpoint"] or "-",
        "; ".join(notes),
    )


def _paths(peer: dict[str, Any]) -> list[str]:
    lines = [] if peer["path"] == "none" else [f"      {peer['reason']}"]
    for tried in peer["tried"]:
        rtt = describe_rtt(tried["rtt_ms"])
        size = f", MTU {tried['mtu']}" if tried.get("mtu") is not None else ""
        lines.append(f"      {tried['path']:<8}{tried['endpoint']:<30}{rtt:>8}  {tried['state']}{size}")
    if peer["next_try"] is not None:
        lines.append(f"      next look in {peer['next_try']} s")
    return lines


def describe_rtt(milliseconds: float | None) -> str:
    """`0.34 ms`, `34 ms`; `-` while it is not known."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def describe_size(octets: int) -> str:
    """`980 B`, `1.4 KiB`, as wg(8) has it."""
    size, unit = float(octets), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{octets} B" if unit == "B" else f"{size:.1f} {unit}"
