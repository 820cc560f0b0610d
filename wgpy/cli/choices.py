"""The choices of a host as options: the same for `wgpy up` and `wgpy set`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from wgpy.agent.choices import LocalChoices
from wgpy.mesh.encoding import JsonObject

_ON_OFF: Final = click.Choice(["on", "off"])
_SWITCHES: Final = {
    "accept_routes": "accept_routes",
    "exit_lan": "keeps_lan",
    "kill_switch": "kill_switch",
    "open_firewall": "opens_firewall",
    "routes": "routes",
    "firewall": "firewall",
    "dns": "dns",
}
"""Options that are on or off, and the choices that they are."""

_OPTIONS: Final = (
    click.option(
        "--accept",
        metavar="RANGE",
        multiple=True,
        help="Let the mesh have a range that it may not take unasked. May be repeated.",
    ),
    click.option(
        "--refuse",
        metavar="RANGE",
        multiple=True,
        help="Do not route this range to its gateway. May be repeated.",
    ),
    click.option(
        "--accept-routes", type=_ON_OFF, help="Whether to route what gateways publish. Default: on."
    ),
    click.option(
        "--advertise",
        metavar="RANGE[,RANGE…]|any|exit|ingress|none",
        help="What this host forwards for others, once an admin approves.",
    ),
    click.option("--exit-node", metavar="NODE|none", help="The node by which all else leaves."),
    click.option(
        "--exit-lan", type=_ON_OFF, help="With an exit node: whether the LAN stays reachable. Default: on."
    ),
    click.option(
        "--kill-switch",
        type=_ON_OFF,
        help="With an exit node: whether nothing may leave past it, not even after a crash. Default: off.",
    ),
    click.option(
        "--mark", type=int, help="The mark and routing table for exit nodes. Default: 4983, which is 0x1377."
    ),
    click.option(
        "--dns",
        type=_ON_OFF,
        help="Answer the network's names on this host (NODE.NETWORK.internal), and have an exit node answer "
        "all others; or leave this host's DNS alone. "
        "Default: off.",
    ),
    click.option(
        "--accept-domain",
        metavar="DOMAIN",
        multiple=True,
        help="With --dns on: let the network say which name servers know a domain. May be repeated.",
    ),
    click.option(
        "--open-firewall",
        type=_ON_OFF,
        help="May one rule of ours go into firewalls that drop what this host forwards? Default: off.",
    ),
)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them; the command gets their values by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_choices(given: Mapping[str, object]) -> JsonObject:
    """What the agent is told: the choices that were named. Raises ConfigError for what cannot be."""
    changes: JsonObject = {}
    for name, value in given.items():
        if name in ("no_routes", "no_firewall"):  # the flags of `wgpy up`
            if value:
                changes[name.removeprefix("no_")] = False
            continue
        if value is None or value == ():
            continue
        if name in _SWITCHES:
            changes[_SWITCHES[name]] = value == "on"
        elif isinstance(value, tuple):
            changes[name] = list(value)
        else:
            changes[name] = value
    LocalChoices().changed(changes)  # so that a slip is told here, before anything is asked
    return changes
