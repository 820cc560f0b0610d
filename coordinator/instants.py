"""Instants as people read them."""

from __future__ import annotations

import time


def show_instant(at: float) -> str:
    """Unix time in seconds, to the second, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
