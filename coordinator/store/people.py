"""People: those who administer, and those who bring in devices of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.store.tables import browser_sessions, meta, people, roles, setup_links

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person, without the password. `roles` are by network id."""

    id: str
    name: str
    is_admin: bool
    has_password: bool
    issuer: str | None
    created_at: float
    disabled_at: float | None
    roles: dict[str, str]


def check_name(text: str) -> str:
    """The name as it is stored. Raises Refusal `malformed`."""
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise Refusal("malformed", "a name to sign in with is 1 to 64 letters, digits and . _ @ + -")
    return name


def roles_of(connection: Connection, person_id: str) -> dict[str, str]:
    rows = connection.execute(select(roles.c.network_id, roles.c.role).where(roles.c.person_id == person_id))
    return {row.network_id: row.role for row in rows}


def _person(connection: Connection, row: Any) -> PersonRow:
    return PersonRow(
        id=row.id,
        name=row.name,
        is_admin=row.is_admin,
        has_password=row.password is not None,
        issuer=row.issuer,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        roles=roles_of(connection, row.id),
    )


def find_person(connection: Connection, wanted: str) -> PersonRow | None:
    """By id or name."""
    found = select(people).where((people.c.id == wanted) | (people.c.name == wanted.lower()))
    row = connection.execute(found.order_by(people.c.id == wanted)).first()
    return None if row is None else _person(connection, row)


def get_person(connection: Connection, wanted: str) -> PersonRow:
    """By id or name. Raises Refusal `not_found`."""
    person = find_person(connection, wanted)
    if person is None:
        raise Refusal("not_found", f"nobody here is called {wanted[:64]!r}: see the list of people")
    return person


def list_people(connection: Connection, after: str, limit: int) -> list[PersonRow]:
    rows = connection.execute(
        select(people).where(people.c.name > after).order_by(people.c.name).limit(limit)
    ).all()
    return [_person(connection, row) for row in rows]


def read_password(connection: Connection, name: str) -> tuple[str | None, str | None]:
    """The id and the stored password of who may sign in with one under this name; None for nobody."""
    row = connection.execute(
        select(people.c.id, people.c.password).where(people.c.name == name, people.c.disabled_at.is_(None))
    ).one_or_none()
    return (None, None) if row is None else (row.id, row.password)


def count_admins(connection: Connection) -> int:
    """How many people can administer the coordinator now."""
    able = select(func.count()).where(people.c.is_admin, people.c.disabled_at.is_(None))
    return int(connection.execute(able).scalar_one())


def lock_people(connection: Connection) -> None:
    """Hold this until the transaction ends, so that two of them do not each count the other's admin."""
    connection.execute(select(meta.c.id).with_for_update())


def create_person(
    connection: Connection, name: str, *, is_admin: bool, password: str | None, rng: RandomSource, now: float
) -> PersonRow:
    """`password` is hashed already. Raises Refusal `name_in_use`."""
    if find_person(connection, name) is not None:
        raise Refusal("name_in_use", f"somebody is called {name!r} already: take another name")
    values = {"id": rng.randbytes(16).hex(), "name": name, "is_admin": is_admin, "password": password}
    connection.execute(insert(people).values(**values, created_at=now))
    return get_person(connection, name)


def set_password(connection: Connection, person_id: str, password: str, keep_session: str | None) -> None:
    """And end their sessions, all but one."""
    connection.execute(update(people).where(people.c.id == person_id).values(password=password))
    mine = browser_sessions.c.person_id == person_id
    connection.execute(delete(browser_sessions).where(mine, browser_sessions.c.id != (keep_session or "")))
    connection.execute(delete(setup_links).where(setup_links.c.person_id == person_id))


def edit_person(
    connection: Connection, wanted: str, is_admin: bool | None, disabled: bool | None, now: float
) -> PersonRow:
    """None leaves as it is; who is disabled is signed out. Raises Refusal `not_found`, `last_admin`."""
    lock_people(connection)
    person = get_person(connection, wanted)
    values: dict[str, object] = {}
    if is_admin is not None:
        values["is_admin"] = is_admin
    if disabled is not None and disabled != (person.disabled_at is not None):
        values["disabled_at"] = now if disabled else None
    if values:
        connection.execute(update(people).where(people.c.id == person.id).values(**values))
    if disabled:
        connection.execute(delete(browser_sessions).where(browser_sessions.c.person_id == person.id))
    _keep_an_admin(connection, person)
    return get_person(connection, person.id)


def _keep_an_admin(connection: Connection, before: PersonRow) -> None:
    if before.is_admin and before.disabled_at is None and not count_admins(connection):
        raise Refusal("last_admin", f"{before.name} is the only admin: make another one first")


def remove_person(connection: Connection, wanted: str) -> PersonRow:
    """With their sessions and roles. Raises Refusal `not_found`, `last_admin`."""
    lock_people(connection)
    person = get_person(connection, wanted)
    for table in (browser_sessions, roles, setup_links):
        connection.execute(delete(table).where(table.c.person_id == person.id))
    connection.execute(delete(people).where(people.c.id == person.id))
    _keep_an_admin(connection, person)
    return person


def set_role(connection: Connection, wanted: str, network_id: str, role: str | None) -> PersonRow:
    """What they are on a network; None: nothing. Raises Refusal `not_found`."""
    person = get_person(connection, wanted)
    mine = (roles.c.person_id == person.id) & (roles.c.network_id == network_id)
    connection.execute(delete(roles).where(mine))
    if role is not None:
        connection.execute(insert(roles).values(person_id=person.id, network_id=network_id, role=role))
    return get_person(connection, person.id)
