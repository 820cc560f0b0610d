"""Set-up links: `wgpys_` and 256 random bits, of which SHA-256 is kept. A link makes the first admin, or
gives one person a new password; it is gone with its use, in the same transaction.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.store.people import (
    PersonRow,
    count_admins,
    create_person,
    find_person,
    get_person,
    lock_people,
    set_password,
)
from coordinator.store.secret_text import SETUP_LINK, encode_secret, parse_secret_untrusted
from coordinator.store.tables import setup_links
from wgpy.mesh.signing import BearerSecret

LINK_AGE: Final = 86400.0

_SPENT: Final = (
    "this set-up link was used, is over a day old or not from here: "
    "print another with `wgpy coordinator setup-link` on the coordinator's host"
)


@dataclass(frozen=True, slots=True)
class SetupLink:
    """`person` None: it makes the first admin."""

    id: str
    person: PersonRow | None
    expires_at: float


def encode_setup_secret(secret: BearerSecret) -> str:
    return encode_secret(SETUP_LINK, secret)


def parse_setup_secret_untrusted(text: str) -> BearerSecret | None:
    return parse_secret_untrusted(SETUP_LINK, text)


def make_setup_link(
    connection: Connection, secret: BearerSecret, wanted: str | None, now: float
) -> SetupLink:
    """For the person `wanted` (name or id), whose older links end; None: for the first admin.

    Raises Refusal `not_found`, `set_up` when there are admins and none of them was named.
    """
    person = None if wanted is None else get_person(connection, wanted)
    if person is None and count_admins(connection):
        raise Refusal("set_up", "there is an admin already: name the one who shall get a new password")
    if person is not None:
        connection.execute(delete(setup_links).where(setup_links.c.person_id == person.id))
    person_id = None if person is None else person.id
    values = {"id": secret.id, "secret_hash": secret.hash, "person_id": person_id, "created_at": now}
    connection.execute(insert(setup_links).values(**values))
    return SetupLink(secret.id, person, now + LINK_AGE)


def find_setup_link(connection: Connection, secret: BearerSecret | None, now: float) -> SetupLink:
    """Raises Refusal `setup_link`: which of the reasons it is, a stranger is not told."""
    row = None
    if secret is not None:
        row = connection.execute(select(setup_links).where(setup_links.c.id == secret.id)).one_or_none()
    if row is None or secret is None or not hmac.compare_digest(row.secret_hash, secret.hash):
        raise Refusal("setup_link", _SPENT)
    person = None if row.person_id is None else find_person(connection, row.person_id)
    stale = row.person_id is None and count_admins(connection)
    if now >= row.created_at + LINK_AGE or stale or (row.person_id is not None and person is None):
        raise Refusal("setup_link", _SPENT)
    return SetupLink(row.id, person, row.created_at + LINK_AGE)


def use_setup_link(
    connection: Connection, secret: BearerSecret, now: float, *, name: str, password: str, rng: RandomSource
) -> PersonRow:
    """Make the first admin, or set the password of the link's person. Raises Refusal `setup_link`.

    `password` is hashed already. Whoever is faster has the link: its row is taken first.
    """
    lock_people(connection)
    link = find_setup_link(connection, secret, now)
    taken = delete(setup_links).where(setup_links.c.id == link.id).returning(setup_links.c.id)
    if connection.execute(taken).one_or_none() is None:
        raise Refusal("setup_link", _SPENT)
    if link.person is not None:
        set_password(connection, link.person.id, password, None)
        return get_person(connection, link.person.id)
    connection.execute(delete(setup_links).where(setup_links.c.person_id.is_(None)))
    return create_person(connection, name, is_admin=True, password=password, rng=rng, now=now)


def drop_old_links(connection: Connection, now: float) -> None:
    connection.execute(delete(setup_links).where(setup_links.c.created_at <= now - LINK_AGE))
