"""The coordinator as an ASGI application, neutral of the event loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.routing import Route

from coordinator.api import admin, node
from coordinator.api.context import Context
from coordinator.api.edge import EXCEPTION_HANDLERS
from coordinator.store.housekeeping import tidy

logger = logging.getLogger(__name__)

TIDY_INTERVAL = 3600.0

ROUTES = (
    ("GET", "/v1/identity", node.identity),
    ("POST", "/v1/challenge", node.challenge),
    ("POST", "/v1/join", node.join),
    ("POST", "/v1/session", node.session),
    ("PUT", "/v1/node/record", node.put_record),
    ("GET", "/v1/watch", node.watch),
    ("POST", "/v1/checkin", node.check_in),
    ("DELETE", "/v1/node", node.leave),
    ("GET", "/v1/admin/networks", admin.list_networks),
    ("POST", "/v1/admin/networks", admin.create_network),
    ("GET", "/v1/admin/networks/{network}", admin.show_network),
    ("DELETE", "/v1/admin/networks/{network}", admin.delete_network),
    ("GET", "/v1/admin/networks/{network}/tokens", admin.list_tokens),
    ("POST", "/v1/admin/networks/{network}/tokens", admin.create_token),
    ("DELETE", "/v1/admin/networks/{network}/tokens/{token}", admin.revoke_token),
    ("GET", "/v1/admin/networks/{network}/nodes", admin.list_nodes),
    ("GET", "/v1/admin/networks/{network}/nodes/{node}", admin.show_node),
    ("DELETE", "/v1/admin/networks/{network}/nodes/{node}", admin.remove_node),
)
"""Everything that can be asked. The tests walk it without credentials, and with somebody else's."""


def build_app(context: Context) -> Starlette:
    """The application; its lifespan runs the hub and the hourly tidying."""
    routes = []
    for method, path, handler in ROUTES:
        route = Route(path, handler, methods=[method])
        route.methods = {method}  # no HEAD: an endless stream has no headers worth a connection
        routes.append(route)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            await tasks.start(context.hub.run)
            tasks.start_soon(_tidy_for_ever, context)
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


async def _tidy_for_ever(context: Context) -> None:
    while True:
        try:
            await context.store.write(tidy, context.clock())
        except Exception:
            logger.exception("cannot tidy the database")
        await anyio.sleep(TIDY_INTERVAL)
