"""genkey, pubkey and genpsk, with wg(8) beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wgpy.keys import PresharedKey, PrivateKey


def wgpy(*arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wgpy.cli.main", *arguments]
    return subprocess.run(command, input=input, text=True, capture_output=True, check=False)


def wg(*arguments: str, input: str | None = None) -> str:
    return subprocess.run(["wg", *arguments], input=input, text=True, capture_output=True, check=True).stdout


def test_a_new_private_key_is_clamped_and_another_each_time() -> None:
    keys = {wgpy("genkey").stdout for _ in range(3)}
    assert len(keys) == 3
    for line in keys:
        raw = bytes(PrivateKey.from_base64(line.strip()))
        assert (raw[0] & 7, raw[31] & 0xC0) == (0, 0x40)


def test_a_public_key_is_wgs() -> None:
    private = wgpy("genkey").stdout
    assert wgpy("pubkey", input=private).stdout == wg("pubkey", input=private)
    private = wg("genkey")
    assert wgpy("pubkey", input=private).stdout == wg("pubkey", input=private)


def test_a_preshared_key_has_32_octets() -> None:
    PresharedKey.from_base64(wgpy("genpsk").stdout.strip())


@pytest.mark.parametrize("text", ["", "short", "A" * 44, "=" * 44, "a" * 2000])
def test_what_is_no_key_is_said_and_not_repeated(text: str) -> None:
    done = wgpy("pubkey", input=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wgpy: standard input: a private key is 44 characters of base64")
    assert len(done.stderr.splitlines()) == 1
    assert text == "" or text not in done.stderr


@pytest.mark.parametrize(("mode", "warns"), [(0o644, True), (0o600, False)])
def test_a_file_that_anybody_may_read_is_warned_of(tmp_path: Path, mode: int, warns: bool) -> None:
    path = tmp_path / "key"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT), "w") as file:
        os.fchmod(file.fileno(), mode)
        command = [sys.executable, "-m", "wgpy.cli.main", "genkey"]
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    assert ("umask 077" in done.stderr) is warns
    PrivateKey.from_base64(path.read_text().strip())
