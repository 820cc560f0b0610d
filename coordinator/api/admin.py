"""Administration (docs/wire.md §8): what the command line and the web page are clients of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from coordinator.addresses import MAX_RANGES
from coordinator.api.call import authorise_plain
from coordinator.api.caller import authorise
from coordinator.api.context import context_of
from coordinator.api.edge import answer, read_fields
from coordinator.api.events import EventStream
from coordinator.presence import PresenceLane
from coordinator.rights import Right
from coordinator.store import networks, nodes, tokens
from wgpy.addresses import parse_prefix
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token

Handler = Callable[[Request], Awaitable[Response | ASGIApp]]


def admin(handler: Handler) -> Handler:
    """Behind an API key."""

    async def checked(request: Request) -> Response | ASGIApp:
        await authorise_plain(request)
        return await handler(request)

    checked.__name__ = handler.__name__
    return checked


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


async def _find_network(request: Request) -> networks.NetworkRow:
    return await context_of(request).store.read(networks.find_network, request.path_params["network"])


async def list_networks(request: Request) -> Response:
    """Those that the caller may read."""
    caller = await authorise(request)
    rows = await context_of(request).store.read(networks.list_networks)
    seen = [row for row in rows if caller.may(Right.READ, row.network.id)]
    return answer({"networks": [_network_json(row) for row in seen]})


@admin
async def create_network(request: Request) -> Response:
    context, fields = context_of(request), await read_fields(request)
    texts = () if fields.is_null("ranges") else fields.texts("ranges", MAX_RANGES)
    wish = networks.NetworkWish(
        name=fields.text("name"),
        ranges=tuple(parse_prefix(text) for text in texts),
        mtu=networks.DEFAULT_MTU if fields.is_null("mtu") else fields.integer("mtu", MIN_MTU, MAX_MTU),
        keepalive=networks.DEFAULT_KEEPALIVE
        if fields.is_null("keepalive")
        else fields.integer("keepalive", 0, 65535),
    )
    row = await context.store.write(networks.create_network, wish, context.rng, context.clock())
    return answer(_network_json(row), 201)


@admin
async def show_network(request: Request) -> Response:
    return answer(_network_json(await _find_network(request)))


@admin
async def delete_network(request: Request) -> Response:
    context = context_of(request)
    row = await context.store.write(networks.delete_network, request.path_params["network"], context.clock())
    return answer(_network_json(row))


@admin
async def list_tokens(request: Request) -> Response:
    context, network = context_of(request), await _find_network(request)
    rows = await context.store.read(tokens.list_tokens, network.network.id)
    return answer({"tokens": [_token_json(row, context.clock()) for row in rows]})


@admin
async def create_token(request: Request) -> Response:
    context, fields = context_of(request), await read_fields(request)
    default = tokens.TokenTerms()
    terms = tokens.TokenTerms(
        uses=default.uses if fields.is_null("uses") else fields.integer("uses"),
        expires_in=default.expires_in if fields.is_null("expires_in") else fields.integer("expires_in", 1),
    )
    network = (await _find_network(request)).network
    secret = BearerSecret(context.rng.randbytes(32))
    row = await context.store.write(tokens.create_token, network.id, secret, terms, context.clock())
    token = Token(context.identity.hash, secret, network.urls, context.identity.pinned)
    value = _token_json(row, context.clock())
    return answer(value | {"token": token.encode(), "network": network.name, "urls": list(network.urls)}, 201)


@admin
async def revoke_token(request: Request) -> Response:
    context, network = context_of(request), await _find_network(request)
    row = await context.store.write(
        tokens.revoke_token, network.network.id, request.path_params["token"], context.clock()
    )
    return answer(_token_json(row, context.clock()))


@admin
async def list_nodes(request: Request) -> Response:
    context, network = context_of(request), await _find_network(request)
    rows = await context.store.read(nodes.list_nodes, network.network.id)
    lane = await context.hub.presence_of(network.network.id)
    return answer({"nodes": [_node_json(row, lane) for row in rows]})


@admin
async def show_node(request: Request) -> Response:
    context, network = context_of(request), await _find_network(request)
    row = await context.store.read(nodes.find_node_named, network.network.id, request.path_params["node"])
    return answer(_node_json(row, await context.hub.presence_of(network.network.id)))


@admin
async def remove_node(request: Request) -> Response:
    context, network = context_of(request), await _find_network(request)
    row = await context.store.write(
        nodes.remove_node, network.network.id, request.path_params["node"], context.clock()
    )
    frame = context.identity.removed_frame(row.network_id, row.id)
    return answer({"id": row.id, "name": row.name, "removed": frame.to_json()})


@admin
async def follow_network(request: Request) -> ASGIApp:
    context, network = context_of(request), await _find_network(request)
    return EventStream(context.hub, await context.hub.listen(network.network.id))
