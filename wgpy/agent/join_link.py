"""Where somebody lets in the host before them: an address, and the same as a QR code for a phone."""

from __future__ import annotations

import io

_WHITE_ON_BLACK = "\033[97;40m"
_PLAIN = "\033[0m"


def join_link(url: str, network: str, join: str) -> str:
    """The page of the coordinator at `url` on which this join is approved, by who signs in there."""
    return f"{url}/join/{network}/{join}"


def terminal_qr(text: str) -> str | None:
    """Lines for a terminal, dark on light whatever its colours are. None where the library that draws it is
    not installed: nodes do without.
    """
    try:
        import segno  # noqa: PLC0415
    except ImportError:
        return None
    drawn = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(drawn, border=2, compact=True)
    return "\n".join(f"{_WHITE_ON_BLACK}{line}{_PLAIN}" for line in drawn.getvalue().splitlines())
