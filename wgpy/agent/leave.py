"""Leaving a network whose agent does not run."""

from __future__ import annotations

from typing import Final

import trio

from wgpy.agent.client import CoordinatorClient, Credentials, Refused, Trust
from wgpy.agent.state_file import State
from wgpy.errors import CoordinatorError

TIMEOUT: Final = 20.0
"""Seconds for all of it."""


async def leave_network(state: State) -> None:
    """Tell the coordinator. Raises CoordinatorError; one that has removed us already is content."""
    client = CoordinatorClient(state.coordinator_urls, Trust(state.identity_hash, state.pinned))
    who = Credentials(state.network.id, state.node, state.keys.machine_key)
    with trio.move_on_after(TIMEOUT) as scope:
        try:
            await client.leave(who)
        except Refused as error:
            if error.removed is None:
                raise
    if scope.cancelled_caught:
        raise CoordinatorError(f"no answer within {TIMEOUT:.0f} s", code="unreachable")
