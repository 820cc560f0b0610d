"""The charts: SVG that parses, bars as long as their values."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.chart import Bar, Panel, render

SVG = "{http://www.w3.org/2000/svg}"


def draw(*bars: Bar, panels: int = 1) -> ElementTree.Element:
    picture = render("Title <1>", "sub & more", [Panel("Speed", "more is better", bars)] * panels)
    return ElementTree.fromstring(picture)


def widths(picture: ElementTree.Element) -> list[float]:
    return [
        float(rect.attrib["width"]) for rect in picture.iter(f"{SVG}rect") if rect.attrib["class"] != "back"
    ]


def texts(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_values() -> None:
    first, second = widths(draw(Bar("a", 50, 50, 50), Bar("b", 100, 100, 100)))
    assert second == 2 * first


def test_names_values_and_titles_are_there_and_escaped() -> None:
    said = texts(draw(Bar("a<b", 12345.6, 1, 20000, "ours")))
    assert {"Title <1>", "sub & more", "Speed", "more is better", "a<b", "12,346"} <= set(said)


def test_the_spread_of_the_samples_is_drawn_only_if_there_is_one() -> None:
    def spreads(bar: Bar) -> int:
        return sum(path.attrib["class"] == "spread" for path in draw(bar).iter(f"{SVG}path"))

    assert spreads(Bar("a", 50, 40, 60)) == 1
    assert spreads(Bar("a", 50, 50, 50)) == 0


def test_a_reference_does_not_set_the_scale_and_is_cut() -> None:
    picture = draw(Bar("cable", 20000, 19000, 21000, "reference"), Bar("tunnel", 1000, 1000, 1000))
    reference, tunnel = widths(picture)
    assert reference == tunnel
    assert [path.attrib["class"] for path in picture.iter(f"{SVG}path")] == ["cut"]


def test_references_alone_set_their_scale() -> None:
    half, whole = widths(draw(Bar("a", 5, 5, 5, "reference"), Bar("b", 10, 10, 10, "reference")))
    assert whole == 2 * half


def test_zero_and_nothing_are_drawn() -> None:
    assert len(widths(draw(Bar("a", 0, 0, 0)))) == 1
    assert widths(draw()) == []


def test_panels_stay_within_the_picture() -> None:
    picture = draw(Bar("a", 1, 1, 1), Bar("b", 2, 2, 2), panels=5)
    _, _, width, height = (float(value) for value in picture.attrib["viewBox"].split())
    for element in picture.iter(f"{SVG}text"):
        assert 0 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height
