"""What was measured: rows of figures with a column a contender, as a table and as JSON."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine

DIRECTORY = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `chart` is the title of the panel that shows it, "" for none; `digits` after the point.

    One that explains others, rather than being an aim of its own, is not `in_table`: the JSON has it.
    """

    title: str
    unit: str
    more_is_better: bool = True
    chart: str = ""
    digits: int = 0
    in_table: bool = True


@dataclass(slots=True)
class Results:
    """Samples by row and contender. `base` is the contender that ratios refer to."""

    question: str
    base: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    """Of each contender, in the order of the columns."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Contenders that could not be had, and why."""
    notes: list[str] = field(default_factory=list)
    rows: dict[Row, dict[str, list[float]]] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def add(self, row: Row, contender: str, value: float) -> None:
        self.rows.setdefault(row, {}).setdefault(contender, []).append(value)

    def median(self, row: Row, contender: str) -> float | None:
        samples = self.rows.get(row, {}).get(contender)
        return statistics.median(samples) if samples else None

    def ratio(self, row: Row, contender: str) -> float | None:
        """To the base's median; None without either, or when it is the base itself."""
        ours, base = self.median(row, contender), self.median(row, self.base)
        return None if ours is None or not base or contender == self.base else ours / base

    # --- for people -----------------------------------------------------------------------------------------

    def table(self) -> str:
        """Medians, and in brackets the ratio to the base."""
        names = list(self.versions)
        lines = [["", *names]]
        for row in filter(lambda row: row.in_table, self.rows):
            title = f"{row.title}, {row.unit}" if row.unit else row.title
            lines.append([title, *(self._cell(row, name) for name in names)])
        return align(lines)

    def _cell(self, row: Row, name: str) -> str:
        median, ratio = self.median(row, name), self.ratio(row, name)
        if median is None:
            return "–"
        return f"{median:.{row.digits}f}" + ("" if ratio is None else f" ({ratio:.2f})")

    # --- for programs ---------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.began)),
            "machine": machine.describe(),
            "load_before": round(self.load_before, 2),
            "commit": machine.commit(),
            "parameters": self.parameters,
            "base": self.base,
            "contenders": self.versions,
            "skipped": self.skipped,
            "notes": self.notes,
            "rows": [
                {
                    "title": row.title,
                    "unit": row.unit,
                    "better": "more" if row.more_is_better else "less",
                    "contenders": {
                        name: {
                            "median": shorten(statistics.median(samples)),
                            "samples": [shorten(sample) for sample in samples],
                        }
                        for name, samples in by_contender.items()
                    },
                }
                for row, by_contender in self.rows.items()
            ],
        }

    def write(self, name: str, chart: str) -> list[Path]:
        """`NAME-DATE.json` and, unless `chart` is empty, `.svg` under results/."""
        DIRECTORY.mkdir(exist_ok=True)
        stem = DIRECTORY / f"{name}-{time.strftime('%Y-%m-%d', time.gmtime(self.began))}"
        written = [stem.with_suffix(".json")]
        written[0].write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")
        if chart:
            written.append(stem.with_suffix(".svg"))
            written[1].write_text(chart)
        return written

    def finish(self, name: str, chart: str, *, writes: bool) -> None:
        """Print the table and what was left out; write the files when asked to."""
        print(self.table())
        if self.base:
            print(f"\nMedians; in brackets the ratio to {self.base}.")
        for contender, version in self.versions.items():
            print(f"{contender}: {version}")
        for contender, why in self.skipped.items():
            print(f"not measured: {contender}: {why}")
        for note in self.notes:
            print(note)
        if writes:
            for path in self.write(name, chart):
                print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def shorten(value: float) -> float:
    """Five significant digits: more would be noise."""
    return float(f"{value:.5g}")


def align(lines: list[list[str]]) -> str:
    """A table that is Markdown and reads well as it is. The first line is the head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def progress(text: str) -> None:
    """One line about what is being done, apart from the table."""
    print(text, file=sys.stderr, flush=True)
