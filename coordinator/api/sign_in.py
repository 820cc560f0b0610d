"""Signing in and out, the set-up link, and who one is (docs/coordinator.md §3)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.caller import clear_cookie, set_cookie
from coordinator.api.edge import answer
from coordinator.api.people import Person, person_of
from coordinator.api.table import Endpoint, Needs
from coordinator.errors import Refusal
from coordinator.store.audit import Actor, write_audit
from coordinator.store.browser_sessions import end_session, open_session
from coordinator.store.people import PersonRow, check_name, get_person, read_password, set_password
from coordinator.store.setup_links import find_setup_link, parse_setup_secret_untrusted, use_setup_link
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.signing import BearerSecret

Secret = Annotated[str, msgspec.Meta(max_length=64, description="what stands behind the # of the link")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, description="what one signs in with")]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

_WRONG: Final = "name or password is wrong"


class SetupLook(msgspec.Struct):
    secret: Secret


class SetupSeen(msgspec.Struct):
    """What a set-up link is good for."""

    name: Annotated[
        str | None, msgspec.Meta(description="whose password it sets; null: makes the first admin")
    ]
    expires_at: float


class Setup(msgspec.Struct):
    secret: Secret
    password: Password
    name: Annotated[str, msgspec.Meta(max_length=64, description="of the first admin")] = ""


class SignIn(msgspec.Struct):
    name: Name
    password: Password


class NewPassword(msgspec.Struct):
    old: Password
    new: Password


class Me(msgspec.Struct):
    """Who asks, and what they may: `everywhere` is the right on the coordinator and every network."""

    kind: str
    id: str
    name: str
    everywhere: str | None
    networks: Annotated[dict[str, str], msgspec.Meta(description="the right on single networks, by their id")]
    session: str | None


async def look_at_setup(call: Call[SetupLook]) -> SetupSeen:
    link = await call.read(find_setup_link, parse_setup_secret_untrusted(call.body.secret), call.now)
    return SetupSeen(link.person.name if link.person else None, link.expires_at)


async def set_up(call: Call[Setup]) -> Response:
    secret = parse_setup_secret_untrusted(call.body.secret)
    link = await call.read(find_setup_link, secret, call.now)  # before a password is hashed for a stranger
    assert secret is not None
    name = link.person.name if link.person else check_name(call.body.name)
    hashed = await call.context.passwords.hash(call.body.password, name)
    cookie = BearerSecret(call.context.rng.randbytes(32))

    def change(connection: Connection) -> PersonRow:
        person = use_setup_link(
            connection, secret, call.now, name=name, password=hashed, rng=call.context.rng
        )
        begin_session(connection, call, person, cookie, call.endpoint.action)
        return person

    return _signed_in(await call.context.store.write(change), cookie, 201)


async def sign_in(call: Call[SignIn]) -> Response:
    name = call.body.name.strip().lower()
    throttle(call, name)
    person_id, stored = await call.read(read_password, name)
    fits = await call.context.passwords.verify(stored, call.body.password)
    if not fits or person_id is None:
        await note_failure(call, person_id, name)
        raise Refusal("wrong_password", _WRONG)
    cookie = BearerSecret(call.context.rng.randbytes(32))

    def change(connection: Connection) -> PersonRow:
        if read_password(connection, name) != (person_id, stored):  # changed or disabled in the meantime
            raise Refusal("wrong_password", _WRONG)
        person = get_person(connection, person_id)
        begin_session(connection, call, person, cookie, call.endpoint.action)
        return person

    return _signed_in(await call.context.store.write(change), cookie, 200)


async def note_failure(call: Call[Any], person_id: str | None, name: str) -> None:
    """In the audit log, which strangers must not fill: of many failures one tells of the others. A name that
    nobody has may be a password in the wrong field: it is not written down.
    """
    attempts = call.context.failed_sign_ins.note(call.address, call.now)
    if not attempts:
        return
    tried: JsonObject = {"id": person_id or "", "name": name if person_id else "", "attempts": attempts}

    def change(connection: Connection) -> None:
        actor = Actor("stranger", "", "", call.address)
        write_audit(connection, actor, "session.refuse", None, call.now, before=None, after=tried)

    await call.context.store.write(change)


def throttle(call: Call[Any], name: str) -> None:
    """Count an attempt to sign in. Raises Refusal `rate_limited`."""
    by_address, by_name = call.context.sign_ins
    wait = by_address.take(call.address, call.now) or by_name.take(name, call.now)
    if wait:
        retry = {"retry-after": str(max(1, math.ceil(wait)))}
        raise Refusal("rate_limited", "too many attempts to sign in: wait a little", headers=retry)


def begin_session(
    connection: Connection, call: Call[Any], person: PersonRow, cookie: BearerSecret, action: str
) -> None:
    """Whoever has the cookie is this person from now on; `action` is how that came about."""
    agent = call.request.headers.get("user-agent", "")
    open_session(connection, cookie, person.id, call.now, address=call.address, agent=agent)
    actor = Actor("person", person.id, person.name, call.address)
    session = {"id": cookie.id, "name": person.name, "agent": agent[:200]}
    write_audit(connection, actor, action, None, call.now, before=None, after=session)


def _signed_in(person: PersonRow, cookie: BearerSecret, status: int) -> Response:
    response = answer(msgspec.json.encode(person_of(person)), status)
    set_cookie(response, cookie)
    return response


async def sign_out(call: Call[None]) -> Response:
    if call.by.session is not None:
        await call.context.store.write(end_session, call.by.session, call.by.id)
    response = Response(status_code=204, headers={"cache-control": "no-store"})
    clear_cookie(response)
    return response


async def me(call: Call[None]) -> Me:
    by = call.by
    held = {network: right.name.lower() for network, right in by.networks.items()}
    everywhere = None if by.everywhere is None else by.everywhere.name.lower()
    return Me(by.kind, by.id, by.name, everywhere, held, by.session)


async def change_password(call: Call[NewPassword]) -> None:
    by_name = call.context.sign_ins[1]
    person_id, stored = await call.read(read_password, call.by.name)
    if person_id != call.by.id or call.by.kind != "person":
        raise Refusal("forbidden", "only who signed in with a password can change it here")
    if by_name.take(call.by.name, call.now) or not await call.context.passwords.verify(stored, call.body.old):
        raise Refusal("wrong_password", "the old password is wrong")
    hashed = await call.context.passwords.hash(call.body.new, call.by.name)

    def change(connection: Connection) -> PersonRow:
        set_password(connection, call.by.id, hashed, call.by.session)
        person = get_person(connection, call.by.id)
        actor = Actor("person", person.id, person.name, call.address)
        value = {"id": person.id, "name": person.name}
        write_audit(connection, actor, call.endpoint.action, None, call.now, before=value, after=value)
        return person

    await call.context.store.write(change)


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/setup/look", look_at_setup, Needs.NOTHING, "setup.look", "What this link is good for",
        takes=SetupLook, gives=SetupSeen, codes=("setup_link",),
    ),
    Endpoint(
        "POST", "/v1/setup", set_up, Needs.NOTHING, "setup.use",
        "Use a set-up link: make the first admin, or set a new password; signs in",
        takes=Setup, gives=Person, status=201, codes=("setup_link", "name_in_use", "busy"),
    ),
    Endpoint(
        "POST", "/v1/sign-in", sign_in, Needs.NOTHING, "session.open", "Sign in with a password",
        takes=SignIn, gives=Person, codes=("wrong_password", "busy"),
    ),
    Endpoint(
        "POST", "/v1/sign-out", sign_out, Needs.SIGNED_IN, "session.close", "End this session", status=204
    ),
    Endpoint("GET", "/v1/me", me, Needs.SIGNED_IN, "me.show", "Who I am and what I may", gives=Me),
    Endpoint(
        "POST", "/v1/me/password", change_password, Needs.SIGNED_IN, "password.change",
        "Change my password; my other sessions end",
        takes=NewPassword, status=204, codes=("wrong_password", "forbidden", "busy"),
    ),
)  # fmt: skip
