"""Who is measured: ours, and other WireGuards in user space, built once into target/benchmarks/."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import wgpy
from benchmarks import machine
from benchmarks.results import Results, progress
from tests.interop.tunnel import Implementation
from wgpy.engine import ENGINES

BUILD = Path(__file__).parents[1] / "target" / "benchmarks"
BASE = "wireguard-go"
PLAIN = "plain veth"
NEWEST_GO = "golang.zx2c4.com/wireguard@latest"


class Unavailable(Exception):
    """It cannot be had here; the message says why."""


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


def build(
    program: Path, tool: str, *command: str, env: dict[str, str] | None = None, sources: Iterable[Path] = ()
) -> Path:
    """The program, built by `command` if it is not there yet or older than a source. Raises Unavailable."""
    newest = max((path.stat().st_mtime for path in sources), default=0.0)
    if not program.exists() or program.stat().st_mtime < newest:
        program.unlink(missing_ok=True)
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")
        progress(f"building once: {' '.join((tool, *command))}")
        done = subprocess.run(
            [tool, *command], env=os.environ | (env or {}), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
            raise Unavailable(f"{tool} {command[0]}: {said[-1].strip()}")
    return program


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


LOAD_ENGINE = """import importlib.util, sys
spec = importlib.util.spec_from_file_location("wgpy._engine", {path!r})
sys.modules["wgpy._engine"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


def _without_cipher() -> Contender:
    """The native engine built to seal nothing: what a cipher that costs nothing would give."""
    target = BUILD / "null-cipher"
    library = target / "release" / "lib_engine.so"
    build(
        library, "cargo", "build", "--release", "--locked", "--quiet", "-p", "wgpy-engine",
        "--features", "null-cipher", "--target-dir", str(target), env={"PYO3_PYTHON": sys.executable},
        sources=(Path(__file__).parents[1] / "rust").rglob("*.rs"),
    )  # fmt: skip
    # Python reads this module of every process that has the folder on its path.
    (target / "sitecustomize.py").write_text(LOAD_ENGINE.format(path=str(library)))
    return _ours("native", "null cipher", f"PYTHONPATH={target}")()


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
    "wgpy null cipher": _without_cipher,
}


ON_REQUEST = {"wgpy library", "wgpy null cipher"}
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
