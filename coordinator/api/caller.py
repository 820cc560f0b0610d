"""Who asks: an API key, or a browser's session with a check that the request is of our own page.

**Cross-site requests.** A cookie goes along with whatever page makes the browser send a request, so with a
cookie anything but a GET has to come from our own origin: the browser says so in `Sec-Fetch-Site`, which no
page can set, and older ones in `Origin`. That needs no token that could leak or be forgotten in a form, and
holds behind a proxy too, for the comparison is the browser's. GETs change nothing.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.context import context_of
from coordinator.api.edge import bearer_text, limit_stranger
from coordinator.errors import Refusal
from coordinator.rights import Caller
from coordinator.store.api_keys import find_key_caller, parse_api_key_untrusted
from coordinator.store.browser_sessions import (
    SESSION_AGE,
    encode_cookie,
    find_caller,
    parse_cookie_untrusted,
    touch_session,
)
from wgpy.mesh.signing import BearerSecret

COOKIE: Final = "__Host-wgpy"
"""The prefix makes browsers refuse it from any other host, path or without TLS."""

_NO_CALLER: Final = (
    "this needs an API key or a sign-in: the coordinator's host has a key in admin.json, "
    "and `wgpy coordinator setup-link` prints a link to sign in with"
)


async def authorise(request: Request, *, touch: bool = True) -> Caller:
    """`touch`: this is a use of the session. Raises Refusal `unauthorized`, `cross_site`."""
    text = bearer_text(request)
    caller = await (_by_key(request, text) if text else _by_cookie(request, touch))
    if caller is None:
        limit_stranger(request)
        raise Refusal("unauthorized", _NO_CALLER)
    return caller


async def _by_key(request: Request, text: str) -> Caller | None:
    context = context_of(request)
    secret = parse_api_key_untrusted(text)
    return None if secret is None else await context.store.read(find_key_caller, secret, context.clock())


async def _by_cookie(request: Request, touch: bool) -> Caller | None:
    context = context_of(request)
    secret = parse_cookie_untrusted(request.cookies.get(COOKIE, ""))
    if secret is None:
        return None
    found = await context.store.read(find_caller, secret, context.clock())
    if found is None:
        return None
    if not is_same_origin(request, without_word=False):
        raise Refusal("cross_site", "this request does not come from the coordinator's own page")
    caller, stale = found
    if stale and touch and caller.session is not None:
        await context.store.write(touch_session, caller.session, context.clock())
    return caller


def is_same_origin(request: Request, *, without_word: bool) -> bool:
    """Whether the browser says that our own page sent this; `without_word` is the answer for what is no
    browser and says nothing.
    """
    if request.method in ("GET", "HEAD"):
        return True
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is not None:
        return origin == f"https://{request.headers.get('host', '')}"
    return without_word


def set_cookie(response: Response, secret: BearerSecret) -> None:
    """Lax, not Strict: with Strict, who comes back from the OpenID provider or follows a link would look
    signed out. Whatever changes something is checked above.
    """
    response.set_cookie(
        COOKIE, encode_cookie(secret), max_age=int(SESSION_AGE), secure=True, httponly=True, samesite="lax"
    )


def clear_cookie(response: Response) -> None:
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax")
