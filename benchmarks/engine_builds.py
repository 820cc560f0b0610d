"""The native engine as no product is built: without a cipher, and with other makers' ciphers.

Each build is a folder for PYTHONPATH: a program that has it there loads that engine, not the package's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.builds import BUILD, ROOT, build

RUSTCRYPTO_AVX512 = (
    '--cfg chacha20_avx512 --cfg chacha20_backend="avx512" -C target-feature=+avx512f,+avx512vl,+avx2'
)
"""For RUSTFLAGS. It does not choose while it runs, as it does between AVX2 and SSE2."""

LOAD_ENGINE = """import importlib.util, sys
spec = importlib.util.spec_from_file_location("wgpy._engine", {path!r})
sys.modules["wgpy._engine"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


def without_cipher() -> Path:
    """Built to seal nothing: what a cipher that costs nothing would give. Raises Unavailable."""
    return _build_engine(
        BUILD / "null-cipher", ROOT, "--locked", "-p", "wgpy-engine", "--features", "null-cipher"
    )


def with_cipher(library: str, rustflags: str = "") -> Path:
    """With `library`, a feature of engine_ciphers/, in place of rust/aead. Raises Unavailable.

    It is built in a copy of the tree: neither this library nor a way to choose it is in the product's.
    """
    tree = BUILD / f"engine-{library}{'-flags' if rustflags else ''}"
    members = ("rust/aead", "rust/dataplane", "rust/python")
    for member in members:
        shutil.rmtree(tree / member, ignore_errors=True)
        source = ROOT / ("benchmarks/engine_ciphers" if member == "rust/aead" else member)
        shutil.copytree(source, tree / member)
    manifest = (ROOT / "Cargo.toml").read_text()
    (tree / "Cargo.toml").write_text(manifest.replace('"rust/fuzz", ', ""))
    # The versions of all that both have in common.
    shutil.copy(ROOT / "Cargo.lock", tree)
    return _build_engine(
        tree / "target", tree, "-p", "wgpy-engine", "-p", "wgpy-aead", "--features", f"wgpy-aead/{library}",
        rustflags=rustflags,
    )  # fmt: skip


def _build_engine(target: Path, tree: Path, *options: str, rustflags: str = "") -> Path:
    library = target / "release" / "lib_engine.so"
    build(
        library, "cargo", "build", "--release", "--quiet", "--manifest-path", str(tree / "Cargo.toml"),
        "--target-dir", str(target), *options,
        env={"PYO3_PYTHON": sys.executable} | ({"RUSTFLAGS": rustflags} if rustflags else {}),
        sources=[*(ROOT / "rust").rglob("*.rs"), *(ROOT / "benchmarks" / "engine_ciphers").rglob("*.rs")],
    )  # fmt: skip
    # Python reads this module of every process that has the folder on its path.
    (target / "sitecustomize.py").write_text(LOAD_ENGINE.format(path=str(library)))
    return target
