"""What a page is like for people: contrast (WCAG 2.2, 1.4.3 and 1.4.11), keyboard, narrow screens.

Measured on what Chromium has laid out: colours as computed, through every half-transparent layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

_SCRIPT: Final = Path(__file__).with_suffix(".js").read_text()


@dataclass(frozen=True, slots=True)
class Seen:
    """One text, or one line that means something, and how it stands out from what is behind it."""

    ratio: float
    needed: float
    element: str
    text: str


def _ask(page: Page, what: str) -> Any:
    return page.evaluate(f"{_SCRIPT}.{what}()")


def contrasts(page: Page) -> list[Seen]:
    """Of everything that can be seen now; inside the dialog alone while one is open."""
    return [Seen(*each) for each in _ask(page, "contrasts")]


def too_faint(page: Page) -> list[Seen]:
    return [seen for seen in contrasts(page) if seen.ratio < seen.needed]


def too_wide(page: Page) -> list[str]:
    """Elements for whose sake the page scrolls sideways; none when it does not."""
    found: list[str] = _ask(page, "wide")
    return found


def unreached(page: Page) -> list[str]:
    """What the Tab key does not come to, or comes to without showing that it is there."""
    names: list[str] = _ask(page, "stops")
    page.evaluate("() => (document.querySelector('dialog[open] h2') ?? document.body).focus()")
    reached: set[int] = set()
    unseen: set[int] = set()
    for _ in range(2 * len(names) + 4):
        page.keyboard.press("Tab")
        at: dict[str, Any] | None = _ask(page, "focused")
        if at is None or at["stop"] is None:
            continue
        stop = int(at["stop"])
        if stop in reached and len(reached) >= len(names):
            break
        reached.add(stop)
        if not at["isShown"]:
            unseen.add(stop)
    return [name for i, name in enumerate(names) if i not in reached or i in unseen]
