"""The edge of the API: bodies in, answers and problems out, who is asking, and how often."""

from __future__ import annotations

import gzip
import http
import ipaddress
import logging
import math
import re
from contextlib import aclosing
from functools import partial
from typing import Final

import anyio
from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.context import context_of
from coordinator.errors import Refusal
from coordinator.ratelimit import RateLimit
from coordinator.store.database import is_disk_full
from coordinator.store.nodes import NodeRow, find_node, find_removed
from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import JsonObject, MalformedMessage, decode_json, encode_json
from wgpy.mesh.frames import RemovedFrame
from wgpy.mesh.wire import MAX_BODY_SIZE, PROBLEM_TYPE

logger = logging.getLogger(__name__)

BODY_TIMEOUT = 15.0
"""Seconds for a body of at most 64 KiB to arrive."""

PACKED_SIZE: Final = 4096
"""Octets from which an answer is worth compressing."""
PACKED_LEVEL: Final = 1
"""Of gzip: 400 nodes (202 KB) in 1.5 ms to a quarter; level 6 takes twice as long for a twentieth less."""

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class RemovedNode(Refusal):
    """The bearer is that of a node that was removed: it is owed the signed frame and nothing else."""

    def __init__(self, frame: RemovedFrame) -> None:
        self.frame = frame
        super().__init__(
            "session_expired", "this node was removed from the network", extra={"removed": frame.to_json()}
        )


# --- out ---


def answer(value: JsonObject | bytes, status: int = 200) -> Response:
    """JSON."""
    body = value if isinstance(value, bytes) else encode_json(value)
    return Response(body, status, headers=_HEADERS, media_type="application/json")


async def answer_reading(request: Request, value: bytes) -> Response:
    """JSON of what there is, compressed where it is large and the asker takes that.

    For GET alone: answers that make something may hold a new secret beside what the asker chose, and the
    length of both compressed together tells of the secret (BREACH).
    """
    response = answer(value)
    response.headers["vary"] = "accept-encoding"
    if len(value) >= PACKED_SIZE and takes_gzip(request):
        packed = await to_thread.run_sync(partial(gzip.compress, value, PACKED_LEVEL, mtime=0))
        response = answer(packed)
        response.headers.update({"content-encoding": "gzip", "vary": "accept-encoding"})
    return response


def takes_gzip(request: Request) -> bool:
    """Whether the asker understands gzip, and has not said that it would rather not."""
    for word in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = word.partition(";")
        if name.strip() in ("gzip", "*"):
            return re.fullmatch(r"q=0(\.0*)?", weight.replace(" ", "")) is None
    return False


def problem(refusal: Refusal) -> Response:
    body = {
        "title": http.HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    headers = _HEADERS | refusal.headers
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(encode_json(body | refusal.extra), refusal.status, headers, PROBLEM_TYPE)


async def answer_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem(error)


async def answer_malformed(_request: Request, error: Exception) -> Response:
    return problem(Refusal("malformed", str(error)))


async def answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    try:
        limit_stranger(request)
    except Refusal as refusal:
        return problem(refusal)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path[:100]} does not take {request.method[:10]}: it takes {allowed}"
        return problem(Refusal("method_not_allowed", detail, headers={"allow": allowed}))
    return problem(Refusal("not_found", f"there is nothing at {request.url.path[:100]}: see docs/wire.md"))


async def answer_database_error(request: Request, error: Exception) -> Response:
    route = getattr(request.scope.get("route"), "path", "?")  # never the path itself: it is a stranger's word
    logger.error("%s: the database failed: %s", route, str(error).splitlines()[0])
    if is_disk_full(error):
        return problem(
            Refusal("disk_full", "the coordinator's disk is full, so nothing was changed: make room on it")
        )
    return problem(Refusal("unavailable", "the database cannot be reached at the moment: try again"))


async def answer_crash(_request: Request, _error: Exception) -> Response:
    return problem(Refusal("internal", "the coordinator failed at this request; its log says where"))


EXCEPTION_HANDLERS = {
    Refusal: answer_refusal,
    MalformedMessage: answer_malformed,
    ConfigError: answer_malformed,
    HTTPException: answer_http_error,
    SQLAlchemyError: answer_database_error,
    Exception: answer_crash,
}


# --- in ---


async def read_octets(request: Request) -> bytes:
    """The body of a request. Raises Refusal `too_large`, `malformed`."""
    body = bytearray()
    with anyio.move_on_after(BODY_TIMEOUT) as scope:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_SIZE:
                    raise Refusal("too_large", f"a body has at most {MAX_BODY_SIZE} octets")
    if scope.cancelled_caught:
        raise Refusal("malformed", f"the body did not arrive within {BODY_TIMEOUT:.0f} s")
    return bytes(body)


async def read_body(request: Request) -> object:
    """The JSON of a request. Raises Refusal `too_large`, `malformed`; MalformedMessage."""
    return decode_json(await read_octets(request), MAX_BODY_SIZE)


def observed_address(request: Request) -> IPAddress | None:
    """Where the request came from."""
    if request.client is None:
        return None
    try:
        address = ipaddress.ip_address(request.client.host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# --- who, and how often ---


def limit_stranger(request: Request) -> None:
    """Count a request of somebody unproven. Raises Refusal `rate_limited`."""
    _limit(request, context_of(request).limit)


def limit_visitor(request: Request) -> None:
    """Count a request for a file of the page. Raises Refusal `rate_limited`."""
    _limit(request, context_of(request).page_limit)


def _limit(request: Request, limit: RateLimit) -> None:
    source = "" if request.client is None else request.client.host
    wait = limit.take(source, context_of(request).clock())
    if wait:
        raise Refusal(
            "rate_limited",
            "too many requests from this address: wait a little",
            headers={"retry-after": str(max(1, math.ceil(wait)))},
        )


def bearer_text(request: Request) -> str:
    """What stands behind `Authorization: Bearer`, "" without."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


async def authorise_node(request: Request) -> NodeRow:
    """The node whose bearer came with the request. Raises Refusal `session_expired`, RemovedNode.

    Its row is read every time: removal and key rotation bite at once, in every process.
    """
    context = context_of(request)
    bearer = context.sessions.read_bearer_untrusted(bearer_text(request), context.clock())
    if bearer is None:
        limit_stranger(request)
        raise Refusal("session_expired", "this needs the bearer of a session: ask POST /v1/session for one")
    node = await context.store.read(find_node, bearer.network_id, bearer.node_id)
    if node is None:
        if await context.store.read(find_removed, bearer.network_id, bearer.node_id) is not None:
            raise RemovedNode(context.identity.removed_frame(bearer.network_id, bearer.node_id))
        raise Refusal("session_expired", "this session's node is not known here any more")
    if node.key_epoch != bearer.key_epoch:
        raise Refusal("session_expired", "this session was ended: ask POST /v1/session for another")
    return node
