"""Nodes of a network, as its administration sees them (docs/wire.md §8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.names import MAX_LABEL, MAX_TAGS
from coordinator.presence import PresenceLane
from coordinator.store import nodes
from coordinator.store.devices import names_of_owners
from coordinator.store.tokens import MAX_EPHEMERAL, MIN_EPHEMERAL
from wgpy.mesh.encoding import JsonObject


class NodeEdit(msgspec.Struct):
    """What is left out stays. `disabled`: kept out of all maps. `expires_at`: the same from then on, Unix
    time; `ephemeral_after`: removed after that many seconds offline; null: neither.
    """

    name: Annotated[str, msgspec.Meta(max_length=MAX_LABEL)] | UnsetType = UNSET
    tags: Annotated[list[str], msgspec.Meta(max_length=MAX_TAGS)] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    expires_at: Annotated[float, msgspec.Meta(ge=0, le=100000000000.0)] | UnsetType | None = UNSET
    ephemeral_after: Annotated[int, msgspec.Meta(ge=MIN_EPHEMERAL, le=MAX_EPHEMERAL)] | UnsetType | None = (
        UNSET
    )


def node_shown(row: nodes.NodeRow, lane: PresenceLane, owners: Mapping[str, str] = {}) -> JsonObject:
    """A node as the API shows it; `owners` are names of people by id."""
    record = row.record
    return nodes.node_json(row) | {
        "machine_key": str(row.machine_key),
        "joined_at": row.joined_at,
        "version": row.version,
        "owner": None if row.person_id is None else owners.get(row.person_id),
        "seq": None if record is None else record.seq,
        **lane.presence_of(row.id).to_json(),
    }


def _read_node(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        return nodes.node_json(nodes.find_node_named(connection, network_id, wanted))
    except Refusal:
        return None


_NODE: Final = Subject(_read_node, "node")


async def list_nodes(call: Call[None]) -> JsonObject:
    rows = await call.read(nodes.list_nodes, call.network_id)
    owners = await call.read(names_of_owners, rows)
    lane = await call.context.hub.presence_of(call.network_id)
    return {"nodes": [node_shown(row, lane, owners) for row in rows]}


async def show_node(call: Call[None]) -> JsonObject:
    row = await call.read(nodes.find_node_named, call.network_id, call.path("node"))
    owners = await call.read(names_of_owners, [row])
    return node_shown(row, await call.context.hub.presence_of(call.network_id), owners)


async def edit_node(call: Call[NodeEdit]) -> JsonObject:
    body = call.body
    found = {name: getattr(body, name) for name in NodeEdit.__struct_fields__}
    edit = nodes.NodeEdit({name: value for name, value in found.items() if value is not UNSET})
    row = await call.change(nodes.edit_node, call.network_id, call.path("node"), edit, call.now)
    return node_shown(row, await call.context.hub.presence_of(call.network_id))


async def rotate_node(call: Call[None]) -> JsonObject:
    edit = nodes.NodeEdit({"rotation_wanted_at": call.now})
    row = await call.change(nodes.edit_node, call.network_id, call.path("node"), edit, call.now)
    return node_shown(row, await call.context.hub.presence_of(call.network_id))


async def remove_node(call: Call[None]) -> JsonObject:
    row = await call.change(nodes.remove_node, call.network_id, call.path("node"), call.now)
    frame = call.context.identity.removed_frame(row.network_id, row.id)
    return {"id": row.id, "name": row.name, "removed": frame.to_json()}


_ALL: Final = "/v1/admin/networks/{network}/nodes"
_ONE: Final = _ALL + "/{node}"

ENDPOINTS: Final = (
    Endpoint("GET", _ALL, list_nodes, Needs.READ, "node.list", "Its nodes, with their presence"),
    Endpoint("GET", _ONE, show_node, Needs.READ, "node.show", "A node", subject=_NODE),
    Endpoint(
        "PATCH", _ONE, edit_node, Needs.ADMIN, "node.edit", "Rename, tag, disable or enable it",
        takes=NodeEdit, subject=_NODE, codes=("not_found", "name_in_use"), previews=True,
    ),
    Endpoint(
        "POST", _ONE + "/rotate", rotate_node, Needs.ADMIN, "node.rotate", "Ask it for a new WireGuard key",
        subject=_NODE, codes=("not_found",),
    ),
    Endpoint(
        "DELETE", _ONE, remove_node, Needs.ADMIN, "node.remove", "Remove it",
        subject=_NODE, codes=("not_found",), previews=True,
    ),
)  # fmt: skip
