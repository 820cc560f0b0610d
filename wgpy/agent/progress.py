"""What `wgpy up` says while it runs: how the coordinator and the peers are, whenever that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from wgpy.agent.agent import Agent
from wgpy.agent.notify import notify
from wgpy.agent.report import CoordinatorReport, Report, summary

LOOK_INTERVAL: Final = 0.25
"""Seconds between looks."""
LONGEST_INTERVAL: Final = 15.0
"""The same once it has settled, among so many peers that a look takes its time."""
SETTLE_TIME: Final = 6.0
"""Seconds that peers get to shake hands before `--detach` lets go of the terminal."""
CONTACT_TIME: Final = 15.0
"""Seconds that the coordinator gets before that."""


async def show_progress(agent: Agent, say: Callable[[str], None], ready: Callable[[], None]) -> None:
    """Say what changes; call `ready` once when it has settled."""
    with trio.move_on_after(CONTACT_TIME):
        await agent.contacted.wait()
    started = trio.current_time()
    said_coordinator = said_peers = ""
    said_problems: tuple[str, ...] = ()
    is_ready = False
    while True:
        began = trio.current_time()
        report = agent.report()
        if (line := describe_coordinator(report.name, report.coordinator)) != said_coordinator:
            said_coordinator = line
            say(line)
        line = summary(report.peers)
        is_settled = has_settled(report)
        if line != said_peers and (is_settled or trio.current_time() - started > SETTLE_TIME):
            said_peers = line
            say(line)
            notify(f"STATUS={line}")
        if is_ready and report.problems != said_problems:
            for problem in report.problems:
                if problem not in said_problems:
                    say(f"note: {problem}")
            said_problems = report.problems
        if not is_ready and (is_settled or trio.current_time() - started > SETTLE_TIME):
            is_ready = True
            for problem in report.problems:
                say(f"note: {problem}")
            said_problems = report.problems
            ready()
        await trio.sleep(pause_after(trio.current_time() - began, is_ready=is_ready))


def pause_after(took: float, *, is_ready: bool) -> float:
    """Seconds until the next look: it costs a hundredth of a processor at first, a thousandth later."""
    if not is_ready:
        return max(LOOK_INTERVAL, took * 100)
    return max(4 * LOOK_INTERVAL, took * 100, min(took * 1000, LONGEST_INTERVAL))


def has_settled(report: Report) -> bool:
    """Nobody who is online is still unreachable, and the map is there."""
    if report.revision is None or report.coordinator.state == "connecting":
        return False
    return all(peer.is_reachable or peer.online is False for peer in report.peers)


def describe_coordinator(name: str, coordinator: CoordinatorReport) -> str:
    match coordinator.state:
        case "connected":
            return f"connected to {coordinator.url}"
        case "connecting":
            return f"{name}: waiting for the coordinator at {coordinator.url}"
        case "polling":
            return f"polling {coordinator.url}: {coordinator.reason}"
    return f"{name} runs from its saved map: {coordinator.reason}"
