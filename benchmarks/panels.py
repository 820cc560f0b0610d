"""From results to a chart: a panel for each row that asks for one, a bar a contender."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.chart import Bar, Panel, render
from benchmarks.contenders import Contender
from benchmarks.results import Results


def draw(title: str, results: Results, chosen: Sequence[Contender]) -> str:
    """The SVG."""
    machine = results.as_json()["machine"]
    rounds = results.parameters.get("rounds", 1)
    medians = f"medians of {rounds} interleaved rounds" if rounds > 1 else "one round"
    place = f"both ends on {machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}"
    subtitle = f"{place}; {medians}"
    return render(title, subtitle, panels(results, chosen))


def panels(results: Results, chosen: Sequence[Contender]) -> list[Panel]:
    """In the order of the rows; bars in the order of the contenders."""
    made = []
    for row, samples in results.rows.items():
        bars = tuple(
            Bar(
                c.name, statistics.median(samples[c.name]), min(samples[c.name]), max(samples[c.name]), c.kind
            )
            for c in chosen
            if c.name in samples
        )
        if row.chart and bars:
            better = "more" if row.more_is_better else "less"
            made.append(Panel(row.chart, f"{row.unit}, {better} is better", bars, row.digits))
    return made
