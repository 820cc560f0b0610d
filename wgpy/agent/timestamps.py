"""The TAI64N in the state file: above every one sent, so that a host that boots in the past still talks.
Pure.

It is written an hour ahead, so that it is written seldom: a process that is killed has sent nothing above it.
"""

from __future__ import annotations

from typing import Final

from wgpy.protocol import tai64n

LEAD: Final = 3600
"""Seconds by which the stored timestamp is ahead."""
_SECOND_NS: Final = 1_000_000_000


def lead(highest: bytes | None, wall_clock_ns: int) -> bytes:
    """What to store: LEAD above the highest sent, and above now (12 octets)."""
    reached = wall_clock_ns if highest is None else max(wall_clock_ns, tai64n.decode(highest))
    return tai64n.encode(reached + LEAD * _SECOND_NS)


def is_due(stored: bytes | None, highest: bytes | None, wall_clock_ns: int) -> bool:
    """Whether the lead is half used up, by stamps or by time."""
    if stored is None:
        return True
    reached = wall_clock_ns if highest is None else max(wall_clock_ns, tai64n.decode(highest))
    return tai64n.decode(stored) - reached < LEAD * _SECOND_NS // 2
