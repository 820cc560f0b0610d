"""Transport keys are gone from memory once a session is wiped or dropped: looked for from outside."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys

import pytest

CHAINING_KEY = hashlib.sha256(b"a chaining key that is nowhere else").digest()
PROGRAM = """
import sys
from wgpy._engine import Session
def make():
    return Session(sys.stdin.buffer.read(32), True, 1, 2, 3, 0.0)
session = make()
session.seal(b"x" * 100, 1420, 1.0)
session.open(b"y" * 100, 1.0)
print("made", flush=True)
sys.stdin.buffer.read(1)
session.wipe() if sys.argv[1] == "wipe" else globals().pop("session")
print("wiped", flush=True)
sys.stdin.buffer.read(1)
"""


def transport_keys() -> tuple[bytes, bytes]:
    def hmac_(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.blake2s).digest()

    secret = hmac_(CHAINING_KEY, b"")
    first = hmac_(secret, b"\x01")
    return first, hmac_(secret, first + b"\x02")


def count_in_memory(pid: int, needle: bytes) -> int:
    """How often octets stand in the writable memory of a process."""
    count = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, permissions = line.split()[:2]
            if not permissions.startswith("rw"):
                continue
            start, end = (int(bound, 16) for bound in span.split("-"))
            memory.seek(start)
            count += memory.read(end - start).count(needle)
    return count


@pytest.mark.root
@pytest.mark.parametrize("how", ["wipe", "drop"])
def test_no_copy_of_a_transport_key_survives(how: str) -> None:
    command = [sys.executable, "-c", PROGRAM, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(CHAINING_KEY)
        process.stdin.flush()
        assert process.stdout.readline() == b"made\n"
        counts = [count_in_memory(process.pid, key) for key in transport_keys()]
        assert all(counts), "a search that finds nothing proves nothing"
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.readline() == b"wiped\n"
        counts = [count_in_memory(process.pid, key) for key in transport_keys()]
        assert counts == [0, 0]
        process.stdin.write(b"x")
