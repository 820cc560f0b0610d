"""What seals packets. It is chosen once a process, so each choice here is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from wgpy.engine import cipher

pytestmark = pytest.mark.alone

DOCTOR = """
import sys
from wgpy.cli.main import main
from wgpy.engine import cipher
print(cipher()[0])
sys.argv = ["wgpy", "doctor", "--json"]
main()
"""

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


def doctor(wanted: str | None) -> tuple[str, dict[str, str]]:
    """The cipher's name, and what is said of it, of one process: it is timed at each start, and may come out
    either way on a busy machine.
    """
    name, document = output(DOCTOR, wanted).split("\n", 1)
    found = json.loads(document)
    return name, {each["text"]: each["verdict"] for each in found if each["check"] == "cipher"}


def test_the_best_is_chosen_without_a_word() -> None:
    _, warning = cipher()
    assert warning is None
    name, findings = doctor(None)
    assert findings == {f"ChaCha20-Poly1305 by {name}": "good"}


def test_the_library_can_be_asked_for() -> None:
    assert doctor("library")[1] == {"ChaCha20-Poly1305 by library (ring)": "good"}


@pytest.mark.parametrize("wanted", ["avx-512", "RING", "\udcff"])
def test_what_is_no_kernel_is_said_and_the_best_is_used(wanted: str) -> None:
    name, findings = doctor(wanted)
    assert findings.pop(f"ChaCha20-Poly1305 by {name}") == "good"
    ((text, verdict),) = findings.items()
    assert verdict == "note"
    assert "expected library, avx2, avx512 or neon" in text


def test_packets_are_sealed_alike_by_all_of_them() -> None:
    by_the_library = output(SEALING, "library")
    assert len(by_the_library) > 2 * 45 * 700
    for wanted in (None, "avx2", "avx512", "neon"):
        assert output(SEALING, wanted) == by_the_library, wanted
