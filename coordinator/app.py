"""The coordinator as an ASGI application, neutral of the event loop."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coordinator.api import (
    audit,
    clients,
    devices,
    gateways,
    health,
    ingress,
    joins,
    keys,
    names,
    networks,
    node,
    node_ingress,
    nodes,
    oidc,
    people,
    providers,
    qr,
    relay_tunnel,
    relays,
    sign_in,
    tokens,
    tunnels,
)
from coordinator.api.call import serve_endpoint
from coordinator.api.context import Context, context_of
from coordinator.api.edge import EXCEPTION_HANDLERS, limit_visitor
from coordinator.api.openapi import with_document
from coordinator.api.table import Endpoint, Needs, Query
from coordinator.errors import STATUS, Refusal
from coordinator.store.database import is_disk_full
from coordinator.store.housekeeping import tidy
from coordinator.store.joins import drop_old_joins
from coordinator.store.sweep import (
    SETTLE_TIME,
    SWEEP_INTERVAL,
    ask_for_keys,
    expire_clients,
    expire_nodes,
    remove_absent,
    watch_ephemeral,
)
from coordinator.web import pages
from coordinator.web.reference import Reference
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MalformedMessage
from wgpy.mesh.wire import STREAM_TYPE

logger = logging.getLogger(__name__)

TIDY_INTERVAL = 3600.0

Handler = Callable[[Any], Awaitable[Any]]


def _handler_of(endpoint: Endpoint) -> Handler:
    serve = endpoint.handler if endpoint.raw else functools.partial(serve_endpoint, endpoint)
    return functools.partial(_counted, endpoint.action, serve)


async def _counted(action: str, serve: Handler, request: Request) -> Any:
    metrics, began = context_of(request).metrics, time.perf_counter()
    status = 500
    try:
        result = await serve(request)
        status = result.status_code if isinstance(result, Response) else 200
    except Refusal as refusal:
        status = refusal.status
        metrics.count_refusal(refusal.code)
        raise
    except (MalformedMessage, ConfigError):
        status = 400
        metrics.count_refusal("malformed")
        raise
    except SQLAlchemyError as error:
        code = "disk_full" if is_disk_full(error) else "unavailable"
        status = STATUS[code]
        metrics.count_refusal(code)
        raise
    finally:
        metrics.count_request(action, status, time.perf_counter() - began)
    return result


_raw = functools.partial(Endpoint, raw=True)


NODE_ENDPOINTS = (
    _raw("GET", "/v1/identity", node.identity, Needs.NOTHING, "identity.show", "Who this coordinator is"),
    _raw("POST", "/v1/challenge", node.challenge, Needs.NOTHING, "challenge.make", "What a node signs"),
    _raw(
        "POST", "/v1/join", node.join, Needs.NOTHING, "node.join", "Become a node, by a token", dict,
        codes=(
            "wire_version", "challenge_expired", "bad_signature", "token_unknown", "token_used",
            "token_expired", "token_revoked", "key_in_use", "network_full", "name_in_use", "needs_approval",
            "join_refused",
        ),
    ),
    _raw(
        "POST", "/v1/join/commit", node.commit_join, Needs.NOTHING, "join.commit",
        "Ask to join without a token: commit to keys", dict,
        codes=("wire_version", "not_keyless", "too_many_joins"),
    ),
    _raw(
        "POST", "/v1/join/open", node.open_join, Needs.NOTHING, "join.open",
        "Show the keys, and see how the join stands", dict,
        codes=(
            "wire_version", "challenge_expired", "bad_signature", "join_unknown", "key_in_use",
            "join_refused",
        ),
    ),
    _raw(
        "POST", "/v1/session", node.session, Needs.NOTHING, "node.session", "A bearer for what follows", dict,
        codes=("wire_version", "challenge_expired", "bad_signature", "node_unknown"),
    ),
    _raw(
        "PUT", "/v1/node/record", node.put_record, Needs.NODE, "node.record", "Sign what others may know",
        dict, codes=("record_mismatch",),
    ),
    _raw(
        "PUT", "/v1/node/offer", node.put_offer, Needs.NODE, "node.offer", "Say what it would forward", dict,
    ),
    _raw(
        "GET", "/v1/node/ingress", node_ingress.show_group, Needs.NODE, "node.ingress",
        "The external clients that come in by it", codes=("not_found",),
    ),
    _raw(
        "PUT", "/v1/node/ingress/key", node_ingress.hand_over_key, Needs.NODE, "node.ingress_key",
        "Give the group's key to its gateways, sealed", dict, codes=("not_found", "key_in_use"),
    ),
    _raw(
        "PUT", "/v1/node/name", node.put_name, Needs.NODE, "node.rename_itself", "Ask for another name", dict
    ),
    _raw(
        "PUT", "/v1/node/key", node.change_key, Needs.NODE, "node.key", "Take a new WireGuard key", dict,
        codes=("challenge_expired", "bad_signature", "record_mismatch", "key_in_use"),
    ),
    _raw(
        "GET", "/v1/watch", node.watch, Needs.NODE, "node.watch", "The stream of the map",
        query=(Query("since", "EPOCH:REVISION that the node stands at"),), media=(STREAM_TYPE,),
    ),
    _raw("POST", "/v1/checkin", node.check_in, Needs.NODE, "node.check_in", "Report, and poll the map", dict),
    _raw("DELETE", "/v1/node", node.leave, Needs.NODE, "node.leave", "Leave the network"),
)  # fmt: skip
"""What nodes ask: docs/wire.md §2 to §7 has their bodies."""

ENDPOINTS = with_document(
    (
        *NODE_ENDPOINTS,
        *sign_in.ENDPOINTS,
        *oidc.ENDPOINTS,
        *networks.ENDPOINTS,
        *tokens.ENDPOINTS,
        *nodes.ENDPOINTS,
        *joins.ENDPOINTS,
        *devices.ENDPOINTS,
        *relays.ENDPOINTS,
        *relay_tunnel.ENDPOINTS,
        *gateways.ENDPOINTS,
        *people.ENDPOINTS,
        *keys.ENDPOINTS,
        *providers.ENDPOINTS,
        *audit.ENDPOINTS,
        *qr.ENDPOINTS,
        *tunnels.ENDPOINTS,
        *names.ENDPOINTS,
        *ingress.ENDPOINTS,
        *clients.ENDPOINTS,
        *health.ENDPOINTS,
    )
)

ROUTES = tuple((endpoint.method, endpoint.path, _handler_of(endpoint)) for endpoint in ENDPOINTS)
"""Everything that can be asked. The tests walk it without credentials, and with somebody else's."""


