"""Networks, their tokens and nodes (docs/wire.md §8): the command line and the web page are clients of it."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection
from starlette.types import ASGIApp

from coordinator.addresses import MAX_RANGES
from coordinator.api.call import Call
from coordinator.api.events import EventStream
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.presence import PresenceLane
from coordinator.rights import Right
from coordinator.store import networks, nodes, tokens
from wgpy.addresses import parse_prefix
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token


class NewNetwork(msgspec.Struct):
    """Without ranges, an unused private one of each family."""

    name: str
    ranges: Annotated[list[str], msgspec.Meta(max_length=MAX_RANGES)] | None = None
    mtu: Annotated[int, msgspec.Meta(ge=MIN_MTU, le=MAX_MTU)] | None = None
    keepalive: Annotated[int, msgspec.Meta(ge=0, le=65535, description="seconds; 0: none")] | None = None


class NewToken(msgspec.Struct):
    """`uses` 0: no limit; `expires_in` in seconds."""

    uses: int | None = None
    expires_in: Annotated[int, msgspec.Meta(ge=1)] | None = None


# --- what is shown ---


def _network_json(row: networks.NetworkRow) -> JsonObject:
    value = row.network.to_json()
    return value | {"revision": row.revision, "nodes": row.nodes, "created_at": row.created_at}


def _token_json(row: tokens.TokenRow, now: float) -> JsonObject:
    return {
        "id": row.id,
        "state": row.state(now),
        "uses": row.uses,
        "uses_allowed": row.uses_allowed,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def _node_json(row: nodes.NodeRow, lane: PresenceLane) -> JsonObject:
    return {
        "id": row.id,
        "name": row.name,
        "addresses": [str(address.network_address) for address in row.addresses],
        "wireguard_key": str(row.wireguard_key),
        "machine_key": str(row.machine_key),
        "joined_at": row.joined_at,
        "seq": None if row.record is None else row.record.seq,
        **lane.presence_of(row.id).to_json(),
    }


# --- what is audited: the same, without what moves by itself ---


def _read_network(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    try:
        return networks.find_network(connection, wanted).network.to_json()
    except Refusal:
        return None


def _read_token(connection: Connection, network_id: str, token_id: str) -> JsonObject | None:
    row = tokens.read_token(connection, network_id, token_id)
    if row is None:
        return None
    value = {"id": row.id, "uses_allowed": row.uses_allowed, "expires_at": row.expires_at}
    return value | {"revoked_at": row.revoked_at}


def _read_node(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        row = nodes.find_node_named(connection, network_id, wanted)
    except Refusal:
        return None
    found = [str(address.network_address) for address in row.addresses]
    return {"id": row.id, "name": row.name, "addresses": found, "wireguard_key": str(row.wireguard_key)}


_NETWORK: Final = Subject(_read_network, "network")
_TOKEN: Final = Subject(_read_token, "token")
_NODE: Final = Subject(_read_node, "node")


# --- networks ---


async def list_networks(call: Call[None]) -> JsonObject:
    rows = await call.read(networks.list_networks)
    seen = [row for row in rows if call.by.may(Right.READ, row.network.id)]
    return {"networks": [_network_json(row) for row in seen]}


async def create_network(call: Call[NewNetwork]) -> object:
    body = call.body
    wish = networks.NetworkWish(
        name=body.name,
        ranges=tuple(parse_prefix(text) for text in body.ranges or ()),
        mtu=networks.DEFAULT_MTU if body.mtu is None else body.mtu,
        keepalive=networks.DEFAULT_KEEPALIVE if body.keepalive is None else body.keepalive,
    )
    return await call.create(_network_json, networks.create_network, wish, call.context.rng, call.now)


async def show_network(call: Call[None]) -> JsonObject:
    return _network_json(await call.read(networks.find_network, call.network_id))


async def delete_network(call: Call[None]) -> JsonObject:
    return _network_json(await call.change(networks.delete_network, call.network_id, call.now))


async def follow_network(call: Call[None]) -> ASGIApp:
    return EventStream(
        call.context.hub, await call.context.hub.listen(call.network_id), call.is_still_allowed
    )


# --- tokens ---


async def list_tokens(call: Call[None]) -> JsonObject:
    rows = await call.read(tokens.list_tokens, call.network_id)
    return {"tokens": [_token_json(row, call.now) for row in rows]}


async def create_token(call: Call[NewToken]) -> object:
    default, body, identity = tokens.TokenTerms(), call.body, call.context.identity
    terms = tokens.TokenTerms(
        uses=default.uses if body.uses is None else body.uses,
        expires_in=default.expires_in if body.expires_in is None else body.expires_in,
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


# --- nodes ---


async def list_nodes(call: Call[None]) -> JsonObject:
    rows = await call.read(nodes.list_nodes, call.network_id)
    lane = await call.context.hub.presence_of(call.network_id)
    return {"nodes": [_node_json(row, lane) for row in rows]}


async def show_node(call: Call[None]) -> JsonObject:
    row = await call.read(nodes.find_node_named, call.network_id, call.path("node"))
    return _node_json(row, await call.context.hub.presence_of(call.network_id))


async def remove_node(call: Call[None]) -> JsonObject:
    row = await call.change(nodes.remove_node, call.network_id, call.path("node"), call.now)
    frame = call.context.identity.removed_frame(row.network_id, row.id)
    return {"id": row.id, "name": row.name, "removed": frame.to_json()}


def _network_id(row: networks.NetworkRow) -> str:
    return row.network.id


_ALL: Final = "/v1/admin/networks"
_ONE: Final = "/v1/admin/networks/{network}"

ENDPOINTS: Final = (
    Endpoint(
        "GET", _ALL, list_networks, Needs.SIGNED_IN, "network.list", "The networks that the caller may read"
    ),
    Endpoint(
        "POST", _ALL, create_network, Needs.ADMIN, "network.create", "Make a network",
        takes=NewNetwork, status=201, subject=Subject(_read_network, made=_network_id),
        codes=("name_in_use",),
    ),
    Endpoint("GET", _ONE, show_network, Needs.READ, "network.show", "A network", subject=_NETWORK),
    Endpoint(
        "DELETE", _ONE, delete_network, Needs.ADMIN, "network.delete", "Delete it: its nodes forget it",
        subject=_NETWORK, codes=("not_found",),
    ),
    Endpoint(
        "GET", _ONE + "/events", follow_network, Needs.READ, "network.follow", "Hear of each change (SSE)",
        media=("text/event-stream",),
    ),
    Endpoint("GET", _ONE + "/tokens", list_tokens, Needs.READ, "token.list", "Its tokens, not their secrets"),
    Endpoint(
        "POST", _ONE + "/tokens", create_token, Needs.ENROL, "token.create", "Make a token; it is shown once",
        takes=NewToken, status=201, subject=Subject(_read_token),
    ),
    Endpoint(
        "DELETE", _ONE + "/tokens/{token}", revoke_token, Needs.ENROL, "token.revoke", "It admits nobody now",
        subject=_TOKEN, codes=("not_found",),
    ),
    Endpoint("GET", _ONE + "/nodes", list_nodes, Needs.READ, "node.list", "Its nodes, with their presence"),
    Endpoint("GET", _ONE + "/nodes/{node}", show_node, Needs.READ, "node.show", "A node", subject=_NODE),
    Endpoint(
        "DELETE", _ONE + "/nodes/{node}", remove_node, Needs.ADMIN, "node.remove", "Remove it",
        subject=_NODE, codes=("not_found",),
    ),
)  # fmt: skip
