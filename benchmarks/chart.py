"""Bar charts as SVG: a panel a figure, a bar a contender. Follows the reader's light or dark scheme.

Pure. A bar that stands for another kind of thing than the rest (no tunnel at all) is a reference: it does not
set the scale, and is cut where it would leave the panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 960
MARGIN = 24
GAP = 36
BAR = 16
STEP = 24
HEAD = 44
LABEL = 118
VALUE = 66
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 18px; font-weight: 600 } .sub { fill: #57606a } .panel { font-weight: 600 }
.other { fill: #8c959f } .base { fill: #57606a } .ours { fill: #1a7f5a } .reference { fill: #d0d7de }
.spread { stroke: #24292f; stroke-opacity: .55 } .back { fill: #ffffff }
.cut { stroke: #ffffff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .sub { fill: #9198a1 } .other { fill: #656c76 } .base { fill: #9198a1 }
 .ours { fill: #3fb68b } .reference { fill: #3d444d } .spread { stroke: #e6edf3 } .back { fill: #0d1117 }
 .cut { stroke: #0d1117 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """`low` and `high` are the smallest and largest sample. `kind` is ours, base, other or reference."""

    label: str
    value: float
    low: float
    high: float
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class Panel:
    """`note` says which end is better; `digits` are those after the point."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    digits: int = 0

    @property
    def height(self) -> int:
        return HEAD + STEP * len(self.bars)

    @property
    def scale(self) -> float:
        """The value at the right edge."""
        own = [bar.high for bar in self.bars if bar.kind != "reference"] or [bar.high for bar in self.bars]
        return max(own, default=0.0) or 1.0


def render(title: str, subtitle: str, panels: Sequence[Panel], *, columns: int = 2) -> str:
    """The whole picture."""
    width = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) // columns
    body = []
    top = 76
    for start in range(0, len(panels), columns):
        line = panels[start : start + columns]
        for column, panel in enumerate(line):
            body.append(_panel(panel, MARGIN + column * (width + GAP), top, width))
        top += max(panel.height for panel in line) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
        f'<rect class="back" width="{WIDTH}" height="{top}"/>\n'
        f'<text class="title" x="{MARGIN}" y="34">{escape(title)}</text>\n'
        f'<text class="sub" x="{MARGIN}" y="54">{escape(subtitle)}</text>\n' + "".join(body) + "</svg>\n"
    )


def _panel(panel: Panel, left: int, top: int, width: int) -> str:
    room = width - LABEL - VALUE
    lines = [
        f'<text class="panel" x="{left}" y="{top + 14}">{escape(panel.title)}</text>\n',
        f'<text class="sub" x="{left}" y="{top + 30}">{escape(panel.note)}</text>\n',
    ]
    for number, bar in enumerate(panel.bars):
        lines.append(_bar(bar, panel, left + LABEL, top + HEAD + STEP * number, room))
    return "".join(lines)


def _bar(bar: Bar, panel: Panel, left: int, top: int, room: int) -> str:
    def across(value: float) -> float:
        return round(min(value / panel.scale, 1.0) * room, 1)

    middle = top + BAR / 2
    end = across(bar.value)
    parts = [
        f'<text x="{left - 8}" y="{top + 12}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{bar.kind}" x="{left}" y="{top}" width="{max(end, 0.5)}" height="{BAR}" rx="2"/>',
    ]
    if bar.value > panel.scale:
        cut = left + room - 14
        parts.append(f'<path class="cut" d="M{cut} {top + BAR + 2}l6 {-BAR - 4}"/>')
    elif bar.high > bar.low:
        low, high = left + across(bar.low), left + across(bar.high)
        parts.append(
            f'<path class="spread" d="M{low} {middle}H{high}M{low} {middle - 3}v6M{high} {middle - 3}v6"/>'
        )
        end = max(end, across(bar.high))
    parts.append(f'<text x="{left + end + 6}" y="{top + 12}">{bar.value:,.{panel.digits}f}</text>\n')
    return "".join(parts)
