"""The API as an OpenAPI 3.1 document, written from the same declarations that serve it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.table import DRY_RUN, Endpoint, Needs
from coordinator.errors import STATUS
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.wire import PROBLEM_TYPE, WIRE_VERSION

PATH: Final = "/v1/openapi.json"

_REF: Final = "#/components/schemas/{name}"

_ABOUT: Final = """\
What nodes, the command line and the web page ask of a coordinator. Whoever administers sends an API key \
(`Authorization: Bearer wgpyk_…`) or, in a browser, the cookie of a sign-in; with a cookie, whatever is no \
GET has to come from the coordinator's own page. Nodes send the bearer of their session, which they get by \
a signature; their bodies are in docs/wire.md.

Refusals are `application/problem+json` with a `code` for programs and a `detail` for people. Edits take \
`If-Match`, creations an `Idempotency-Key`."""


class Problem(msgspec.Struct):
    """Why not: `code` for programs, `detail` for people."""

    title: str
    status: int
    detail: str
    code: str


def codes_of(endpoint: Endpoint) -> list[str]:
    """What this route may refuse with: its own codes, and those that come with its declaration."""
    codes = {"internal", "unavailable", *endpoint.codes}
    if endpoint.needs is Needs.NOTHING:
        codes.add("rate_limited")
    elif endpoint.needs is Needs.NODE:
        codes |= {"session_expired", "rate_limited", "node_unknown"}
    else:
        codes |= {"unauthorized", "rate_limited"}
        if endpoint.needs.right is not None:
            codes.add("forbidden")
    if endpoint.method != "GET":
        codes.add("disk_full")
        if endpoint.needs is not Needs.NODE:
            codes.add("cross_site")
        if endpoint.takes is not None:
            codes |= {"malformed", "too_large"}
    if endpoint.query or endpoint.previews:
        codes.add("malformed")
    if "{" in endpoint.path:
        codes.add("not_found")
    if endpoint.edits:
        codes.add("needs_if_match")
    if endpoint.subject is not None and endpoint.method != "GET":
        codes.add("changed")
    if endpoint.creates:
        codes |= {"reused_key", "busy", "malformed"}
    return sorted(codes, key=lambda code: (STATUS[code], code))


def build_document(endpoints: Sequence[Endpoint]) -> JsonObject:
    """OpenAPI 3.1 of these routes."""
    kinds = {kind for endpoint in endpoints for kind in (endpoint.takes, endpoint.gives) if kind is not None}
    ordered = sorted({Problem, *kinds}, key=lambda kind: kind.__name__)
    references, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    reference_of = dict(zip(ordered, references, strict=True))
    paths: dict[str, JsonObject] = {}
    for endpoint in endpoints:
        operation = _operation_of(endpoint, reference_of)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "wgpy coordinator", "version": f"{WIRE_VERSION}", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-wgpy"},
                "session": {"type": "http", "scheme": "bearer", "description": "Of a node's session."},
            },
        },
    }


def _operation_of(endpoint: Endpoint, reference_of: dict[type, dict[str, Any]]) -> JsonObject:
    operation: JsonObject = {
        "operationId": endpoint.action,
        "summary": endpoint.summary,
        "description": f"Needs {endpoint.needs.value}.",
        "tags": [_tag_of(endpoint)],
        "security": _security_of(endpoint.needs),
        "parameters": list(_parameters_of(endpoint)),
        "responses": _responses_of(endpoint, reference_of),
    }
    if endpoint.takes is not None:
        content = {"application/json": {"schema": reference_of[endpoint.takes]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _tag_of(endpoint: Endpoint) -> str:
    if endpoint.needs is Needs.NODE or endpoint.raw:
        return "what nodes ask"
    return endpoint.action.partition(".")[0].replace("_", " ")


def _security_of(needs: Needs) -> list[dict[str, list[str]]]:
    if needs is Needs.NOTHING:
        return []
    return [{"session": []}] if needs is Needs.NODE else [{"key": []}, {"cookie": []}]


def _parameters_of(endpoint: Endpoint) -> Iterable[JsonObject]:
    for name in re.findall(r"{(\w+)}", endpoint.path):
        schema: JsonObject = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "description": "name or id", "schema": schema}
    for query in (*endpoint.query, *((DRY_RUN,) if endpoint.previews else ())):
        schema = {"type": "integer", "minimum": 0} if query.kind is int else {"type": "string"}
        yield {"name": query.name, "in": "query", "description": query.what, "schema": schema}
    if endpoint.edits:
        what = "the ETag of what was read, or `*` to overwrite"
        yield _header("If-Match", what, required=True)
    if endpoint.creates:
        what = "any text of the client's own: asked for twice under one, it happens once"
        yield _header("Idempotency-Key", what, required=False, maxLength=255)


def _header(name: str, what: str, *, required: bool, **bounds: int) -> JsonObject:
    schema: JsonObject = {"type": "string", "minLength": 1, **bounds}
    return {"name": name, "in": "header", "required": required, "description": what, "schema": schema}


def _responses_of(endpoint: Endpoint, reference_of: dict[type, dict[str, Any]]) -> JsonObject:
    done: JsonObject = {"description": "Done." if endpoint.status < 300 else "Go there."}
    if endpoint.status < 300 and endpoint.status != 204:
        schema = {} if endpoint.gives is None else reference_of[endpoint.gives]
        done["content"] = {media: {"schema": schema} for media in endpoint.media}
    if endpoint.subject is not None and endpoint.status != 204:
        what = "of the thing as it is now: for If-Match"
        done["headers"] = {"ETag": {"description": what, "schema": {"type": "string"}}}
    responses: JsonObject = {str(endpoint.status): done}
    refusals: dict[int, list[str]] = {}
    for code in codes_of(endpoint):
        refusals.setdefault(STATUS[code], []).append(code)
    for status, codes in refusals.items():
        content = {PROBLEM_TYPE: {"schema": reference_of[Problem]}}
        said = " or ".join(f"`{code}`" for code in codes)
        responses[str(status)] = {"description": said, "content": content}
    return responses


def with_document(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The routes, and the one that tells of them and of itself."""

    @functools.cache
    def encoded() -> bytes:
        return msgspec.json.encode(build_document(everything))

    async def show(_call: Call[None]) -> Response:
        return Response(encoded(), headers={"cache-control": "no-cache"}, media_type="application/json")

    own = Endpoint("GET", PATH, show, Needs.NOTHING, "openapi.show", "This document, OpenAPI 3.1")
    everything = (*endpoints, own)
    return everything
