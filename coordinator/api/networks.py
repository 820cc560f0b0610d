"""Networks (docs/wire.md §8): the command line and the web page are clients of it."""

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
from coordinator.rights import Right
from coordinator.store import networks
from wgpy.addresses import parse_prefix
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU


class NewNetwork(msgspec.Struct):
    """Without ranges, an unused private one of each family."""

    name: str
    ranges: Annotated[list[str], msgspec.Meta(max_length=MAX_RANGES)] | None = None
    mtu: Annotated[int, msgspec.Meta(ge=MIN_MTU, le=MAX_MTU)] | None = None
    keepalive: Annotated[int, msgspec.Meta(ge=0, le=65535, description="seconds; 0: none")] | None = None


def _network_json(row: networks.NetworkRow) -> JsonObject:
    value = row.network.to_json()
    return value | {"revision": row.revision, "nodes": row.nodes, "created_at": row.created_at}


# --- what is audited: the same, without what moves by itself ---


def _read_network(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    try:
        return networks.find_network(connection, wanted).network.to_json()
    except Refusal:
        return None


_NETWORK: Final = Subject(_read_network, "network")


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
)  # fmt: skip
