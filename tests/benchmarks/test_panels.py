"""Which figures a chart shows, and how its bars are painted."""

from __future__ import annotations

from benchmarks.contenders import BASE, PLAIN, Contender
from benchmarks.panels import panels
from benchmarks.results import Results, Row
from tests.interop.tunnel import Implementation

SHOWN = Row("Speed", "Mbit/s", chart="How fast")
DELAY = Row("Delay", "ms", False, "How late", 2)
HIDDEN = Row("Retransmissions", "in all", False)


def contender(name: str) -> Contender:
    return Contender(name, None if name == PLAIN else Implementation(name, ("true",)), "1")


def test_only_figures_that_ask_for_it_are_drawn_and_only_for_those_that_were_measured() -> None:
    results = Results("?")
    for name in (PLAIN, BASE, "wgpy native"):
        results.add(SHOWN, name, 1.0)
        results.add(HIDDEN, name, 1.0)
    for value in (1.0, 5.0, 2.0):
        results.add(DELAY, BASE, value)
    speed, delay = panels(
        results, [contender(PLAIN), contender(BASE), contender("wgpy native"), contender("boringtun")]
    )
    assert (speed.title, speed.note) == ("How fast", "Mbit/s, more is better")
    assert [(bar.label, bar.kind) for bar in speed.bars] == [
        (PLAIN, "reference"),
        (BASE, "base"),
        ("wgpy native", "ours"),
    ]
    assert delay.note == "ms, less is better"
    assert [(bar.value, bar.low, bar.high) for bar in delay.bars] == [(2.0, 1.0, 5.0)]
