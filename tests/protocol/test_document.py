"""docs/protocol.md names files and tests that exist; those in Rust by their path from the top."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs/protocol.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`" in line
]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_rule_names_files_that_exist() -> None:
    files = {name for _, cell, _ in ROWS for name in spans(cell)}
    assert len(files) > 5
    assert {
        name
        for name in files
        if not any((ROOT / place / name).is_file() for place in ("wgpy/protocol", "wgpy", ""))
    } == set()


def test_every_rule_names_tests_that_exist() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^(?: {4})?(?:async )?def (test_\w+)", sources, flags=re.M))
    of_rust = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rust").rglob("src/**/*.rs"))
    defined |= set(re.findall(r"#\[test\]\n *fn (\w+)", of_rust))
    named = [spans(cell) for _, _, cell in ROWS]
    assert all(named)
    assert {name for names in named for name in names} - defined == set()
