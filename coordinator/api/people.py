"""People, their roles and sessions, and set-up links."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import PAGE, Endpoint, Needs, Subject
from coordinator.rights import ROLES, Right
from coordinator.store import devices, people
from coordinator.store.browser_sessions import SessionRow, end_session, list_sessions
from coordinator.store.networks import find_network_id, read_urls
from coordinator.store.setup_links import SetupLink, encode_setup_secret, make_setup_link
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.signing import BearerSecret

ROLE_PATTERN: Final = f"^({'|'.join(ROLES)})$"


class Person(msgspec.Struct):
    """Somebody who can sign in. `roles` are by network id: viewer, member or admin."""

    id: str
    name: str
    is_admin: bool
    has_password: bool
    issuer: Annotated[str | None, msgspec.Meta(description="the OpenID provider that vouches for them")]
    roles: dict[str, str]
    created_at: float
    disabled_at: float | None


class People(msgspec.Struct):
    people: list[Person]
    next: str | None


class NewPerson(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    is_admin: bool = False


class PersonEdit(msgspec.Struct):
    """What is left out stays."""

    is_admin: bool | None = None
    disabled: Annotated[
        bool | None, msgspec.Meta(description="signed out and kept out, with their devices")
    ] = None


class Role(msgspec.Struct):
    """`role` null: none."""

    role: Annotated[str, msgspec.Meta(pattern=ROLE_PATTERN)] | None


class Session(msgspec.Struct):
    """A browser that is signed in. `mine`: the one that asks."""

    id: str
    person: str
    address: str
    agent: str
    created_at: float
    used_at: float
    mine: bool


class Sessions(msgspec.Struct):
    sessions: list[Session]


class NewSetupLink(msgspec.Struct):
    """`person` null: the first admin."""

    person: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class MadeSetupLink(msgspec.Struct):
    """`url` is shown this once. It is the coordinator's first; any other of its URLs does as well."""

    id: str
    url: str
    person: str | None
    expires_at: float


def person_of(row: people.PersonRow) -> Person:
    return Person(
        row.id,
        row.name,
        row.is_admin,
        row.has_password,
        row.issuer,
        row.roles,
        row.created_at,
        row.disabled_at,
    )


def _read_person(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    row = people.find_person(connection, wanted)
    value: JsonObject | None = None if row is None else msgspec.to_builtins(person_of(row))
    return value


PERSON: Final = Subject(_read_person, "person")


async def list_people(call: Call[None]) -> People:
    limit = call.limit()
    rows = await call.read(people.list_people, call.query("after") or "", limit)
    return People([person_of(row) for row in rows], rows[-1].name if len(rows) == limit else None)


async def show_person(call: Call[None]) -> Person:
    return person_of(await call.read(people.get_person, call.path("person")))


async def create_person(call: Call[NewPerson]) -> object:
    name = people.check_name(call.body.name)
    return await call.create(
        person_of, people.create_person, name, is_admin=call.body.is_admin, password=None,
        rng=call.context.rng, now=call.now,
    )  # fmt: skip


async def edit_person(call: Call[PersonEdit]) -> Person:
    body = call.body
    row = await call.change(devices.edit_owner, call.path("person"), body.is_admin, body.disabled, call.now)
    return person_of(row)


async def remove_person(call: Call[None]) -> Person:
    return person_of(await call.change(devices.remove_owner, call.path("person"), call.now))


async def set_role(call: Call[Role]) -> Person:
    network_id = await call.read(find_network_id, call.path("on"), call.by.sees)
    row = await call.change(devices.set_owner_role, call.path("person"), network_id, call.body.role, call.now)
    return person_of(row)


async def list_open_sessions(call: Call[None]) -> Sessions:
    rows = await call.read(list_sessions, _whose(call), call.now)
    return Sessions([_session_of(row, call.by.session) for row in rows])


def _whose(call: Call[None]) -> str | None:
    """None, for everybody's, is an admin's alone."""
    return None if call.by.may(Right.ADMIN) else call.by.id


def _session_of(row: SessionRow, mine: str | None) -> Session:
    return Session(
        row.id, row.person, row.address, row.agent, row.created_at, row.used_at, mine=row.id == mine
    )


def _read_session(connection: Connection, _network_id: str, session_id: str) -> JsonObject | None:
    found = [row for row in list_sessions(connection, None, 0.0) if row.id == session_id]
    return {"id": found[0].id, "name": found[0].person, "agent": found[0].agent} if found else None


async def close_session(call: Call[None]) -> Session:
    row = await call.change(end_session, call.path("session"), _whose(call))
    return _session_of(row, call.by.session)


def _read_link(_connection: Connection, _network_id: str, link_id: str) -> JsonObject:
    return {"id": link_id}


async def create_setup_link(call: Call[NewSetupLink]) -> object:
    secret = BearerSecret(call.context.rng.randbytes(32))
    urls = await call.read(read_urls)

    def show(link: SetupLink) -> MadeSetupLink:
        url = f"{urls[0]}/setup#{encode_setup_secret(secret)}"
        return MadeSetupLink(link.id, url, link.person.name if link.person else None, link.expires_at)

    return await call.create(show, make_setup_link, secret, call.body.person, call.now)


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/admin/people", list_people, Needs.ADMIN, "person.list", "Everybody who can sign in",
        gives=People, query=PAGE,
    ),
    Endpoint(
        "POST", "/v1/admin/people", create_person, Needs.ADMIN, "person.create",
        "Add somebody; a set-up link gives them a password",
        takes=NewPerson, gives=Person, status=201, subject=Subject(_read_person), codes=("name_in_use",),
    ),
    Endpoint(
        "GET", "/v1/admin/people/{person}", show_person, Needs.ADMIN, "person.show", "One of them",
        gives=Person, subject=PERSON, codes=("not_found",),
    ),
    Endpoint(
        "PATCH", "/v1/admin/people/{person}", edit_person, Needs.ADMIN, "person.edit",
        "Make an admin of them, or not; keep them out, or let them in again",
        takes=PersonEdit, gives=Person, subject=PERSON, codes=("not_found", "last_admin"),
    ),
    Endpoint(
        "DELETE", "/v1/admin/people/{person}", remove_person, Needs.ADMIN, "person.remove",
        "Remove somebody, with their sessions, roles and devices",
        gives=Person, subject=PERSON, codes=("not_found", "last_admin"),
    ),
    Endpoint(
        "PUT", "/v1/admin/people/{person}/roles/{on}", set_role, Needs.ADMIN, "person.role",
        "What somebody is on a network",
        takes=Role, gives=Person, subject=PERSON, codes=("not_found",),
    ),
    Endpoint(
        "POST", "/v1/admin/setup-links", create_setup_link, Needs.ADMIN, "setup_link.create",
        "A link with which somebody sets a new password, or the first admin is made",
        takes=NewSetupLink, gives=MadeSetupLink, status=201, subject=Subject(_read_link),
        codes=("not_found", "set_up"),
    ),
    Endpoint(
        "GET", "/v1/sessions", list_open_sessions, Needs.SIGNED_IN, "session.list",
        "Browsers that are signed in: mine, and for an admin everybody's",
        gives=Sessions,
    ),
    Endpoint(
        "DELETE", "/v1/sessions/{session}", close_session, Needs.SIGNED_IN, "session.revoke",
        "Sign a browser out",
        gives=Session, subject=Subject(_read_session, "session"), codes=("not_found",),
    ),
)  # fmt: skip
