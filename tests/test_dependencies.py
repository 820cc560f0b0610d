"""The Rust crates and the packages of a node are what deny.toml and the design allow: licences, one version
each, from the registry, pinned by checksum. No network: the lock file and what is installed are read.

`make audit` asks cargo-deny, which knows more, and the databases of known faults.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
POLICY = tomllib.loads((ROOT / "deny.toml").read_text())
LICENCES_OF_PACKAGES = re.compile(
    r"(MIT|Apache|ISC|BSD|PSF|Python Software Foundation|MPL|Mozilla|LGPL|GNU Lesser)", re.IGNORECASE
)
"""Those whose terms a program under MIT that installs them, unchanged, keeps."""


@functools.cache
def crates() -> list[dict[str, Any]]:
    """All that the lock file pins and a build for this machine could need, ours left out."""
    said = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--locked", "--all-features",
         "--filter-platform=x86_64-unknown-linux-gnu"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: list[dict[str, Any]] = json.loads(said)["packages"]
    return [crate for crate in found if crate["source"] is not None]


def may_be_used(expression: str, allowed: set[str]) -> bool:
    """Of SPDX, what crates have: AND over OR over names, in brackets or not; / is an old OR."""
    return all(
        any(name.strip(" ()") in allowed for name in re.split(r" OR |/", choice))
        for choice in expression.split(" AND ")
    )


def faults(crates: list[dict[str, Any]]) -> list[str]:
    """What deny.toml refuses of these packages of `cargo metadata`, a sentence each."""
    allowed = set(POLICY["licenses"]["allow"])
    exceptions = {each["crate"]: set(each["allow"]) for each in POLICY["licenses"]["exceptions"]}
    banned = {each["crate"] for each in POLICY["bans"]["deny"]}
    found = []
    for crate in crates:
        name, licence = crate["name"], crate["license"] or "none"
        if not may_be_used(licence, allowed | exceptions.get(name, set())):
            found.append(f"{name}: its licence is {licence}")
        if crate["source"] != "registry+https://github.com/rust-lang/crates.io-index":
            found.append(f"{name}: it comes from {crate['source']}")
        if name in banned:
            found.append(f"{name}: it is banned")
    counts = Counter(crate["name"] for crate in crates)
    return found + [f"{name}: it is there {count} times" for name, count in counts.items() if count > 1]


def test_no_crate_is_refused() -> None:
    assert POLICY["bans"]["multiple-versions"] == "deny"
    assert POLICY["sources"] == {"unknown-registry": "deny", "unknown-git": "deny"}
    assert len(crates()) > 20
    assert faults(crates()) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"license": "GPL-3.0-only"}, "its licence is GPL-3.0-only"),
        ({"license": None}, "its licence is none"),
        ({"source": "git+https://example.org/ring"}, "it comes from git+https://example.org/ring"),
        ({"name": "openssl-sys"}, "it is banned"),
        ({"version": "0"}, "it is there 2 times"),
    ],
)
def test_a_bad_crate_is_refused(change: dict[str, str | None], fault: str) -> None:
    bad = next(crate for crate in crates() if crate["name"] == "ring") | change
    assert faults([*crates(), bad] if "version" in change else [bad]) == [f"{bad['name']}: {fault}"]


def test_no_licence_passes_for_another() -> None:
    assert may_be_used("(MIT OR Apache-2.0) AND Unicode-3.0", {"MIT", "Unicode-3.0"})
    assert may_be_used("MIT/GPL-3.0", {"MIT"})
    assert not may_be_used("MIT AND GPL-3.0", {"MIT"})
    assert not may_be_used("none", {"MIT"})


def test_a_product_has_no_cipher_but_our_own_and_rings() -> None:
    """Others are compared in benchmarks/, in trees of their own; the one that seals nothing is no default."""
    locked = {package["name"] for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    assert not locked & {"aws-lc-rs", "aws-lc-sys", "openssl"}
    for path in ROOT.glob("rust/*/Cargo.toml"):
        manifest = tomllib.loads(path.read_text())
        assert "chacha20poly1305" not in manifest.get("dependencies", {}), path
        assert not manifest.get("features", {}).get("default"), path
    assert "features" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["maturin"]


def test_every_crate_is_the_registrys_and_pinned_by_checksum() -> None:
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    manifests = [tomllib.loads(path.read_text()) for path in ROOT.glob("rust/*/Cargo.toml")]
    ours = {manifest["package"]["name"] for manifest in manifests}
    for crate in locked:
        if "source" not in crate:
            assert crate["name"] in ours
            continue
        assert crate["source"].startswith("registry+"), crate["name"]
        assert re.fullmatch(r"[0-9a-f]{64}", crate["checksum"]), crate["name"]


def test_the_packages_fit_each_other() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def licence(package: Distribution) -> str:
    fields = package.metadata
    named = [value for value in fields.get_all("Classifier") or [] if value.startswith("License")]
    return " ".join([fields.get("License-Expression") or "", (fields.get("License") or "")[:80], *named])


def test_every_package_of_the_product_has_a_licence_that_may_be_shipped_beside_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + project["optional-dependencies"]["coordinator"]
    seen: set[str] = set()
    todo = [re.split(r"[\[ ;<>=!~]", requirement)[0] for requirement in named]
    while todo:
        name = todo.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        package = distribution(name)
        assert LICENCES_OF_PACKAGES.search(licence(package)), f"{name}: {licence(package)!r}"
        todo += [
            re.split(r"[\[ ;<>=!~()]", requirement)[0]
            for requirement in package.requires or []
            if "extra ==" not in requirement and ";" not in requirement
        ]
    assert len(seen) > 10
