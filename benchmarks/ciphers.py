"""What does it cost to seal a packet, alone and in batches, by our kernels and by others' libraries?"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from pathlib import Path

from benchmarks.builds import BUILD, Unavailable
from benchmarks.results import Results, Row, progress

CRATE = Path(__file__).parent / "ciphers"


def row(size: int, batch: int) -> Row:
    return Row(f"{size} octets, {batch} at once", "ns a packet", more_is_better=False)


def versions() -> dict[str, str]:
    """Of the crates that are compared, as the lock file has them."""
    lock = (CRATE / "Cargo.lock").read_text()
    found = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    openssl = subprocess.run(
        ["openssl", "version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "ring": found["ring"],
        "aws-lc-rs": found["aws-lc-rs"],
        "RustCrypto": f"chacha20poly1305 {found['chacha20poly1305']}",
        "OpenSSL": openssl or "unknown",
    }


def samples(rounds: int) -> list[dict[str, str | float]]:
    """Raises Unavailable when it cannot be built."""
    command = ["cargo", "bench", "--quiet", "--locked", "--manifest-path", str(CRATE / "Cargo.toml")]
    command += ["--target-dir", str(BUILD / "ciphers")]
    done = subprocess.run(
        command, env={**os.environ, "ROUNDS": str(rounds)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"cannot be built or run (it takes libssl-dev and cmake):\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--no-write", action="store_true", help="print the table, write no files")
    options = parser.parse_args()
    results = Results(
        "What does it cost to seal a packet?", base="ring", parameters={"rounds": options.rounds}
    )
    progress("building, then a minute of sealing")
    known = versions()
    try:
        measured = samples(options.rounds)
    except Unavailable as error:
        raise SystemExit(f"benchmarks.ciphers: {error}") from None
    for sample in measured:
        name = str(sample["cipher"])
        results.versions.setdefault(name, known.get(name, "this tree"))
        results.add(row(int(sample["size"]), int(sample["batch"])), name, float(sample["ns"]))
    results.finish("ciphers", "", writes=not options.no_write)


if __name__ == "__main__":
    main()
