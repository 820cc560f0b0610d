"""Signing in at an OpenID provider: the browser goes there, and comes back with a code.

The browser asks for these by going to them, so whatever goes wrong is an address of the page that says it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.caller import authorise, set_cookie
from coordinator.api.context import Context
from coordinator.api.edge import answer
from coordinator.api.providers import CALLBACK, client_of
from coordinator.api.sign_in import begin_session, note_failure, throttle
from coordinator.api.table import Endpoint, Needs, Query
from coordinator.errors import Refusal
from coordinator.oidc import (
    ATTEMPT_AGE,
    Attempt,
    authorization_url,
    begin_attempt,
    open_attempt,
    seal_attempt,
)
from coordinator.store.audit import Actor, write_audit
from coordinator.store.networks import read_urls
from coordinator.store.people import PersonRow
from coordinator.store.providers import admit_person, connect_person, get_provider, list_providers
from coordinator.vault import WrappingKey
from wgpy.mesh.encoding import JsonObject, decode_b64u
from wgpy.mesh.signing import BearerSecret

ATTEMPT_COOKIE: Final = "__Host-wgpy-attempt"

_PATH: Final = re.compile(r"/(?![/\\])[!-~]{0,511}")
_LOST: Final = (
    "this sign-in was begun in another browser, at another address or over ten minutes ago: begin again"
)


class Way(msgspec.Struct):
    """`label` is what a button says that leads to `/v1/oidc/NAME/begin`."""

    name: str
    label: str


class Ways(msgspec.Struct):
    """How one may sign in, besides by name and password."""

    providers: list[Way]


class Connecting(msgspec.Struct):
    """Where the browser has to go now."""

    url: Annotated[str, msgspec.Meta(description="at the provider")]


async def show_ways(call: Call[None]) -> Ways:
    return Ways([Way(row.name, row.label) for row in await call.read(list_providers)])


def _refused(refusal: Refusal) -> Response:
    return _go(f"/sign-in?{urlencode({'refused': refusal.code})}")


def _go(url: str) -> Response:
    headers = {"location": url, "cache-control": "no-store", "referrer-policy": "no-referrer"}
    return Response(status_code=303, headers=headers)


def _shown_on_the_page(
    handler: Callable[[Call[None]], Awaitable[Response]],
) -> Callable[[Call[None]], Awaitable[Response]]:
    async def serve(call: Call[None]) -> Response:
        try:
            response = await handler(call)
        except Refusal as refusal:
            call.context.metrics.count_refusal(refusal.code)
            response = _refused(refusal)
        return response

    return serve


def _attempt_key(context: Context) -> WrappingKey:
    return WrappingKey(context.sessions.sealing_key("OpenID attempt"))


async def _begin(call: Call[Any], next_path: str, person: str) -> tuple[str, str]:
    """Where to go, and the cookie to take along. Raises Refusal `not_found`, `provider_failed`."""
    provider = await call.read(get_provider, call.path("provider"))
    metadata = await call.context.providers.metadata(provider.issuer)
    urls = await call.read(read_urls)
    host = call.request.headers.get("host", "")
    base = next((url for url in urls if urlsplit(url).netloc == host), urls[0])
    attempt = begin_attempt(
        provider.name, redirect_uri=base + CALLBACK, next_path=next_path, person=person,
        rng=call.context.rng, now=call.now,
    )  # fmt: skip
    sealed = seal_attempt(attempt, _attempt_key(call.context))
    return authorization_url(metadata, provider.client_id, attempt), sealed


def _take_along(response: Response, sealed: str) -> Response:
    response.set_cookie(
        ATTEMPT_COOKIE, sealed, max_age=int(ATTEMPT_AGE), secure=True, httponly=True, samesite="lax"
    )
    return response


@_shown_on_the_page
async def begin(call: Call[None]) -> Response:
    wanted = call.request.query_params.get("next", "/")
    url, sealed = await _begin(call, wanted if _PATH.fullmatch(wanted) else "/", "")
    return _take_along(_go(url), sealed)


async def connect(call: Call[None]) -> Response:
    await call.read(get_provider, call.path("provider"))
    if call.by.kind != "person":
        raise Refusal("forbidden", "a person's account is connected, not a key: sign in on the page")
    url, sealed = await _begin(call, "/settings", call.by.id)
    return _take_along(answer(msgspec.json.encode(Connecting(url))), sealed)


@_shown_on_the_page
async def come_back(call: Call[None]) -> Response:
    attempt = _open_attempt(call)
    query = call.request.query_params
    if "error" in query:
        raise Refusal("not_admitted", "the provider did not let this one in")
    throttle(call, f"oidc {attempt.provider}")
    provider = await call.read(get_provider, attempt.provider)
    if query.get("iss", provider.issuer) != provider.issuer or not 1 <= len(query.get("code", "")) <= 4096:
        raise Refusal("sign_in_lost", _LOST)
    claims = await call.context.providers.claims(client_of(call.context, provider), attempt, query["code"])
    if attempt.person:
        return await _connected(call, attempt, provider.issuer, claims.subject)
    cookie = BearerSecret(call.context.rng.randbytes(32))

    def change(connection: Connection) -> PersonRow:
        person = admit_person(connection, provider, claims, call.context.rng, call.now)
        begin_session(connection, call, person, cookie, "session.open")
        return person

    try:
        await call.context.store.write(change)
    except Refusal:
        await note_failure(call, None, "")
        raise
    response = _go(attempt.next)
    set_cookie(response, cookie)
    return _forget(response)


def _open_attempt(call: Call[None]) -> Attempt:
    text = call.request.cookies.get(ATTEMPT_COOKIE, "")
    try:
        sealed = decode_b64u(text) if len(text) <= 4096 else b""
    except ValueError:
        sealed = b""
    state = call.request.query_params.get("state", "")
    attempt = open_attempt(sealed, _attempt_key(call.context), state[:256], call.now)
    if attempt is None:
        raise Refusal("sign_in_lost", _LOST)
    return attempt


async def _connected(call: Call[None], attempt: Attempt, issuer: str, subject: str) -> Response:
    caller = await authorise(call.request, touch=False)
    if caller.kind != "person" or caller.id != attempt.person:
        raise Refusal("sign_in_lost", _LOST)

    def change(connection: Connection) -> None:
        person = connect_person(connection, caller.id, issuer, subject)
        shown: JsonObject = {"id": person.id, "name": person.name, "issuer": issuer}
        actor = Actor(caller.kind, caller.id, caller.name, call.address)
        write_audit(connection, actor, "person.connect", None, call.now, before=None, after=shown)

    await call.context.store.write(change)
    return _forget(_go(attempt.next))


def _forget(response: Response) -> Response:
    response.delete_cookie(ATTEMPT_COOKIE, secure=True, httponly=True, samesite="lax")
    return response


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/sign-in", show_ways, Needs.NOTHING, "session.ways", "How one may sign in", gives=Ways
    ),
    Endpoint(
        "GET", CALLBACK, come_back, Needs.NOTHING, "session.return",
        "Where a provider sends the browser back to; signs in", status=303,
        query=(Query("state", "what was sent along"), Query("code", "what the provider gave")),
    ),
    Endpoint(
        "GET", "/v1/oidc/{provider}/begin", begin, Needs.NOTHING, "session.begin",
        "Sign in at an OpenID provider: for a browser", status=303,
        query=(Query("next", "the path of the page to go on to"),),
    ),
    Endpoint(
        "POST", "/v1/me/providers/{provider}", connect, Needs.SIGNED_IN, "session.connect",
        "Come in by this provider too: where the browser has to go", gives=Connecting,
        codes=("forbidden", "provider_failed"),
    ),
)  # fmt: skip
