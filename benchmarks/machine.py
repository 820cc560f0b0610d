"""What a measurement was made on and with, for the JSON beside each table."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, kernel: what makes figures comparable; nothing that names a host."""
    return {
        "processor": _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo")) or platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_mib": int(_first(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo")) or 0) // 1024,
        "kernel": re.match(r"[\d.]*\d", platform.release())[0],  # type: ignore[index]
        "system": _first(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release")) or platform.system(),
        "python": platform.python_version(),
    }


def version_of(*command: str, pattern: str = r"\d+\.[\d.]*\d") -> str:
    """The first version number in what a command says; "unknown" when it says none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "unknown"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[0] if found else "unknown"


def commit() -> str:
    """The commit measured, with "+" when the tree differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "..") else "")


def _first(pattern: str, path: Path) -> str | None:
    try:
        found = re.search(pattern, path.read_text(), flags=re.M)
    except OSError:
        return None
    return found[1].strip() if found else None
