"""`wgpy bugreport`: one file with what is needed to find a fault, and nothing secret in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from wgpy.agent.bugreport import Part, collect, render
from wgpy.agent.redact import Identifiers
from wgpy.errors import HostError


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--identifiers",
    type=click.Choice([each.value for each in Identifiers]),
    default=Identifiers.SHORT.value,
    help="Public keys and internet addresses: their first part, a hash, or whole.",
)
def bugreport(file: Path | None, identifiers: str) -> None:
    """Write FILE (0600) with all that helps to find a fault on this host: `-` is standard output.

    Private keys, tokens and preshared keys are never in it. It works without root and with the agent dead;
    what could not be read is said in it. Nothing is sent: read it, and give it to whom you like.
    """
    if file is None:
        file = Path(time.strftime("wgpy-bugreport-%Y%m%d-%H%M%S.txt", time.gmtime()))
    parts = collect(Identifiers(identifiers))
    if str(file) == "-":
        click.echo(render(parts))
        return
    _write(file, render(parts))
    click.echo(f"{file} holds:")
    for part in parts:
        click.echo(f"  {part.title:<12} {part.about}{_failed(part)}")
    said = {"short": "shortened", "hashed": "hashed", "whole": "whole, as you wished"}[identifiers]
    click.echo(
        f"No private key, token or preshared key is in it; public keys and internet addresses are {said}."
    )
    click.echo("Names of hosts, nodes and networks are. Nothing was sent: read it before you give it away.")


def _failed(part: Part) -> str:
    return f" ({part.text})" if part.text.startswith("could not be read") else ""


def _write(file: Path, text: str) -> None:
    """A new file for its owner alone. Raises HostError."""
    try:
        fd = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise HostError(f"{file} exists: name another file") from None
    except OSError as error:
        raise HostError(f"cannot write {file}: {error.strerror}") from None
    with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as out:
        out.write(text)
