"""For those who look after the process: does it live, can it work, what has it counted."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs
from coordinator.errors import Refusal
from coordinator.metrics import CONTENT_TYPE

_NO_STORE: Final = {"cache-control": "no-store"}


async def healthz(_call: Call[None]) -> Response:
    """It answers: nothing else is asked, so that a database that is away restarts no coordinator."""
    return Response("ok\n", headers=_NO_STORE, media_type="text/plain")


async def readyz(call: Call[None]) -> Response:
    """Raises Refusal `unavailable`, after which a load balancer sends requests elsewhere. It asks nothing of
    the database itself: anybody may ask, as often as the limit lets them.
    """
    if not call.context.hub.is_ready:
        raise Refusal("unavailable", "the database does not answer, or this process is being stopped")
    return Response("ready\n", headers=_NO_STORE, media_type="text/plain")


async def metrics(call: Call[None]) -> Response:
    return Response(call.context.metrics.render(), headers=_NO_STORE | {"content-type": CONTENT_TYPE})


_TEXT: Final = ("text/plain",)

ENDPOINTS: Final = (
    Endpoint(
        "GET", "/healthz", healthz, Needs.NOTHING, "health.alive", "Whether the process answers", media=_TEXT
    ),
    Endpoint(
        "GET", "/readyz", readyz, Needs.NOTHING, "health.ready", "Whether it and its database can work",
        codes=("unavailable",), media=_TEXT,
    ),
    Endpoint(
        "GET", "/metrics", metrics, Needs.READ, "metrics.show", "Its counters, for Prometheus", media=_TEXT
    ),
)  # fmt: skip
