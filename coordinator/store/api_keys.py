"""API keys: `wgpyk_` and 256 random bits, of which SHA-256 is kept."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from coordinator.errors import Refusal
from coordinator.rights import SCOPES, Caller
from coordinator.store.secret_text import API_KEY, encode_secret, parse_secret_untrusted
from coordinator.store.tables import api_keys
from wgpy.mesh.signing import BearerSecret


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as far as anyone may know it: not its secret. `network_id` None: it opens everything."""

    id: str
    name: str
    scope: str
    network_id: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def state(self, now: float) -> str:
        """usable, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "usable"


_COLUMNS: Final = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.scope,
    api_keys.c.network_id,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)


def encode_api_key(secret: BearerSecret) -> str:
    return encode_secret(API_KEY, secret)


def parse_api_key_untrusted(text: str) -> BearerSecret | None:
    return parse_secret_untrusted(API_KEY, text)


def add_api_key(
    connection: Connection,
    secret: BearerSecret,
    name: str,
    now: float,
    *,
    scope: str = "admin",
    network_id: str | None = None,
    expires_at: float | None = None,
) -> KeyRow:
    row = KeyRow(secret.id, name, scope, network_id, now, expires_at, None)
    values = {"name": name, "scope": scope, "network_id": network_id, "created_at": now}
    connection.execute(
        insert(api_keys).values(id=secret.id, key_hash=secret.hash, expires_at=expires_at, **values)
    )
    return row


def _find(connection: Connection, secret: BearerSecret, now: float) -> KeyRow | None:
    found = select(*_COLUMNS, api_keys.c.key_hash).where(api_keys.c.id == secret.id)
    row: Any = connection.execute(found).one_or_none()
    if row is None or not hmac.compare_digest(row.key_hash, secret.hash):
        return None
    key = KeyRow(*row[:-1])
    return key if key.state(now) == "usable" else None


def find_key_caller(connection: Connection, secret: BearerSecret, now: float) -> Caller | None:
    """Who asks with this key, while it is usable."""
    key = _find(connection, secret, now)
    if key is None:
        return None
    right = SCOPES[key.scope]
    if key.network_id is None:
        return Caller("key", key.id, key.name, right)
    return Caller("key", key.id, key.name, None, {key.network_id: right})


def is_api_key(connection: Connection, secret: BearerSecret, now: float) -> bool:
    """Whether this key opens the whole administration."""
    key = _find(connection, secret, now)
    return key is not None and (key.scope, key.network_id) == ("admin", None)


def find_key(connection: Connection, key_id: str) -> KeyRow | None:
    row = connection.execute(select(*_COLUMNS).where(api_keys.c.id == key_id)).one_or_none()
    return None if row is None else KeyRow(*row)


def list_keys(connection: Connection, after: str, limit: int) -> list[KeyRow]:
    """In the order of their ids."""
    found = select(*_COLUMNS).where(api_keys.c.id > after).order_by(api_keys.c.id).limit(limit)
    return [KeyRow(*row) for row in connection.execute(found)]


def revoke_key(connection: Connection, key_id: str, now: float) -> KeyRow:
    """It opens nothing any more. Raises Refusal `not_found`."""
    mine = api_keys.c.id == key_id
    connection.execute(update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=now))
    row = find_key(connection, key_id)
    if row is None:
        raise Refusal("not_found", f"no API key has the id {key_id[:32]!r}: see the list of keys")
    return row
