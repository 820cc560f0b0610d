"""Tables, JSON and ratios of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import results as module
from benchmarks.results import Results, Row, align, shorten

SPEED = Row("Speed", "Mbit/s")
DELAY = Row("Delay", "ms", more_is_better=False, digits=2)


@pytest.fixture
def results() -> Results:
    made = Results("How fast?", base="old")
    made.versions = {"old": "1", "new": "2", "broken": "3"}
    for value in (100, 900, 110):
        made.add(SPEED, "old", value)
    for value in (220, 230, 10):
        made.add(SPEED, "new", value)
    made.add(DELAY, "new", 0.12345678)
    return made


def test_medians_count_so_that_one_disturbed_round_does_not(results: Results) -> None:
    assert results.median(SPEED, "old") == 110
    assert results.median(SPEED, "new") == 220


def test_ratios_are_to_the_base(results: Results) -> None:
    assert results.ratio(SPEED, "new") == 2.0
    assert results.ratio(SPEED, "old") is None
    assert results.ratio(DELAY, "new") is None, "the base was not measured"


def test_the_table_has_a_line_a_figure_and_a_column_a_contender(results: Results) -> None:
    assert results.table().splitlines() == [
        "|               | old |        new | broken |",
        "| ------------- | --- | ---------- | ------ |",
        "| Speed, Mbit/s | 110 | 220 (2.00) |      – |",
        "| Delay, ms     |   – |       0.12 |      – |",
    ]


def test_a_figure_that_only_explains_others_is_in_the_json_alone(results: Results) -> None:
    explanation = Row("Retransmissions", "in all", in_table=False)
    results.add(explanation, "new", 3)
    assert "Retransmissions" not in results.table()
    assert results.as_json()["rows"][-1]["contenders"] == {"new": {"median": 3, "samples": [3]}}


def test_the_json_has_every_sample_and_what_it_was_measured_on(results: Results) -> None:
    results.skipped["missing"] = "not installed"
    read = json.loads(json.dumps(results.as_json()))
    speed, delay = read["rows"]
    assert speed["contenders"]["old"] == {"median": 110, "samples": [100, 900, 110]}
    assert (speed["better"], delay["better"]) == ("more", "less")
    assert read["machine"]["cores"] >= 1
    assert read["machine"]["kernel"]
    assert read["contenders"] == results.versions
    assert read["skipped"] == {"missing": "not installed"}


def test_files_are_named_by_question_and_day(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIRECTORY", tmp_path / "results")
    results.began = 0.0
    assert [path.name for path in results.write("speed", "<svg/>")] == [
        "speed-1970-01-01.json",
        "speed-1970-01-01.svg",
    ]
    assert [path.name for path in results.write("speed", "")] == ["speed-1970-01-01.json"]


def test_figures_are_shortened_to_what_a_measurement_can_tell() -> None:
    assert shorten(1234.5678) == 1234.6
    assert shorten(0.000123456) == 0.00012346
    assert shorten(0) == 0


def test_a_table_needs_only_its_head() -> None:
    assert align([["a", "bb"]]) == "| a | bb |\n| - | -- |"
