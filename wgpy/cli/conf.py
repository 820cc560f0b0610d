"""`wgpy up FILE.conf` and `wgpy down NAME`: tunnels by a file of wg-quick's format."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from wgpy.errors import HostError
from wgpy.quick.record import end_tunnel, known_tunnels


def up_file(path: Path, *, detach: bool, verbose: bool = False) -> NoReturn:
    """Go on as the process of the tunnel, which shares no memory with the command line."""
    flags = [*(["--detach"] if detach else []), *(["--verbose"] if verbose else [])]
    sys.stdout.flush()
    # -P: the directory we were called in is no place to import from.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "wgpy.quick", *flags, "--", str(path)])


def has_tunnel(name: str) -> bool:
    """Whether a tunnel by this name is up, or was left behind by a process that was killed."""
    return name in known_tunnels()


def down_file(path: Path) -> None:
    """Stop the tunnel of a file, by the file or by its name alone. Raises HostError."""
    name = path.name.removesuffix(".conf")
    if end_tunnel(name):
        click.echo(f"{name} is down")
    elif has_tunnel(name):
        _clear(name)
        click.echo(f"{name} was killed; what it left behind is removed")
    else:
        raise HostError(
            f"there is no tunnel {name} that `wgpy up` has started; `wgpy show interfaces` lists others"
        )


def _clear(name: str) -> None:
    from wgpy.quick.record import Claim, Record  # noqa: PLC0415
    from wgpy.quick.tunnel import clear_tunnel  # noqa: PLC0415 (a device's worth of imports)

    with Claim(name, Record(os.getpid(), "")) as claim:
        if claim.left_behind is not None:
            clear_tunnel(name, claim.left_behind)
