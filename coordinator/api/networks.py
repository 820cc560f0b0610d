"""Networks (docs/wire.md §8): the command line and the web page are clients of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from anyio import to_thread
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection
from starlette.types import ASGIApp

from coordinator.addresses import MAX_RANGES
from coordinator.api.call import Call
from coordinator.api.events import EventStream
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.host_ranges import host_ranges
from coordinator.policy import Policy
from coordinator.rights import Right
from coordinator.settings import MAX_DESCRIPTION
from coordinator.store import networks
from wgpy.addresses import parse_prefix
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU

Mtu = Annotated[int, msgspec.Meta(ge=MIN_MTU, le=MAX_MTU)]
Keepalive = Annotated[int, msgspec.Meta(ge=0, le=65535, description="seconds; 0: none")]
ListenPort = Annotated[
    int, msgspec.Meta(ge=0, le=65535, description="UDP port of nodes without a choice of their own; 0: any")
]
Suffix = Annotated[str, msgspec.Meta(max_length=253, description="DNS suffix of the nodes' names")]
Description = Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION)]
RotateAfter = Annotated[
    int, msgspec.Meta(ge=0, description="age in seconds at which nodes renew their WireGuard key; 0: never")
]
Pair = Annotated[list[str], msgspec.Meta(min_length=2, max_length=2)]
Visibility = Annotated[
    list[Pair] | None,
    msgspec.Meta(description="pairs of tags whose nodes see each other, `*` for any node; null: all see all"),
]


Ranges = Annotated[
    list[str],
    msgspec.Meta(
        max_length=MAX_RANGES, description="in an edit: in place of those of their family; IPv4, IPv6 or both"
    ),
]


class NetworkEdit(msgspec.Struct):
    """What is left out stays. `keyless`: hosts may ask to join without a token. `approval`: joins wait,
    unless their token says otherwise. `ranges` have to hold every address that is given.
    """

    name: str | UnsetType = UNSET
    ranges: Ranges | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    mtu: Mtu | UnsetType = UNSET
    keepalive: Keepalive | UnsetType = UNSET
    listen_port: ListenPort | UnsetType = UNSET
    suffix: Suffix | UnsetType = UNSET
    keyless: bool | UnsetType = UNSET
    approval: bool | UnsetType = UNSET
    rotate_after: RotateAfter | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET

    def settings(self) -> dict[str, Any]:
        """By the names of `NetworkSettings`. Raises ConfigError."""
        names = [name for name in NetworkEdit.__struct_fields__ if name not in ("name", "ranges")]
        found = {name: value for name in names if (value := getattr(self, name)) is not UNSET}
        if "visibility" in found:
            found["visibility"] = Policy.of(found["visibility"])
        return found


class NewNetwork(NetworkEdit, kw_only=True):
    """Without ranges, an unused private one of each family; null is as left out."""

    name: str
    ranges: Ranges | UnsetType | None = UNSET  # type: ignore[assignment]
    mtu: Mtu | UnsetType | None = UNSET  # type: ignore[assignment]
    keepalive: Keepalive | UnsetType | None = UNSET  # type: ignore[assignment]


def _network_json(row: networks.NetworkRow) -> JsonObject:
    return _settled(row) | {
        "revision": row.revision, "nodes": row.nodes, "waiting": row.waiting, "created_at": row.created_at,
    }  # fmt: skip


def _settled(row: networks.NetworkRow) -> JsonObject:
    return row.network.to_json() | row.settings.to_json()


# --- what is audited: the same, without what moves by itself ---


def _read_network(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    try:
        return _settled(networks.find_network(connection, wanted))
    except Refusal:
        return None


_NETWORK: Final = Subject(_read_network, "network")


async def list_networks(call: Call[None]) -> JsonObject:
    rows = await call.read(networks.list_networks)
    seen = [row for row in rows if call.by.may(Right.READ, row.network.id)]
    return {"networks": [_network_json(row) for row in seen]}


async def create_network(call: Call[NewNetwork]) -> object:
    body = call.body
    settings = {name: value for name, value in body.settings().items() if value is not None}
    wish = networks.NetworkWish(body.name, tuple(map(parse_prefix, body.ranges or ())), settings)
    taken = await to_thread.run_sync(host_ranges)
    return await call.create(_network_json, networks.create_network, wish, call.context.rng, call.now, taken)


async def edit_network(call: Call[NetworkEdit]) -> JsonObject:
    body = call.body
    changes = networks.NetworkChanges(
        body.settings(),
        None if body.name is UNSET else body.name,
        () if body.ranges is UNSET else tuple(map(parse_prefix, body.ranges)),
    )
    taken = await to_thread.run_sync(host_ranges) if changes.ranges else []
    row = await call.change(networks.edit_network, call.network_id, changes, call.now, taken)
    return _network_json(row)


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
        codes=("name_in_use", "range_in_use"),
    ),
    Endpoint("GET", _ONE, show_network, Needs.READ, "network.show", "A network", subject=_NETWORK),
    Endpoint(
        "PATCH", _ONE, edit_network, Needs.ADMIN, "network.edit", "Change its settings: nodes follow at once",
        takes=NetworkEdit, subject=_NETWORK, codes=("name_in_use", "range_in_use", "address_in_use"),
    ),
    Endpoint(
        "DELETE", _ONE, delete_network, Needs.ADMIN, "network.delete", "Delete it: its nodes forget it",
        subject=_NETWORK, codes=("not_found",),
    ),
    Endpoint(
        "GET", _ONE + "/events", follow_network, Needs.READ, "network.follow", "Hear of each change (SSE)",
        media=("text/event-stream",),
    ),
)  # fmt: skip
