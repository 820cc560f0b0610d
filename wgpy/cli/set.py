"""`wgpy set`: change a node that runs, without joining again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from wgpy.agent.ask import NotRunning, ask
from wgpy.agent.state_file import load_state, locked, save_state
from wgpy.cli.choices import choice_options, read_choices
from wgpy.cli.up import choose_network
from wgpy.errors import ConfigError, HostError


@click.command("set")
@click.argument("network", required=False, metavar="[NETWORK]")
@click.option("--name", "node_name", help="What this host is to be called.")
@choice_options
@click.option("--routes", type=click.Choice(["on", "off"]), help="Whether routes are set here. Default: on.")
@click.option(
    "--firewall",
    type=click.Choice(["on", "off"]),
    help="Whether nftables and forwarding are seen to. Default: on.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be changed on this host, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def set_(
    *, network: str | None, node_name: str | None, dry_run: bool, as_json: bool, **given: object
) -> None:
    """Change what was chosen on this host: it takes effect at once, and is kept for the next start.

    Without options: show what was chosen.
    """
    changes = read_choices(given)
    name = choose_network(network)
    if dry_run:
        lines = ask(name, {"op": "preview", "choices": changes}).texts("steps", 100_000)
        click.echo("\n".join(lines or ["nothing would be changed"]))
        return
    if node_name is not None:
        changes["name"] = _check_name(node_name)
    try:
        answer = ask(name, {"op": "set", "choices": changes})
        shown = {"name": answer.text("name"), **answer.fields("choices").extra(frozenset())}
    except NotRunning:
        shown = _change_stopped(name, changes)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for key, value in shown.items():
        click.echo(f"{key.replace('_', ' '):15} {_words(key, value)}")


def _check_name(name: str) -> str:
    if not (name.isprintable() and 1 <= len(name.encode()) <= 63):
        raise ConfigError("--name: expected 1 to 63 printable characters")
    return name


def _change_stopped(network: str, changes: dict[str, Any]) -> dict[str, Any]:
    """For the next start."""
    if "name" in changes:
        raise HostError(f"{network} is not running; its coordinator renames it: wgpy up {network}")
    with locked(network):
        state = load_state(network)
        state = dataclasses.replace(state, choices=state.choices.changed(changes))
        save_state(state)
    return {"name": state.node_name, **state.choices.to_json()}


def _words(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:#x}" if key == "mark" and isinstance(value, int) else str(value) or "none"
