"""API keys: `wgpyk_` and 256 random bits, of which SHA-256 is kept."""

from __future__ import annotations

import hmac
from typing import Final

from sqlalchemy import Connection, insert, select

from coordinator.store.tables import api_keys
from wgpy.mesh.encoding import decode_b64u, encode_b64u
from wgpy.mesh.signing import BearerSecret

PREFIX: Final = "wgpyk_"


def encode_api_key(secret: BearerSecret) -> str:
    return PREFIX + encode_b64u(bytes(secret))


def parse_api_key_untrusted(text: str) -> BearerSecret | None:
    """The secret of what looks like an API key."""
    if not text.startswith(PREFIX) or len(text) > 64:
        return None
    try:
        return BearerSecret(decode_b64u(text.removeprefix(PREFIX)))
    except ValueError:
        return None


def add_api_key(connection: Connection, secret: BearerSecret, name: str, now: float) -> None:
    connection.execute(insert(api_keys).values(id=secret.id, key_hash=secret.hash, name=name, created_at=now))


def is_api_key(connection: Connection, secret: BearerSecret) -> bool:
    """Whether this key opens the administration."""
    row = connection.execute(
        select(api_keys.c.key_hash, api_keys.c.revoked_at).where(api_keys.c.id == secret.id)
    ).one_or_none()
    return row is not None and row.revoked_at is None and hmac.compare_digest(row.key_hash, secret.hash)
