"""External clients: made, shown once, edited, and their files fetched by a link (docs/wire.md §8)."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.gateways import parse_range
from coordinator.names import MAX_LABEL
from coordinator.store import client_links, clients, nodes
from coordinator.store.client_links import LINK_AGE, MAX_LINK_AGE
from coordinator.store.networks import find_network
from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.ingress import MAX_REACHED
from wgpy.mesh.signing import BearerSecret

Name = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]
Reached = Annotated[list[str], msgspec.Meta(max_length=MAX_REACHED)]
Instant = Annotated[float, msgspec.Meta(ge=0, le=100000000000.0, description="Unix time")]
LinkAge = Annotated[
    int,
    msgspec.Meta(ge=60, le=MAX_LINK_AGE, description="seconds for which a link is good that is good once"),
]


class Reaches(msgspec.Struct):
    """Nodes (names or ids) and ranges that it may reach, and nothing else, or `everything` that the gateway
    reaches of the network; and with `internet` all the rest, by the gateway. The gateway sees to it.
    """

    nodes: Reached = []
    ranges: Reached = []
    everything: bool = False
    internet: bool = False


class NewClient(msgspec.Struct):
    """`public_key`: of a key that was made on the client; null: the server makes one, and it is in this
    answer alone, or behind a link if `link_for` asks for one. `reach` null: whatever the gateway reaches.
    `group`: by which ingress group; null: the only one.
    """

    name: Name
    public_key: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    group: str | None = None
    addresses: Annotated[list[str], msgspec.Meta(max_length=2)] = []
    reach: Reaches | None = None
    expires_at: Instant | None = None
    link_for: LinkAge | None = None


class NewKey(msgspec.Struct):
    """As for a new client. Its key and link of before end."""

    public_key: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    link_for: LinkAge | None = None


class ClientEdit(msgspec.Struct):
    """What is left out stays; `reach` null: whatever the gateway reaches, `expires_at` null: no end."""

    name: Name | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    expires_at: Instant | UnsetType | None = UNSET
    reach: Reaches | UnsetType | None = UNSET


class Link(msgspec.Struct):
    """A whole link, or what stands behind its `#`."""

    link: Annotated[str, msgspec.Meta(max_length=512)]


def _reach(reach: Reaches | None) -> clients.ReachWish:
    if reach is None:
        return clients.ReachWish()
    ranges = tuple(map(parse_range, reach.ranges))
    if not reach.everything:
        return clients.ReachWish(tuple(reach.nodes), ranges, reach.internet)
    if reach.nodes or ranges:
        raise ConfigError("a client reaches everything, or the nodes and ranges that are named; got both")
    return clients.ReachWish(internet=reach.internet)


def _address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"a client's address is an IP address; got {text[:64]!r}") from None


def _shown(
    connection: Connection, network_id: str, rows: list[clients.ClientRow], now: float
) -> list[JsonObject]:
    """As the API shows them: with what gateways say of them, names of nodes, links."""
    ids = [row.id for row in rows] if len(rows) == 1 else None
    seen = clients.read_seen(connection, ids, network_id)
    names = {node.id: node.name for node in nodes.list_nodes(connection, network_id)} if rows else {}
    links = client_links.links_until(connection, network_id, now)
    return [_client_shown(row, seen.get(row.id), names) | {"link_until": links.get(row.id)} for row in rows]


def _client_shown(row: clients.ClientRow, seen: clients.Seen | None, names: dict[str, str]) -> JsonObject:
    return clients.client_json(row) | {
        "reach_nodes": [{"id": id_, "name": names.get(id_)} for id_ in row.reach.nodes],
        "latest_handshake_at": None if seen is None else seen.handshake_at,
        "endpoint": None if seen is None else seen.endpoint or None,
        "rx_bytes": 0 if seen is None else seen.rx_bytes,
        "tx_bytes": 0 if seen is None else seen.tx_bytes,
        "gateway": None if seen is None else seen.node_id,
        "gateway_name": None if seen is None else names.get(seen.node_id),
        "seen_at": None if seen is None else seen.at,
    }


def _show_all(connection: Connection, network_id: str, now: float) -> list[JsonObject]:
    return _shown(connection, network_id, clients.list_clients(connection, network_id), now)


def _show_one(connection: Connection, network_id: str, wanted: str, now: float) -> JsonObject:
    return _shown(connection, network_id, [clients.find_client(connection, network_id, wanted)], now)[0]


def _read_client(connection: Connection, network_id: str, wanted: str) -> JsonObject | None:
    try:
        return clients.client_json(clients.find_client(connection, network_id, wanted))
    except Refusal:
        return None


async def list_clients(call: Call[None]) -> JsonObject:
    return {"clients": await call.read(_show_all, call.network_id, call.now)}


async def show_client(call: Call[None]) -> JsonObject:
    return await call.read(_show_one, call.network_id, call.path("client"), call.now)


async def show_file(call: Call[None]) -> Response:
    """Without the private key, which nobody has but the client."""

    def read(connection: Connection) -> str:
        row = clients.find_client(connection, call.network_id, call.path("client"))
        return clients.read_file(connection, row).text(None)

    return _text(await call.read(read))


def _text(text: str, name: str | None = None) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if name is not None:
        headers["content-disposition"] = f'attachment; filename="{name[:15].rstrip("-")}.conf"'
    return Response(text, 200, headers, "text/plain")


class _Key:
    """The key that a client gets, whoever makes it, and the link to its file. A private half is here alone
    until it was shown.
    """

    def __init__(self, call: Call[NewClient] | Call[NewKey]) -> None:
        text, link_for, rng = call.body.public_key, call.body.link_for, call.context.rng
        self._private: PrivateKey | None = None
        if text is None:
            self._private = PrivateKey(rng.randbytes(32))
            self.public, self.by = self._private.public_key(), "server"
        else:
            self.public, self.by = PublicKey.from_base64(text), "client"
        self._secret: BearerSecret | None = None
        if link_for is not None:
            if self._private is None:
                raise ConfigError(
                    "a link is for a key that the server makes: leave out public_key or link_for"
                )
            self._secret = BearerSecret(rng.randbytes(32))
        self._until = call.now + (link_for or LINK_AGE)

    def show(self, connection: Connection, row: clients.ClientRow, url: str, now: float) -> JsonObject:
        """What the answer has beside the client: its file, or the link to it."""
        text = clients.read_file(connection, row).text(self._private)
        link = None
        if self._secret is not None:
            client_links.add_link(connection, self._secret, row.id, text, self._until)
            link = client_links.client_link(url, self._secret)
        shown = _show_one(connection, row.network_id, row.id, now)
        return shown | {"config": None if link else text, "link": link}


async def create_client(call: Call[NewClient]) -> object:
    body, key = call.body, _Key(call)
    wish = clients.ClientWish(
        body.name, key.public, key.by, body.group, tuple(map(_address, body.addresses)),
        _reach(body.reach), body.expires_at,
    )  # fmt: skip
    url = (await call.read(find_network, call.network_id)).network.urls[0]

    def make(connection: Connection) -> tuple[clients.ClientRow, JsonObject]:
        row = clients.create_client(connection, call.network_id, wish, call.context.rng, call.now)
        return row, key.show(connection, row, url, call.now)

    if key.by == "client":
        return await call.create(lambda made: made[1], make)
    # Answers are kept for who asks twice under one Idempotency-Key; this one is not to be kept anywhere.
    return _once((await call.change(make))[1], call.endpoint.status)


async def renew_key(call: Call[NewKey]) -> Response:
    key = _Key(call)
    edit = clients.ClientEdit({"public_key": key.public, "key_by": key.by})
    url = (await call.read(find_network, call.network_id)).network.urls[0]

    def change(connection: Connection) -> tuple[clients.ClientRow, JsonObject]:
        row = clients.edit_client(connection, call.network_id, call.path("client"), edit, call.now)
        return row, key.show(connection, row, url, call.now)

    return _once((await call.change(change))[1], call.endpoint.status)


def _once(shown: JsonObject, status: int) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(shown), status, headers, "application/json")


async def edit_client(call: Call[ClientEdit]) -> JsonObject:
    found = {name: getattr(call.body, name) for name in ClientEdit.__struct_fields__}
    changes = {name: value for name, value in found.items() if value is not UNSET}
    if "reach" in changes:
        changes["reach"] = _reach(changes["reach"])
    edit = clients.ClientEdit(changes)
    row = await call.change(clients.edit_client, call.network_id, call.path("client"), edit, call.now)
    return await call.read(_show_one, call.network_id, row.id, call.now)


async def remove_client(call: Call[None]) -> JsonObject:
    row = await call.change(clients.remove_client, call.network_id, call.path("client"), call.now)
    return clients.client_json(row)


async def fetch_file(call: Call[Link]) -> Response:
    """Once: whoever is first has the file."""
    found = await call.context.store.write(client_links.use_link, call.body.link, call.address, call.now)
    return _text(found.text, found.name)


_ALL: Final = "/v1/admin/networks/{network}/clients"
_ONE: Final = _ALL + "/{client}"
_CLIENT: Final = Subject(_read_client, "client")


def _made_id(made: tuple[clients.ClientRow, JsonObject]) -> str:
    return made[0].id


ENDPOINTS: Final = (
    Endpoint(
        "GET", _ALL, list_clients, Needs.READ, "client.list",
        "External clients: handshake, endpoint and traffic as their gateway reports them",
    ),
    Endpoint("GET", _ONE, show_client, Needs.READ, "client.show", "A client", subject=_CLIENT),
    Endpoint(
        "GET", _ONE + "/config", show_file, Needs.READ, "client.config",
        "Its file as wg-quick reads it, without the private key: put it below [Interface]",
        media=("text/plain",), codes=("not_ready",),
    ),
    Endpoint(
        "POST", _ALL, create_client, Needs.ADMIN, "client.create",
        "Make a client; with a key of the server's, its file is shown once and not kept",
        takes=NewClient, status=201, subject=Subject(_read_client, made=_made_id),
        codes=(
            "not_found", "name_in_use", "key_in_use", "not_ready", "network_full", "address_in_use",
        ),
        previews=True,
    ),
    Endpoint(
        "POST", _ONE + "/key", renew_key, Needs.ADMIN, "client.key",
        "Give it another key, and so a new file", takes=NewKey, subject=_CLIENT,
        codes=("not_found", "key_in_use", "not_ready"), previews=True,
    ),
    Endpoint(
        "PATCH", _ONE, edit_client, Needs.ADMIN, "client.edit",
        "Rename, switch off or on, and say until when and what it reaches",
        takes=ClientEdit, subject=_CLIENT, codes=("not_found", "name_in_use"), previews=True,
    ),
    Endpoint(
        "DELETE", _ONE, remove_client, Needs.ADMIN, "client.remove", "Remove it",
        subject=_CLIENT, codes=("not_found",), previews=True,
    ),
    Endpoint(
        "POST", "/v1/client-file", fetch_file, Needs.NOTHING, "client.fetch",
        "The file behind a link, once", takes=Link, codes=("client_link",), media=("text/plain",),
    ),
)  # fmt: skip
