"""Nodes of a network, as its administration sees them (docs/wire.md §8)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.presence import PresenceLane
from coordinator.store import nodes
from wgpy.mesh.encoding import JsonObject


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


def _read_node(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        row = nodes.find_node_named(connection, network_id, wanted)
    except Refusal:
        return None
    found = [str(address.network_address) for address in row.addresses]
    return {"id": row.id, "name": row.name, "addresses": found, "wireguard_key": str(row.wireguard_key)}


_NODE: Final = Subject(_read_node, "node")


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


_ALL: Final = "/v1/admin/networks/{network}/nodes"
_ONE: Final = _ALL + "/{node}"

ENDPOINTS: Final = (
    Endpoint("GET", _ALL, list_nodes, Needs.READ, "node.list", "Its nodes, with their presence"),
    Endpoint("GET", _ONE, show_node, Needs.READ, "node.show", "A node", subject=_NODE),
    Endpoint(
        "DELETE", _ONE, remove_node, Needs.ADMIN, "node.remove", "Remove it",
        subject=_NODE, codes=("not_found",),
    ),
)  # fmt: skip
