"""The coordinator's own secrets, wrapped in the database by a key that is in a file beside it.

Whoever has the database alone has no secret. They are made at first start by insert-if-absent, so that
processes that start together on one database end up with the same ones.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from coordinator.store.database import Database
from coordinator.store.tables import secrets
from wgpy.errors import StateError
from wgpy.keys import Secret

_NONCE: Final = 12


class WrappingKey(Secret):
    """The 32 octets of the key file."""

    __slots__ = ()

    _what = "wrapping key"

    def wrap(self, name: str, secret: bytes) -> bytes:
        """Sealed so that it opens under this name alone."""
        nonce = os.urandom(_NONCE)
        return nonce + ChaCha20Poly1305(bytes(self)).encrypt(nonce, secret, name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes | None:
        """None when it was wrapped by another key, under another name, or is damaged."""
        try:
            return ChaCha20Poly1305(bytes(self)).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            return None


def open_key_file(path: Path, *, make: bool) -> WrappingKey:
    """Read the key file; write a new one if there is none and `make` says so. Raises StateError."""
    if make and not path.exists():
        write_key_file(path, os.urandom(32))
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError:
        raise StateError(
            f"{path} is missing, and it wraps the secrets of this database: restore it from a backup"
        ) from None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from None
    if mode & 0o077:
        raise StateError(f"{path} can be read by others (mode {mode & 0o777:o}): chmod 600 it")
    if len(data) != 32:
        raise StateError(f"{path} has {len(data)} octets where 32 are expected: restore it from a backup")
    return WrappingKey(data)


def write_key_file(path: Path, key: bytes) -> None:
    """Whole or not at all, on the disk before any secret is wrapped by it; the first of two wins. Raises
    StateError.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from None


def _read_wrapped(connection: Connection) -> dict[str, bytes]:
    return {row.name: row.wrapped for row in connection.execute(select(secrets.c.name, secrets.c.wrapped))}


def _insert_wrapped(connection: Connection, name: str, wrapped: bytes, now: float) -> None:
    connection.execute(insert(secrets).values(name=name, wrapped=wrapped, created_at=now))


def load_secrets(
    database: Database, key_file: Path, makers: dict[str, Callable[[], bytes]], now: float
) -> dict[str, bytes]:
    """Every secret of `makers`, made now where the database has none. Raises StateError."""
    wrapped = database.read(_read_wrapped)
    key = open_key_file(key_file, make=not wrapped)
    for name, make in makers.items():
        if name not in wrapped:
            with contextlib.suppress(IntegrityError):  # another process made it first: theirs counts
                database.write(_insert_wrapped, name, key.wrap(name, make()), now)
    return check_key(database, key, key_file)


def replace_secrets(database: Database, key_file: Path, fresh: dict[str, bytes], now: float) -> None:
    """Put these in place of those that there are, all at once. Raises StateError."""
    key = open_key_file(key_file, make=False)

    def change(connection: Connection) -> None:
        for name, secret in fresh.items():
            connection.execute(delete(secrets).where(secrets.c.name == name))
            _insert_wrapped(connection, name, key.wrap(name, secret), now)

    database.write(change)


def check_key(database: Database, key: WrappingKey, key_file: Path) -> dict[str, bytes]:
    """All secrets of the database, which this key has to open. Raises StateError."""
    opened = {}
    for name, box in database.read(_read_wrapped).items():
        secret = key.unwrap(name, box)
        if secret is None:
            raise StateError(
                f"{key_file} does not open the secrets in {database.shown}: "
                "it belongs to another database, or one of the two is damaged; restore both from one backup"
            )
        opened[name] = secret
    return opened
