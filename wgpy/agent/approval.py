"""Waiting for an admin's word on a join: ask again, say what happens, give up for a refusal alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from wgpy.agent.client import Refused
from wgpy.agent.follow import Backoff
from wgpy.errors import CoordinatorError
from wgpy.mesh.keyless import Waiting
from wgpy.mesh.wire import Membership

REMIND_INTERVAL: Final = 60.0
"""Seconds between two lines that say that we still wait."""
MAY_PASS: Final = frozenset(
    ("rate_limited", "challenge_expired", "internal", "busy", "unavailable", "disk_full", "network_full")
)
"""Refusals after which the same join may succeed."""

Ask = Callable[[], Awaitable[Membership | Waiting]]


async def wait_admitted(
    first: Waiting, ask: Ask, say: Callable[[str], None], describe: Callable[[], str]
) -> Membership:
    """Ask every `first.poll` seconds until we are in. `describe` says in a line what we wait for.

    A coordinator that is away is waited for. Raises Refused.
    """
    answer: Membership | Waiting = first
    backoff, reminded_at, is_away = Backoff(), trio.current_time(), False
    while isinstance(answer, Waiting):
        await trio.sleep(backoff.next_wait() if is_away else answer.poll)
        try:
            answer = await ask()
        except CoordinatorError as error:
            if isinstance(error, Refused) and error.code not in MAY_PASS:
                raise
            if not is_away:
                say(f"{error}; asking again")
            is_away = True
            continue
        if is_away:
            say("the coordinator answers again")
            backoff.reset()
        is_away = False
        if isinstance(answer, Waiting) and trio.current_time() - reminded_at >= REMIND_INTERVAL:
            reminded_at = trio.current_time()
            say(f"{describe()}, {describe_left(answer.expires_in)} left")
    return answer


def describe_left(seconds: int) -> str:
    """`58 min`, `7 days`."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
