"""What seals packets. It is chosen once a process, so each choice here is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from wgpy.engine import cipher

DOCTOR = "import sys; from wgpy.cli.main import main; sys.argv = ['wgpy', 'doctor', '--json']; main()"

CIPHERS = {"library (ring)", "avx2", "avx512", "avx512 with IFMA", "neon"}

SEALING = """
from wgpy import _engine
session = _engine.Session(bytes(32), True, 1, 2, 3, 0.0)
packets = [bytes([0x45]) + bytes([size % 256]) * size for size in (19, 1399, 1399, 700, 1399)]
runs = session.seal_packets(packets * 9, 1420, 0.0)
print(b"".join(octets for octets, _, _ in runs).hex())
"""


def output(code: str, wanted: str | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "WGPY_AEAD"}
    if wanted is not None:
        environment["WGPY_AEAD"] = wanted
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def doctor(wanted: str | None) -> dict[str, str]:
    found = json.loads(output(DOCTOR, wanted))
    return {each["text"]: each["verdict"] for each in found if each["check"] == "cipher"}


def is_choice(findings: dict[str, str]) -> bool:
    """One cipher, and no word more. Which is timed at each start: a busy machine may have it either way."""
    prefix = "ChaCha20-Poly1305 by "
    names = {text.removeprefix(prefix) for text in findings if text.startswith(prefix)}
    return len(names) == 1 and names <= CIPHERS and set(findings.values()) == {"good"}


def test_the_best_is_chosen_without_a_word() -> None:
    name, warning = cipher()
    assert warning is None
    assert is_choice({f"ChaCha20-Poly1305 by {name}": "good"})
    assert is_choice(doctor(None))


def test_the_library_can_be_asked_for() -> None:
    assert doctor("library") == {"ChaCha20-Poly1305 by library (ring)": "good"}


@pytest.mark.parametrize("wanted", ["avx-512", "RING", "\udcff"])
def test_what_is_no_kernel_is_said_and_the_best_is_used(wanted: str) -> None:
    findings = doctor(wanted)
    [text] = [text for text, verdict in findings.items() if verdict == "note"]
    assert "expected library, avx2, avx512 or neon" in text
    del findings[text]
    assert is_choice(findings)


def test_packets_are_sealed_alike_by_all_of_them() -> None:
    by_the_library = output(SEALING, "library")
    assert len(by_the_library) > 2 * 45 * 700
    for wanted in (None, "avx2", "avx512", "neon"):
        assert output(SEALING, wanted) == by_the_library, wanted
