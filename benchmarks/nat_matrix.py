"""Which path do two nodes find behind routers of every kind, and how soon? Each pair, with real processes.

sudo .venv/bin/python -m benchmarks.nat_matrix                     # every pair, 15 minutes
sudo .venv/bin/python -m benchmarks.nat_matrix symmetric carrier   # pairs that have one of these words
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Final

import click

from benchmarks.machine import commit
from benchmarks.results import align
from tests.netns.hosts import Lab
from tests.netns.meeting import PAIRS, Meeting, MeetingGround
from tests.netns.processes import HostFailure

RESULT: Final = Path(__file__).with_name("results") / "nat-matrix.json"


@click.command()
@click.argument("words", nargs=-1)
@click.option("--patience", default=8.0, help="Seconds to wait for the best path of each pair.")
@click.option("--write/--no-write", default=False, help=f"Write {RESULT.name}.")
def main(words: tuple[str, ...], patience: float, write: bool) -> None:
    """Print a table of all pairs; the exit code is 1 when one found another path than expected."""
    wanted = [pair for pair in PAIRS.values() if not words or any(word in pair.name for word in words)]
    if not wanted:
        raise click.UsageError(f"no pair has {' or '.join(words)} in its name; there are: {', '.join(PAIRS)}")
    meetings = []
    with Lab("matrix") as lab:
        ground = MeetingGround(lab)
        for number, pair in enumerate(wanted, 1):
            try:
                meeting = ground.meet(pair, patience)
            except HostFailure as error:
                meeting = Meeting(pair.name, pair.expected, "none", None, None, " ".join(str(error).split()))
            meetings.append(meeting)
            print(f"{number:>3}/{len(wanted)}  {'  '.join(_row(meeting))}", file=sys.stderr)
    print(align([["pair", "expected", "found", "first ping, s", "best path, s", ""], *map(_row, meetings)]))
    print(_summary(meetings))
    if write:
        document = {"commit": commit(), "meetings": [dataclasses.asdict(meeting) for meeting in meetings]}
        RESULT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if not all(meeting.is_as_expected for meeting in meetings):
        raise SystemExit(1)


def _row(meeting: Meeting) -> list[str]:
    return [
        meeting.pair,
        meeting.expected,
        meeting.found,
        _seconds(meeting.first_ping),
        _seconds(meeting.best_path),
        "" if meeting.is_as_expected else f"← {meeting.reason}",
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _summary(meetings: list[Meeting]) -> str:
    right = sum(meeting.is_as_expected for meeting in meetings)
    lines = [f"{right} of {len(meetings)} pairs found the path that their routers allow."]
    for what, seconds in (
        ("first ping", [m.first_ping for m in meetings if m.first_ping is not None]),
        ("best path", [m.best_path for m in meetings if m.best_path is not None]),
    ):
        if seconds:
            lines.append(f"{what}: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
