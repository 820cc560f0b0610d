"""`wgpy genkey`, `pubkey`, `genpsk`: what wg(8) has by these names."""

from __future__ import annotations

import os
import secrets
import stat
import sys

import click

from wgpy.errors import ConfigError
from wgpy.keys import KEY_SIZE, PresharedKey, PrivateKey


@click.command()
def genkey() -> None:
    """Print a new private key."""
    _warn_if_world_readable()
    click.echo(PrivateKey(secrets.token_bytes(KEY_SIZE)).to_base64())


@click.command()
def genpsk() -> None:
    """Print a new preshared key."""
    _warn_if_world_readable()
    click.echo(PresharedKey(secrets.token_bytes(KEY_SIZE)).to_base64())


@click.command()
def pubkey() -> None:
    """Print the public key of the private key on standard input."""
    text = sys.stdin.read(1024).strip()
    try:
        key = PrivateKey.from_base64(text)
    except ConfigError as error:
        raise ConfigError(f"standard input: {error}") from None
    click.echo(str(key.public_key()))


def _warn_if_world_readable() -> None:
    """A key that goes to a file which anybody may read is no secret."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except OSError:
        return  # no real file
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o007:
        click.echo("wgpy: the key goes to a file that anybody may read; use umask 077", err=True)
