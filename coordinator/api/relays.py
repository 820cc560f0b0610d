"""Relays: what admins do with them, nodes' tickets, and what relays ask (docs/relay.md §2, §6)."""

from __future__ import annotations

import logging
import math
from typing import Annotated, Final

import anyio
import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.context import context_of
from coordinator.api.edge import answer, authorise_node, limit_stranger, read_body
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.store import relays
from coordinator.store.networks import read_urls
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.relay_ticket import TICKET_AGE
from wgpy.mesh.relay_token import RelayToken
from wgpy.mesh.relays import CHECKIN_WAIT, MAX_HOSTS, RelayCheckin, RelayNews, RelayTickets, digest_of
from wgpy.mesh.signing import RelayKey

logger = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 0.5
"""Seconds between looks for nodes that were removed or are kept out, while a relay waits."""
_OVERLAP: Final = 5.0
"""Seconds by which an answer reaches back: a removal may be committed after a later one was read."""


class NewRelay(msgspec.Struct):
    """`endpoints` are HOST:PORT of its UDP port, `url` where it takes the same over TLS."""

    name: Annotated[str, msgspec.Meta(max_length=63)]
    endpoints: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_HOSTS)]
    url: Annotated[str, msgspec.Meta(max_length=255)] | None = None


def _relay_json(row: relays.RelayRow) -> JsonObject:
    return {
        "id": row.id,
        "name": row.name,
        "endpoints": list(row.hosts),
        "url": row.url,
        "own": row.is_own,
        "created_at": row.created_at,
    }


def _read_relay(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    try:
        return _relay_json(relays.find_relay(connection, wanted))
    except Refusal:
        return None


async def list_relays(call: Call[None]) -> JsonObject:
    return {"relays": [_relay_json(row) for row in await call.read(relays.list_relays)]}


async def create_relay(call: Call[NewRelay]) -> object:
    body, identity = call.body, call.context.identity
    wish = relays.RelayWish(body.name, tuple(body.endpoints), body.url)
    key = RelayKey(call.context.rng.randbytes(32))
    urls = await call.read(read_urls)

    def show(row: relays.RelayRow) -> JsonObject:
        text = RelayToken(identity.public, key, tuple(urls), identity.pinned).encode()
        return _relay_json(row) | {"key": text}

    return await call.create(show, relays.create_relay, wish, key.public_key(), call.now)


async def remove_relay(call: Call[None]) -> JsonObject:
    return _relay_json(await call.change(relays.remove_relay, call.path("relay"), call.now))


async def give_tickets(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    not_after = int(context.clock()) + TICKET_AGE
    tickets = tuple(
        context.identity.ticket(node.network_id, node.id, node.machine_key, row.id, not_after)
        for row in await context.store.read(relays.list_relays)
        if not node.is_disabled
    )
    return answer(RelayTickets(tickets).to_json())


async def check_in(request: Request) -> Response:
    limit_stranger(request)
    context = context_of(request)
    asked = RelayCheckin.from_json(await read_body(request))
    relay = await context.store.read(relays.find_relay, asked.relay)
    seen = context.identity.leaf_hashes_seen()
    context.sessions.check_relay(asked, relay.key, context.identity.hash, seen, context.clock())
    for node_id in asked.fights:
        logger.warning(
            "relay %s sees node %s at several addresses at once: was its state copied to another host?",
            relay.name, node_id[:8],
        )  # fmt: skip
    deadline = anyio.current_time() + CHECKIN_WAIT
    stamp: tuple[int, int] | None = None
    kept_out: list[tuple[str, str]] = []
    while True:
        now = context.clock()
        before, stamp = stamp, await context.store.read(relays.read_news_stamp)
        if stamp != before:
            kept_out = await context.store.read(relays.read_kept_out, now)
        is_other = asked.kept_out is not None and asked.kept_out != digest_of(kept_out)
        rows = await context.store.read(relays.read_removed, asked.since / 1000 - _OVERLAP, now)
        newest = max((_milliseconds(at) for _, _, at in rows), default=_milliseconds(now - _OVERLAP))
        is_fresh = bool(rows) and newest > asked.since
        is_over = anyio.current_time() >= deadline or context.hub.is_closing
        if is_fresh or is_other or not asked.since or is_over:
            break
        await anyio.sleep(LOOK_INTERVAL)
    removed = tuple((network, node) for network, node, _ in rows)
    return answer(RelayNews(removed, max(asked.since, newest), tuple(kept_out)).to_json())


def _milliseconds(at: float) -> int:
    """Rounded up, wherever times are compared: rounded down, what was told would be news for ever."""
    return math.ceil(at * 1000)


_ALL: Final = "/v1/admin/relays"

ENDPOINTS: Final = (
    Endpoint("GET", _ALL, list_relays, Needs.ADMIN, "relay.list", "The relays, in the order of every map"),
    Endpoint(
        "POST", _ALL, create_relay, Needs.ADMIN, "relay.create", "Make a relay; its key is shown once",
        takes=NewRelay, status=201, subject=Subject(_read_relay), codes=("name_in_use", "conflict"),
    ),
    Endpoint(
        "DELETE", _ALL + "/{relay}", remove_relay, Needs.ADMIN, "relay.remove", "Nodes leave it",
        subject=Subject(_read_relay, "relay"), codes=("not_found",),
    ),
    Endpoint(
        "POST", "/v1/relay/tickets", give_tickets, Needs.NODE, "relay.tickets",
        "A ticket for each relay (docs/relay.md §2)", dict, raw=True,
    ),
    Endpoint(
        "POST", "/v1/relay/checkin", check_in, Needs.NOTHING, "relay.check_in",
        "A relay asks which nodes were removed or are kept out (docs/relay.md §6)", dict, raw=True,
        codes=("not_found", "challenge_expired", "bad_signature"),
    ),
)  # fmt: skip
