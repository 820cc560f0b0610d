"""The address at which a host is let in, and its QR code."""

from __future__ import annotations

import builtins
import re
from typing import Any

import pytest
import segno

from wgpy.agent.join_link import join_link, terminal_qr

LINK = join_link("https://coordinator.example:8443", "office", "0" * 32)


def modules_of(drawn: str) -> list[list[bool]]:
    """Dark or not, of half blocks in which light is drawn."""
    rows = []
    for line in re.sub(r"\033\[[\d;]*m", "", drawn).splitlines():
        rows.append([char in " ▄" for char in line])
        rows.append([char in " ▀" for char in line])
    return rows


def test_the_code_has_each_module_of_the_address() -> None:
    assert LINK == "https://coordinator.example:8443/join/office/" + "0" * 32
    drawn = terminal_qr(LINK)
    assert drawn is not None
    expected = [
        [bool(dark) for dark in row]
        for row in segno.make(LINK, error="l", micro=False).matrix_iter(scale=1, border=2)
    ]
    assert modules_of(drawn)[: len(expected)] == expected


def test_without_the_library_there_is_no_code_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "segno":
            raise ImportError(name)
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert terminal_qr(LINK) is None
