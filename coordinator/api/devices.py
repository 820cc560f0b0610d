"""People's own devices: let one in by the code that it shows, look at them, remove one."""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.joins import read_subject
from coordinator.api.nodes import node_shown
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.store import devices
from coordinator.store.networks import list_networks
from coordinator.store.nodes import NodeRow, node_json
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.keyless import parse_code


class Claim(msgspec.Struct):
    """`code`: what the host shows that is to be one's own."""

    code: Annotated[str, msgspec.Meta(max_length=32)]


def _read_device(connection: Connection, _network_id: str, node_id: str) -> JsonObject | None:
    row = devices.find_any_node(connection, node_id)
    return None if row is None else node_json(row)


async def claim(call: Call[Claim]) -> JsonObject:
    if call.by.kind != "person":
        raise Refusal(
            "forbidden", "a device is a person's own: sign in on the page, or approve it as an admin"
        )
    code, join_id = parse_code(call.body.code), call.path("join")
    wait = call.context.sign_ins[1].take(f"claim {call.by.id}", call.now)  # a code is not to be guessed
    if wait:
        retry = {"retry-after": str(max(1, math.ceil(wait)))}
        raise Refusal("rate_limited", "too many codes were typed: wait a little", headers=retry)
    node = await call.change(devices.claim_join, call.network_id, join_id, code, call.now, owner=call.by.id)
    return node_shown(node, await call.context.hub.presence_of(call.network_id))


async def list_mine(call: Call[None]) -> JsonObject:
    rows = await call.read(devices.list_devices, call.by.id)
    names = {row.network.id: row.network.name for row in await call.read(list_networks)}
    return {"devices": [await _device_shown(call, row, names) for row in rows]}


async def _device_shown(call: Call[None], row: NodeRow, names: dict[str, str]) -> JsonObject:
    lane = await call.context.hub.presence_of(row.network_id)
    return node_shown(row, lane) | {"network": names.get(row.network_id)}


async def remove_mine(call: Call[None]) -> JsonObject:
    row = await call.change(devices.remove_own_device, call.by.id, call.path("device"), call.now)
    return {"id": row.id, "name": row.name}


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/admin/networks/{network}/joins/{join}/claim", claim, Needs.OWN, "join.claim",
        "Let a host in as a device of one's own, by the code that it shows",
        takes=Claim, subject=Subject(read_subject, "join"),
        codes=("not_found", "wrong_code", "key_in_use", "name_in_use", "network_full", "rate_limited"),
    ),
    Endpoint("GET", "/v1/me/devices", list_mine, Needs.SIGNED_IN, "device.list", "My own devices"),
    Endpoint(
        "DELETE", "/v1/me/devices/{device}", remove_mine, Needs.SIGNED_IN, "device.remove",
        "Remove a device of mine", subject=Subject(_read_device, "device"), codes=("not_found",),
    ),
)  # fmt: skip
