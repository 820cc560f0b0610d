"""API keys: what programs send in place of signing in."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import PAGE, Endpoint, Needs, Subject
from coordinator.store.api_keys import KeyRow, add_api_key, encode_api_key, find_key, list_keys, revoke_key
from coordinator.store.networks import find_network_id
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.signing import BearerSecret


class Key(msgspec.Struct):
    """A key as far as anyone may know it. `network_id` null: it opens all networks, and the coordinator."""

    id: str
    name: str
    scope: str
    network_id: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    state: Annotated[str, msgspec.Meta(description="usable, expired or revoked")]


class Keys(msgspec.Struct):
    keys: list[Key]
    next: str | None


class NewKey(msgspec.Struct):
    """`network` null: all of them; `expires_in` in seconds, null: never."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scope: Annotated[str, msgspec.Meta(pattern="^(read|enrol|admin)$")] = "read"
    network: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    expires_in: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None


class MadeKey(msgspec.Struct):
    """`key` is shown this once."""

    id: str
    name: str
    scope: str
    key: str


def _key_of(row: KeyRow, now: float) -> Key:
    return Key(
        row.id, row.name, row.scope, row.network_id, row.created_at, row.expires_at, row.revoked_at,
        row.state(now),
    )  # fmt: skip


def _read_key(connection: Connection, _network_id: str, key_id: str) -> JsonObject | None:
    row = find_key(connection, key_id)
    if row is None:
        return None
    return {"id": row.id, "name": row.name, "scope": row.scope, "revoked_at": row.revoked_at}


async def list_api_keys(call: Call[None]) -> Keys:
    limit = call.limit()
    rows = await call.read(list_keys, call.query("after") or "", limit)
    return Keys([_key_of(row, call.now) for row in rows], rows[-1].id if len(rows) == limit else None)


async def create_api_key(call: Call[NewKey]) -> object:
    body, secret = call.body, BearerSecret(call.context.rng.randbytes(32))
    network_id = None
    if body.network is not None:
        network_id = await call.read(find_network_id, body.network, call.by.sees)
    expires_at = None if body.expires_in is None else call.now + body.expires_in

    def show(row: KeyRow) -> MadeKey:
        return MadeKey(row.id, row.name, row.scope, encode_api_key(secret))

    return await call.create(
        show, add_api_key, secret, body.name, call.now,
        scope=body.scope, network_id=network_id, expires_at=expires_at,
    )  # fmt: skip


async def revoke_api_key(call: Call[None]) -> Key:
    return _key_of(await call.change(revoke_key, call.path("key"), call.now), call.now)


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/admin/keys", list_api_keys, Needs.ADMIN, "key.list", "All API keys, not their secrets",
        gives=Keys, query=PAGE,
    ),
    Endpoint(
        "POST", "/v1/admin/keys", create_api_key, Needs.ADMIN, "key.create", "Make a key; it is shown once",
        takes=NewKey, gives=MadeKey, status=201, subject=Subject(_read_key), codes=("not_found",),
    ),
    Endpoint(
        "DELETE", "/v1/admin/keys/{key}", revoke_api_key, Needs.ADMIN, "key.revoke", "It opens nothing now",
        gives=Key, subject=Subject(_read_key, "key"), codes=("not_found",),
    ),
)  # fmt: skip