PAGE_ROUTES = (
    ("GET", "/static/{version}/{name}", pages.static),
    ("GET", "/static/{name}", pages.static),
    ("GET", "/api", Reference(ENDPOINTS).page),
    *(("GET", path, pages.page) for path in pages.PATHS),
)
"""The web page: files that anybody may read. What they show they ask for like everyone else."""


async def _limited(serve: Handler, request: Request) -> Any:
    limit_visitor(request)
    return await serve(request)


async def _serve(by_method: Mapping[str, Handler], request: Request) -> Any:
    """One route a path, so that a method that it does not take is answered with all that it does."""
    return await by_method[request.method](request)


def build_app(context: Context) -> Starlette:
    """The application; its lifespan runs the hub and the hourly tidying."""
    context.store.measured = context.metrics.count_transaction
    context.metrics.watch(context.hub.census)
    handlers: dict[str, dict[str, Handler]] = {}
    for method, path, handler in ROUTES:
        handlers.setdefault(path, {})[method] = handler
    for method, path, handler in PAGE_ROUTES:
        handlers.setdefault(path, {})[method] = functools.partial(_limited, handler)
    routes = []
    for path, by_method in handlers.items():
        route = Route(path, functools.partial(_serve, by_method), methods=[*by_method])
        route.methods = {*by_method}  # no HEAD: an endless stream has no headers worth a connection
        routes.append(route)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            await tasks.start(context.hub.run)
            tasks.start_soon(context.pump.run)
            tasks.start_soon(_tidy_for_ever, context)
            tasks.start_soon(_sweep_for_ever, context)
            try:
                yield
            finally:
                context.hub.close()
                tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await context.hub.flush()

    app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan)
    app.state.context = context
    return app


async def _sweep_for_ever(context: Context) -> None:
    """Nodes and joins whose time is over. Absence counts once who lost us had time to come back."""
    began, write = context.clock(), context.store.write
    while True:
        await anyio.sleep(SWEEP_INTERVAL)
        now = context.clock()
        try:
            await write(drop_old_joins, now)
            await write(expire_nodes, now)
            await write(expire_clients, now)
            await write(ask_for_keys, now)
            if now - began >= SETTLE_TIME:
                await write(watch_ephemeral, now)
                await write(remove_absent, now)
        except Exception:
            logger.exception("cannot see to nodes whose time is over")


async def _tidy_for_ever(context: Context) -> None:
    while True:
        try:
            await context.store.write(tidy, context.clock())
        except Exception:
            logger.exception("cannot tidy the database")
        await anyio.sleep(TIDY_INTERVAL)
