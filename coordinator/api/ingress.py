"""Ingress groups: the gateways by which external clients come in (docs/wire.md §8)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.names import MAX_LABEL
from coordinator.presence import PresenceLane
from coordinator.store import ingress
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.ingress import MAX_GATEWAYS

Name = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]
HostPort = Annotated[
    str, msgspec.Meta(max_length=260, description="HOST:PORT that clients connect to, fixed for good")
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Nodes = Annotated[
    list[str],
    msgspec.Meta(max_length=MAX_GATEWAYS, description="its gateways, names or ids"),
]


class NewGroup(msgspec.Struct):
    """`listen_port`: of the gateways, where the endpoint's port is forwarded to them; null: the same. `dns`:
    the gateways answer names for clients, whose files then name them as their server.
    """

    endpoint: HostPort
    nodes: Nodes
    name: Name = "clients"
    listen_port: Port | None = None
    dns: bool = True


class GroupEdit(msgspec.Struct):
    """What is left out stays; `nodes` are all of its gateways."""

    name: Name | UnsetType = UNSET
    endpoint: HostPort | UnsetType = UNSET
    nodes: Nodes | UnsetType = UNSET
    listen_port: Port | UnsetType = UNSET
    dns: bool | UnsetType = UNSET


def _json(row: ingress.GroupRow, lane: PresenceLane | None = None) -> JsonObject:
    gateways = [
        {
            "node": gateway.node_id,
            "node_name": gateway.node_name,
            "state": gateway.state,
            "elected": gateway.elected,
            "has_key": gateway.has_key,
            "problem": gateway.problem,
            "online": lane is not None and lane.presence_of(gateway.node_id).online,
        }
        for gateway in row.gateways
    ]
    return ingress.group_json(row) | {"gateways": gateways, "clients": row.clients}


def _read_group(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        return ingress.group_json(ingress.find_group(connection, network_id, wanted))
    except Refusal:
        return None


async def _lane(call: Call[Any]) -> PresenceLane:
    return await call.context.hub.presence_of(call.network_id)


async def list_groups(call: Call[None]) -> JsonObject:
    rows = await call.read(ingress.list_groups, call.network_id)
    lane = await _lane(call)
    return {"groups": [_json(row, lane) for row in rows]}


async def show_group(call: Call[None]) -> JsonObject:
    row = await call.read(ingress.find_group, call.network_id, call.path("group"))
    return _json(row, await _lane(call))


async def create_group(call: Call[NewGroup]) -> object:
    body, lane = call.body, await _lane(call)
    wish = ingress.GroupWish(body.name, body.endpoint, tuple(body.nodes), body.listen_port, body.dns)
    return await call.create(
        lambda row: _json(row, lane),
        ingress.create_group, call.network_id, wish, call.context.rng, call.now,
    )  # fmt: skip


async def edit_group(call: Call[GroupEdit]) -> JsonObject:
    found = {name: getattr(call.body, name) for name in GroupEdit.__struct_fields__}
    changes = {name: value for name, value in found.items() if value is not UNSET}
    row = await call.change(
        ingress.edit_group, call.network_id, call.path("group"), changes, call.context.rng, now=call.now
    )
    return _json(row, await _lane(call))


async def delete_group(call: Call[None]) -> JsonObject:
    return _json(await call.change(ingress.delete_group, call.network_id, call.path("group"), call.now))


_ALL: Final = "/v1/admin/networks/{network}/ingress"
_ONE: Final = _ALL + "/{group}"
_GROUP: Final = Subject(_read_group, "group")

ENDPOINTS: Final = (
    Endpoint(
        "GET", _ALL, list_groups, Needs.READ, "ingress.list", "Groups of gateways for external clients"
    ),
    Endpoint("GET", _ONE, show_group, Needs.READ, "ingress.show", "A group", subject=_GROUP),
    Endpoint(
        "POST", _ALL, create_group, Needs.ADMIN, "ingress.create",
        "Make nodes the gateways of external clients", takes=NewGroup, status=201,
        subject=Subject(_read_group),
        codes=("not_found", "name_in_use", "network_full", "conflict"), previews=True,
    ),
    Endpoint(
        "PATCH", _ONE, edit_group, Needs.ADMIN, "ingress.edit", "Change its endpoint, or its gateways",
        takes=GroupEdit, subject=_GROUP, codes=("not_found", "name_in_use", "conflict"), previews=True,
    ),
    Endpoint(
        "DELETE", _ONE, delete_group, Needs.ADMIN, "ingress.delete", "Delete a group without clients",
        subject=_GROUP, codes=("not_found", "conflict"), previews=True,
    ),
)  # fmt: skip
