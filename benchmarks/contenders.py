"""Who is measured: ours, and other WireGuards in user space, built once into target/benchmarks/."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import wgpy
from benchmarks import machine
from benchmarks.builds import BUILD, Unavailable, build
from benchmarks.engine_builds import RUSTCRYPTO_AVX512, with_cipher, without_cipher
from benchmarks.results import Results
from tests.interop.tunnel import Implementation
from wgpy.engine import ENGINES

BASE = "wireguard-go"
PLAIN = "plain veth"
NEWEST_GO = "golang.zx2c4.com/wireguard@latest"


@dataclass(frozen=True, slots=True)
class Contender:
    """A program to measure; `implementation` is None for the link without any tunnel."""

    name: str
    implementation: Implementation | None
    version: str

    @property
    def kind(self) -> str:
        """How charts paint it."""
        if self.implementation is None:
            return "reference"
        return "ours" if self.name.startswith("wgpy") else "base" if self.name == BASE else "other"


def _plain() -> Contender:
    return Contender(PLAIN, None, "no tunnel")


def _newest_wireguard_go() -> Contender:
    program = build(BUILD / "wireguard", "go", "install", NEWEST_GO, env={"GOBIN": str(BUILD)})
    version = machine.version_of("go", "version", "-m", str(program), pattern=r"v0\.\S+")
    return Contender(BASE, Implementation(BASE, (str(program), "--foreground")), version)


def _distribution_wireguard_go() -> Contender:
    if shutil.which("wireguard-go") is None:
        raise Unavailable("wireguard-go is not installed")
    version = machine.version_of("wireguard-go", "--version", pattern=r"v?\d+\.\d+\.\d+")
    name = "wireguard-go dist."
    return Contender(name, Implementation(name, ("wireguard-go", "--foreground")), version)


def _from_crate(crate: str, program: str, name: str, *options: str) -> Callable[[], Contender]:
    def make() -> Contender:
        path = build(
            BUILD / "cargo" / "bin" / program, "cargo", "install", "--locked", "--root", str(BUILD / "cargo"),
            "--target-dir", str(BUILD / "cargo-build"), crate,
        )  # fmt: skip
        shutil.rmtree(BUILD / "cargo-build", ignore_errors=True)
        return Contender(
            name,
            # Its own log level names are not wireguard-go's; a quiet log is what both are asked for.
            Implementation(name, (str(path), *options), ("WG_LOG_LEVEL=error",)),
            machine.version_of(str(path), "--version"),
        )

    return make


def _ours(engine: str, name: str = "", *environment: str) -> Callable[[], Contender]:
    def make() -> Contender:
        if engine not in ENGINES:
            raise Unavailable("this build has no such engine")
        settings = (f"WGPY_ENGINE={engine}", *environment)
        label = f"wgpy {name or engine}"
        return Contender(
            label, Implementation(label, ("wgpy-device", "--foreground"), settings), wgpy.__version__
        )

    return make


def _rebuilt(label: str, make_folder: Callable[[], Path]) -> Callable[[], Contender]:
    """The native engine, built as no product is."""

    def make() -> Contender:
        return _ours("native", label, f"PYTHONPATH={make_folder()}")()

    return make


KNOWN: dict[str, Callable[[], Contender]] = {
    PLAIN: _plain,
    BASE: _newest_wireguard_go,
    "wireguard-go dist.": _distribution_wireguard_go,
    "boringtun": _from_crate(
        "boringtun-cli", "boringtun-cli", "boringtun", "--foreground", "--disable-drop-privileges"
    ),
    "gotatun": _from_crate("gotatun-cli", "gotatun", "gotatun", "--foreground", "--disable-drop-privileges"),
    "wgpy portable": _ours("portable"),
    "wgpy native": _ours("native"),
    "wgpy library": _ours("native", "library", "WGPY_AEAD=library"),
    "wgpy aws-lc-rs": _rebuilt("aws-lc-rs", partial(with_cipher, "aws-lc-rs")),
    "wgpy RustCrypto": _rebuilt("RustCrypto", partial(with_cipher, "rustcrypto")),
    "wgpy RustCrypto AVX-512": _rebuilt(
        "RustCrypto AVX-512",
        partial(with_cipher, "rustcrypto", RUSTCRYPTO_AVX512),
    ),
    "wgpy null cipher": _rebuilt("null cipher", without_cipher),
}


ON_REQUEST = {name for name in KNOWN if name.startswith("wgpy ")} - {"wgpy portable", "wgpy native"}
"""Those that explain others: measured when `--only` has their whole name."""


def is_wanted(name: str, only: list[str] | None) -> bool:
    if name in ON_REQUEST:
        return name in (only or ())
    return not only or any(part == name if part in KNOWN else part in name for part in only)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What all benchmarks take."""
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="to be kept with the results: what else ran",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME",
        help=f"this contender, or those whose name has NAME in it; of: {', '.join(KNOWN)}",
    )  # fmt: skip


def choose(only: list[str] | None, results: Results, *, without_plain: bool = False) -> list[Contender]:
    """Those asked for that can be had. `results` learns their versions and why others were left out."""
    chosen = []
    for name, make in KNOWN.items():
        if (without_plain and name == PLAIN) or not is_wanted(name, only):
            continue
        try:
            contender = make()
        except Unavailable as error:
            results.skipped[name] = str(error)
            continue
        chosen.append(contender)
        results.versions[name] = contender.version
    results.base = BASE if BASE in results.versions else ""
    return chosen
