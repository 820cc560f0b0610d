"""Joins that wait for approval (docs/wire.md §8)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.nodes import node_shown
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.store import joins
from coordinator.store.admission import approve_join
from coordinator.store.nodes import find_node, node_json
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.keyless import parse_code


class Approval(msgspec.Struct):
    """`code`: what the host shows, for one that came without a token."""

    code: Annotated[str, msgspec.Meta(max_length=32)] | None = None


def _join_json(row: joins.JoinRow) -> JsonObject:
    """Never its code: who approves types what the host shows."""
    return {
        "id": row.id,
        "name": row.name,
        "address": row.address,
        "token": None if row.code is not None else row.token_id,
        "needs_code": row.code is not None,
        "wireguard_key": str(row.wireguard_key),
        "machine_key": str(row.machine_key),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }


def read_subject(connection: Connection, network_id: str, join_id: str) -> JsonObject | None:
    """One that waits, or what became of it: the node has the join's id."""
    row = joins.read_join(connection, network_id, join_id)
    if row is not None:
        return _join_json(row) | {"refused_at": row.refused_at}
    node = find_node(connection, network_id, join_id)
    return None if node is None else node_json(node)


_JOIN: Final = Subject(read_subject, "join")


async def list_joins(call: Call[None]) -> JsonObject:
    rows = await call.read(joins.list_joins, call.network_id, call.now)
    return {"joins": [_join_json(row) for row in rows]}


async def approve(call: Call[Approval]) -> JsonObject:
    code = None if call.body.code is None else parse_code(call.body.code)
    node = await call.change(approve_join, call.network_id, call.path("join"), code, call.now)
    return node_shown(node, await call.context.hub.presence_of(call.network_id))


async def refuse(call: Call[None]) -> JsonObject:
    return _join_json(await call.change(joins.refuse_join, call.network_id, call.path("join"), call.now))


_ALL: Final = "/v1/admin/networks/{network}/joins"

ENDPOINTS: Final = (
    Endpoint("GET", _ALL, list_joins, Needs.READ, "join.list", "The joins that wait for approval"),
    Endpoint(
        "POST", _ALL + "/{join}/approve", approve, Needs.ENROL, "join.approve", "Let the host in",
        takes=Approval, subject=_JOIN,
        codes=("not_found", "wrong_code", "key_in_use", "name_in_use", "network_full"),
    ),
    Endpoint(
        "POST", _ALL + "/{join}/refuse", refuse, Needs.ENROL, "join.refuse", "Keep the host out",
        subject=_JOIN, codes=("not_found",),
    ),
)  # fmt: skip
