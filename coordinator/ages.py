"""Spans of time as people write them: 30m, 24h, 7d. Pure."""

from __future__ import annotations

from typing import Final

from wgpy.errors import ConfigError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(text: str) -> int:
    """Seconds in 30m, 24h, 7d or 90 (seconds). Raises ConfigError."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if number.isascii() and number.isdigit() and len(number) < 10 and int(number) > 0:
        return int(number) * _UNITS[unit]
    raise ConfigError(f"a time is a number and s, m, h, d or w, such as 24h; got {text!r}")


def parse_end(text: str) -> int | None:
    """The same, or None for `never`. Raises ConfigError."""
    return None if text == "never" else parse_age(text)


def show_age(seconds: float) -> str:
    """In its largest unit that says enough: 90m, 2d."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * unit or seconds == unit:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.0f}s"
