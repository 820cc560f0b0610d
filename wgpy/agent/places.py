"""Where a node keeps things: state that survives, and sockets that do not."""

from __future__ import annotations

import os
from pathlib import Path

from wgpy.darwin import IS_DARWIN
from wgpy.errors import ConfigError, HostError
from wgpy.mesh.encoding import is_label


def check_network_name(name: str) -> str:
    """The name, if a network may have it: it becomes part of paths. Raises ConfigError."""
    if not is_label(name):
        raise ConfigError(f"a network's name has a-z, 0-9 and inner hyphens, at most 63; got {name!r}")
    return name


def state_directory() -> Path:
    """WGPY_STATE_DIR, else /var/lib/wgpy for root, else below XDG_STATE_HOME."""
    return _directory("WGPY_STATE_DIR", "/var/lib/wgpy", "XDG_STATE_HOME", ".local/state")


def runtime_directory() -> Path:
    """WGPY_RUNTIME_DIR, else /run/wgpy (macOS: /var/run/wgpy) for root, else below XDG_RUNTIME_DIR."""
    return _directory(
        "WGPY_RUNTIME_DIR", "/var/run/wgpy" if IS_DARWIN else "/run/wgpy", "XDG_RUNTIME_DIR", ".cache"
    )


def _directory(variable: str, for_root: str, base: str, below_home: str) -> Path:
    if chosen := os.environ.get(variable):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path(for_root)
    parent = os.environ.get(base)
    return (Path(parent) if parent else Path.home() / below_home) / "wgpy"


def make_private_directory(path: Path) -> Path:
    """Make it, for us alone, if it is not there. Raises HostError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make the directory {path}: {error.strerror}") from None
    return path


def control_socket(name: str) -> Path:
    return runtime_directory() / f"{name}.sock"
