"""`wgpy leave`: stop and forget, on both sides."""

from __future__ import annotations

import click
import trio

from wgpy.agent.ask import NotRunning, ask, wait_ended
from wgpy.agent.leave import leave_network
from wgpy.agent.state_file import delete_state, load_state, locked
from wgpy.cli.up import choose_network
from wgpy.errors import WgpyError


@click.command()
@click.argument("name", required=False)
def leave(name: str | None) -> None:
    """Stop a mesh and forget it, here and at the coordinator."""
    network = choose_network(name)
    try:
        answer = ask(network, {"op": "leave"})
        told, reason = answer.boolean("told"), "" if answer.boolean("told") else answer.text("reason", 4096)
        wait_ended(network)
    except NotRunning:
        told, reason = _leave_stopped(network)
    click.echo(f"left {network}; it is forgotten here")
    if not told:
        click.echo(
            f"wgpy: the coordinator could not be told ({reason}); "
            "it lists this host until it is removed there: wgpy coordinator node remove",
            err=True,
        )


def _leave_stopped(network: str) -> tuple[bool, str]:
    """Leave a network whose agent does not run: told, and why not."""
    with locked(network):
        state = load_state(network)
        try:
            trio.run(leave_network, state)
            told, reason = True, ""
        except WgpyError as error:
            told, reason = False, str(error)
        delete_state(network)
    return told, reason
