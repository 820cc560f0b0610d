"""The rules that keep the layers apart (docs/architecture.md), read from the sources themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LEAVES = {"wgpy.keys", "wgpy.addresses", "wgpy.errors"}
MAY_IMPORT = {
    "wgpy/keys.py": LEAVES,
    "wgpy/addresses.py": LEAVES,
    "wgpy/errors.py": LEAVES,
    "wgpy/config.py": LEAVES,
    "wgpy/protocol/": LEAVES | {"wgpy.protocol"},
    "wgpy/mesh/": LEAVES | {"wgpy.mesh"},
    "wgpy/uapi/messages.py": LEAVES | {"wgpy.protocol"},
    "wgpy/engine/": LEAVES
    | {"wgpy.protocol", "wgpy.engine", "wgpy.clock", "wgpy.udp", "wgpy.tun"}
    | {"wgpy.darwin.IS_DARWIN", "wgpy.darwin.framing"},
    "coordinator/": LEAVES | {"wgpy.mesh", "coordinator"},
}
"""Of our own packages, what a file or folder may import. Where two match, the longer decides."""

PURE = [
    "wgpy/protocol/",
    "wgpy/mesh/",
    "wgpy/agent/dns/message.py",
    "wgpy/agent/dns/outward.py",
    "wgpy/agent/dns/resolv_conf.py",
    "wgpy/agent/dns/wanted.py",
    "wgpy/agent/dns/zone.py",
    "wgpy/darwin/commands.py",
    "wgpy/agent/redact.py",
    "wgpy/uapi/messages.py",
    "wgpy/config.py",
    "wgpy/host/neighbours.py",
    "wgpy/host/nft.py",
    "wgpy/host/policy.py",
    "wgpy/host/setting.py",
    "wgpy/host/steps.py",
    "wgpy/addresses.py",
    "wgpy/errors.py",
    "coordinator/addresses.py",
    "coordinator/ages.py",
    "coordinator/auth.py",
    "coordinator/conflicts.py",
    "coordinator/feed.py",
    "coordinator/names.py",
    "coordinator/netmap.py",
    "coordinator/policy.py",
    "coordinator/change.py",
    "coordinator/preview.py",
    "coordinator/preview_clients.py",
    "coordinator/presence.py",
    "coordinator/ratelimit.py",
    "coordinator/settings.py",
    "coordinator/tunnels.py",
]
"""No I/O, no clock, no randomness of their own: time and chance are handed in."""

IMPURE = {
    "anyio", "asyncio", "datetime", "fcntl", "multiprocessing", "os", "pathlib", "queue", "random", "secrets",
    "select", "shutil", "signal", "socket", "sqlalchemy", "ssl", "starlette", "subprocess", "sys", "tempfile",
    "threading", "time", "trio", "uuid",
}  # fmt: skip

ENGINE_USERS = ("wgpy/engine/", "wgpy/protocol/crypto.py", "wgpy/clock.py", "wgpy/relay/server.py")

LONG = 600
REASON = "Over 600 lines because"


def tracked(*patterns: str) -> list[str]:
    """Files of the project that match, committed or about to be, relative to its root."""
    listing = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *patterns,
    ]
    try:
        names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        # An unpacked archive has no git.
        names = [
            str(path.relative_to(ROOT))
            for pattern in patterns
            for path in ROOT.glob(f"[a-zA-Z]*/**/{pattern}")
            if path.is_file()
        ]
    return sorted({name for name in names if (ROOT / name).is_file()})


def python_files(*folders: str) -> list[str]:
    return [name for name in tracked("*.py") if name.startswith(folders)]


def source(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def imports(name: str) -> Iterator[str]:
    """Dotted names of all that a file imports, in functions and for type checking too."""
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_beneath(imported: str, packages: set[str]) -> bool:
    return any(imported == package or imported.startswith(package + ".") for package in packages)


def test_the_sources_are_found() -> None:
    assert len(python_files("wgpy/", "coordinator/")) > 10


@pytest.mark.parametrize("name", python_files(*MAY_IMPORT))
def test_a_layer_imports_only_what_lies_beneath_it(name: str) -> None:
    allowed = MAY_IMPORT[max((prefix for prefix in MAY_IMPORT if name.startswith(prefix)), key=len)]
    ours = {imported for imported in imports(name) if imported.partition(".")[0] in ("wgpy", "coordinator")}
    engine = {"wgpy._engine"} if name.startswith(ENGINE_USERS) else set()
    assert not {imported for imported in ours if not is_beneath(imported, allowed | engine)}


@pytest.mark.parametrize("name", python_files(*PURE))
def test_a_pure_module_has_no_clock_no_chance_and_no_input_or_output(name: str) -> None:
    assert not {imported for imported in imports(name) if imported.partition(".")[0] in IMPURE}


def test_nothing_in_wgpy_imports_the_coordinator() -> None:
    for name in python_files("wgpy/"):
        assert not [imported for imported in imports(name) if is_beneath(imported, {"coordinator"})], name


def test_only_the_command_line_imports_the_command_line() -> None:
    for name in python_files("wgpy/", "coordinator/"):
        if not name.startswith(("wgpy/cli/", "coordinator/__main__.py")):
            found = [i for i in imports(name) if is_beneath(i, {"wgpy.cli", "coordinator.cli"})]
            assert not found, name


def test_only_the_engines_the_crypto_and_the_clock_import_the_extension() -> None:
    users = [
        n
        for n in python_files("wgpy/", "coordinator/")
        if any(is_beneath(i, {"wgpy._engine"}) for i in imports(n))
    ]
    assert [name for name in users if not name.startswith(ENGINE_USERS)] == []


def test_the_data_plane_knows_no_python() -> None:
    for name in tracked("*.rs", "*.toml"):
        if name.startswith("rust/dataplane/"):
            assert "pyo3" not in source(name), name


def test_a_node_carries_few_dependencies() -> None:
    # Routers carry them: an addition shows its price in memory and start-up time first.
    node = {
        "trio",
        "nacl",
        "pytun",
        "click",
        "h11",
        "segno",
        "wgpy",
        "outcome",
        "sniffio",
        "coordinator",
    }
    for name in python_files("wgpy/"):
        for imported in imports(name):
            top = imported.partition(".")[0]
            assert top in node or top in sys.stdlib_module_names, f"{name} imports {imported}"


@pytest.mark.parametrize("name", python_files("wgpy/", "coordinator/", "benchmarks/"))
def test_a_module_says_what_it_is(name: str) -> None:
    assert not source(name).strip() or ast.get_docstring(ast.parse(source(name)))


def test_a_long_file_gives_its_reason_and_nine_in_ten_are_short() -> None:
    lengths = {
        name: source(name).count("\n") for name in tracked("*.py", "*.rs") if "/migrations/" not in name
    }
    long = [
        n
        for n, count in lengths.items()
        if count > LONG and REASON not in "\n".join(source(n).splitlines()[:30])
    ]
    assert not long, f"split, or begin with why ({REASON!r})"
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) * 9 // 10] <= 400
    assert ordered[len(ordered) // 2] <= 200


def test_nothing_unfinished_is_left() -> None:
    # In two pieces, or they would be found here.
    marks = re.compile(
        "|".join(
            (
                r"\bTO" + r"DO\b",
                "FIX" + "ME",
                r"\bXX" + r"X\b",
                "NotImplemented" + "Error",
                r"todo" + "!",
                "unimplemented" + "!",
            )
        )
    )
    for name in tracked("*.py", "*.rs", "*.pyi", "*.md", "*.toml", "*.sh"):
        found = marks.search(source(name))
        assert not found, f"{name}: {found}"


def test_nothing_names_the_machine_it_was_written_on() -> None:
    places = [str(ROOT) + "/"] if len(ROOT.parts) > 2 else []
    pattern = re.compile("|".join([*map(re.escape, places), r"/ho" + r"me/\w+/", r"/Us" + r"ers/\w+/"]))
    for name in tracked("*.py", "*.rs", "*.pyi", "*.md", "*.toml", "*.sh", "*.json", "Makefile", ".ci/*"):
        found = pattern.search(source(name))
        assert not found, f"{name}: {found}"
