"""What breaks while two nodes talk, and how long until they talk again? Each event with real processes.

sudo .venv/bin/python -m benchmarks.breaking                # every event, 12 minutes
sudo .venv/bin/python -m benchmarks.breaking router cable   # events that have one of these words
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Final

import click

from benchmarks.machine import commit
from benchmarks.results import align
from tests.netns.breaking import BREAKS, Healing, heal
from tests.netns.hosts import Lab
from tests.netns.meeting import MeetingGround
from tests.netns.processes import HostFailure

RESULT: Final = Path(__file__).with_name("results") / "breaking.json"
GAP_GOAL: Final = 3.0
"""Seconds."""


@click.command()
@click.argument("words", nargs=-1)
@click.option("--patience", default=60.0, help="Seconds to wait for the best path after each event.")
@click.option("--write/--no-write", default=False, help=f"Write {RESULT.name}.")
def main(words: tuple[str, ...], patience: float, write: bool) -> None:
    """Print a table of all events; the exit code is 1 when a gap is over 3 s, or the best path does not come
    back.
    """
    wanted = [one for one in BREAKS.values() if not words or any(word in one.name for word in words)]
    if not wanted:
        raise click.UsageError(f"no event has {' or '.join(words)} in its name: {', '.join(BREAKS)}")
    healings = []
    with Lab("breaking") as lab:
        ground = MeetingGround(lab, relays=2)
        for number, broken in enumerate(wanted, 1):
            try:
                healing = heal(ground, broken, patience)
            except HostFailure as error:
                healing = Healing(broken.name, None, None, "none", str(error).splitlines()[0])
            healings.append(healing)
            if write:
                _write(healing)
            print(f"{number:>3}/{len(wanted)}  {'  '.join(_row(healing))}", file=sys.stderr)
    print(align([["event", "gap, s", "best path, s", "path", ""], *map(_row, healings)]))
    if not all(map(_is_good, healings)):
        raise SystemExit(1)


def _write(healing: Healing) -> None:
    """It replaces what the file has of the same event: they may be measured in pieces."""
    known = json.loads(RESULT.read_text())["healings"] if RESULT.exists() else []
    rows = {row["name"]: row for row in known}
    rows[healing.name] = dataclasses.asdict(healing) | {"commit": commit()}
    document = {"healings": [rows[name] for name in BREAKS if name in rows]}
    RESULT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _is_good(healing: Healing) -> bool:
    return healing.gap is not None and healing.gap <= GAP_GOAL and healing.best_path is not None


def _row(healing: Healing) -> list[str]:
    return [
        healing.name,
        "–" if healing.gap is None else f"{healing.gap:.2f}",
        "–" if healing.best_path is None else f"{healing.best_path:.2f}",
        healing.found,
        "" if _is_good(healing) else f"← {healing.reason or 'over the goal'}",
    ]


if __name__ == "__main__":
    main()
