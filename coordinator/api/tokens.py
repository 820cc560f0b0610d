"""Tokens of a network (docs/wire.md §8)."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.names import MAX_TAGS
from coordinator.store import networks, tokens
from coordinator.store.tokens import MAX_EPHEMERAL, MIN_EPHEMERAL
from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token


class NewToken(msgspec.Struct):
    """`uses` 0: no limit; `expires_in` in seconds. A fixed name or address is for a token with one use.
    `ephemeral_after`: its nodes are removed after that many seconds offline. `approval` null: as the network
    says.
    """

    uses: int | None = None
    expires_in: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tags: Annotated[list[str], msgspec.Meta(max_length=MAX_TAGS)] | None = None
    node_name: str | None = None
    node_addresses: Annotated[list[str], msgspec.Meta(max_length=2)] | None = None
    ephemeral_after: Annotated[int, msgspec.Meta(ge=MIN_EPHEMERAL, le=MAX_EPHEMERAL)] | None = None
    approval: bool | None = None


def _token_json(row: tokens.TokenRow, now: float) -> JsonObject:
    return {
        "id": row.id,
        "state": row.state(now),
        "uses": row.uses,
        "uses_allowed": row.uses_allowed,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        **_terms_json(row),
    }


def _terms_json(row: tokens.TokenRow) -> JsonObject:
    return {
        "tags": list(row.tags),
        "node_name": row.node_name,
        "node_addresses": list(row.node_addresses),
        "ephemeral_after": row.ephemeral_after,
        "approval": row.approval,
    }


def _parse_address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"expected an address such as 10.7.0.9; got {text[:64]!r}") from None


# --- what is audited: the same, without what moves by itself ---


def _read_token(connection: Connection, network_id: str, token_id: str) -> JsonObject | None:
    row = tokens.read_token(connection, network_id, token_id)
    if row is None:
        return None
    value = {"id": row.id, "uses_allowed": row.uses_allowed, "expires_at": row.expires_at}
    return value | {"revoked_at": row.revoked_at} | _terms_json(row)


_TOKEN: Final = Subject(_read_token, "token")


async def list_tokens(call: Call[None]) -> JsonObject:
    rows = await call.read(tokens.list_tokens, call.network_id)
    return {"tokens": [_token_json(row, call.now) for row in rows]}


async def create_token(call: Call[NewToken]) -> object:
    default, body, identity = tokens.TokenTerms(), call.body, call.context.identity
    terms = tokens.TokenTerms(
        uses=default.uses if body.uses is None else body.uses,
        expires_in=default.expires_in if body.expires_in is None else body.expires_in,
        tags=tuple(body.tags or ()),
        node_name=body.node_name,
        node_addresses=tuple(map(_parse_address, body.node_addresses or ())),
        ephemeral_after=body.ephemeral_after,
        approval=body.approval,
    )
    network = (await call.read(networks.find_network, call.network_id)).network
    secret = BearerSecret(call.context.rng.randbytes(32))

    def show(row: tokens.TokenRow) -> JsonObject:
        token = Token(identity.hash, secret, network.urls, identity.pinned)
        shown = {"token": token.encode(), "network": network.name, "urls": list(network.urls)}
        return _token_json(row, call.now) | shown

    return await call.create(show, tokens.create_token, network.id, secret, terms, call.now)


async def revoke_token(call: Call[None]) -> JsonObject:
    row = await call.change(tokens.revoke_token, call.network_id, call.path("token"), call.now)
    return _token_json(row, call.now)


_ALL: Final = "/v1/admin/networks/{network}/tokens"

ENDPOINTS: Final = (
    Endpoint("GET", _ALL, list_tokens, Needs.READ, "token.list", "Its tokens, not their secrets"),
    Endpoint(
        "POST", _ALL, create_token, Needs.ENROL, "token.create", "Make a token; it is shown once",
        takes=NewToken, status=201, subject=Subject(_read_token), codes=("name_in_use", "address_in_use"),
    ),
    Endpoint(
        "DELETE", _ALL + "/{token}", revoke_token, Needs.ENROL, "token.revoke", "It admits nobody now",
        subject=_TOKEN, codes=("not_found",),
    ),
)  # fmt: skip
