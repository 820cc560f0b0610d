"""Ranges behind gateways, and exit nodes: published, approved, withdrawn (docs/wire.md §8)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.conflicts import Conflict
from coordinator.errors import Refusal
from coordinator.gateways import EXIT_RANGES, parse_range
from coordinator.presence import PresenceLane
from coordinator.store import forwards
from coordinator.store.previews import state_around
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MAX_PREFIXES, JsonObject


class NewRanges(msgspec.Struct):
    """`virtual`: under what other nodes see it, a range of the same size, or `auto`; `exit`: all of IPv4 and
    IPv6. `interface`: by which the ranges are reached, found by the route unless named.
    """

    node: str
    ranges: Annotated[list[str], msgspec.Meta(max_length=MAX_PREFIXES)] = []
    nat: bool = True
    interface: Annotated[str, msgspec.Meta(pattern="^[!-.0-~]{0,15}$")] = ""
    virtual: str | None = None
    exit: bool = False


def _json(row: forwards.ForwardRow) -> JsonObject:
    value = row.forward.to_json()
    return value | {
        "id": row.id,
        "node": row.node_id,
        "node_name": row.node_name,
        "state": row.state,
        "offered": row.offered,
        "approved_at": row.approved_at,
        "problem": row.problem,
        "group": row.group_id,
    }


def _with_presence(row: forwards.ForwardRow, lane: PresenceLane) -> JsonObject:
    return _json(row) | {"online": lane.presence_of(row.node_id).online}


def _read_node_ranges(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        node_id = forwards.find_node_id(connection, network_id, wanted)
    except Refusal:
        return None
    rows = forwards.list_forwards(connection, network_id, node_id)
    return {"id": node_id, "name": rows[0].node_name if rows else "", "ranges": [_json(row) for row in rows]}


def _read_range(connection: Connection, network_id: str, forward_id: str) -> JsonObject | None:
    try:
        row = forwards.find_forward(connection, network_id, forward_id)
    except Refusal:
        return None
    return _json(row) | {"name": f"{row.forward.range} at {row.node_name}"}


def _read_ranges(connection: Connection, network_id: str) -> tuple[list[forwards.ForwardRow], list[Conflict]]:
    rows = forwards.list_forwards(connection, network_id)
    return rows, state_around(connection, network_id, rows).conflicts()


async def list_ranges(call: Call[None]) -> JsonObject:
    rows, conflicts = await call.read(_read_ranges, call.network_id)
    lane = await call.context.hub.presence_of(call.network_id)
    return {
        "ranges": [_with_presence(row, lane) for row in rows],
        "conflicts": [conflict.to_json() for conflict in conflicts],
    }


async def publish_ranges(call: Call[NewRanges]) -> object:
    body = call.body
    ranges = tuple(dict.fromkeys(map(parse_range, body.ranges)))
    if body.exit:
        ranges = (*ranges, *EXIT_RANGES)
    elif any(prefix in EXIT_RANGES for prefix in ranges):
        raise ConfigError("a default route is published by `exit`, not as a range")
    if not ranges:
        raise ConfigError("name at least one range, or `exit`")
    virtual = body.virtual if body.virtual in (None, "auto") else parse_range(body.virtual)
    wish = forwards.ForwardWish(ranges, body.nat, body.interface, virtual)

    def show(rows: list[forwards.ForwardRow]) -> JsonObject:
        return {"ranges": [_json(row) for row in rows if row.forward.target in ranges]}

    return await call.create(
        show, forwards.publish, call.network_id, body.node, wish, call.context.rng, now=call.now
    )


async def withdraw_range(call: Call[None]) -> JsonObject:
    return _json(await call.change(forwards.withdraw, call.network_id, call.path("range"), call.now))


def _node_of(rows: list[forwards.ForwardRow]) -> str:
    return rows[0].node_id


_ALL: Final = "/v1/admin/networks/{network}/ranges"

ENDPOINTS: Final = (
    Endpoint(
        "GET", _ALL, list_ranges, Needs.READ, "range.list", "Ranges behind its nodes, and exit nodes"
    ),
    Endpoint(
        "POST", _ALL, publish_ranges, Needs.ADMIN, "range.publish",
        "Have a node forward ranges, or approve what it offers", takes=NewRanges, status=201,
        subject=Subject(_read_node_ranges, made=_node_of), codes=("not_found", "range_in_use"), previews=True,
    ),
    Endpoint(
        "DELETE", _ALL + "/{range}", withdraw_range, Needs.ADMIN, "range.withdraw", "Take a range back",
        subject=Subject(_read_range, "range"), codes=("not_found", "conflict"), previews=True,
    ),
)  # fmt: skip
