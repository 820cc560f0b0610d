"""OpenID providers, and the people whom they vouch for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.oidc import Claims
from coordinator.store.people import PersonRow, check_name, create_person, find_person, get_person, set_role
from coordinator.store.tables import networks, people, providers

ADMITS: Final = ("known", "everyone")


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """A provider. `sealed_secret` opens with a key that is not in the database; `roles` are by network id."""

    name: str
    label: str
    issuer: str
    client_id: str
    sealed_secret: bytes | None
    admits: str
    roles: Mapping[str, str]
    created_at: float


_COLUMNS: Final = (
    providers.c.name,
    providers.c.label,
    providers.c.issuer,
    providers.c.client_id,
    providers.c.sealed_secret,
    providers.c.admits,
    providers.c.roles,
    providers.c.created_at,
)


def list_providers(connection: Connection) -> list[ProviderRow]:
    return [ProviderRow(*row) for row in connection.execute(select(*_COLUMNS).order_by(providers.c.name))]


def find_provider(connection: Connection, name: str) -> ProviderRow | None:
    row = connection.execute(select(*_COLUMNS).where(providers.c.name == name)).one_or_none()
    return None if row is None else ProviderRow(*row)


def get_provider(connection: Connection, name: str) -> ProviderRow:
    """Raises Refusal `not_found`."""
    found = find_provider(connection, name)
    if found is None:
        raise Refusal("not_found", f"no provider here is called {name[:63]!r}: see the list of providers")
    return found


def put_provider(connection: Connection, row: ProviderRow, *, keep_secret: bool) -> ProviderRow:
    """Set one up, or change it. Raises Refusal `name_in_use` for an issuer that another one has."""
    other = connection.execute(
        select(providers.c.name).where(providers.c.issuer == row.issuer, providers.c.name != row.name)
    ).scalar_one_or_none()
    if other is not None:
        raise Refusal("name_in_use", f"this issuer is set up already, as {other}: change that one")
    values: dict[str, Any] = {
        "label": row.label,
        "issuer": row.issuer,
        "client_id": row.client_id,
        "admits": row.admits,
        "roles": dict(row.roles),
    }
    if not keep_secret:
        values["sealed_secret"] = row.sealed_secret
    if find_provider(connection, row.name) is None:
        values |= {"name": row.name, "created_at": row.created_at}
        connection.execute(insert(providers).values(**values))
    else:
        connection.execute(update(providers).where(providers.c.name == row.name).values(**values))
    return get_provider(connection, row.name)


def remove_provider(connection: Connection, name: str) -> ProviderRow:
    """Whom it vouched for cannot come in by it any more. Raises Refusal `not_found`."""
    found = get_provider(connection, name)
    connection.execute(delete(providers).where(providers.c.name == name))
    return found


def _find_vouched(connection: Connection, issuer: str, subject: str) -> str | None:
    same = (people.c.issuer == issuer) & (people.c.subject == subject)
    return connection.execute(select(people.c.id).where(same)).scalar_one_or_none()


def connect_person(connection: Connection, person_id: str, issuer: str, subject: str) -> PersonRow:
    """From now on this one comes in by the provider too. Raises Refusal `taken`, `not_found`."""
    known = _find_vouched(connection, issuer, subject)
    if known not in (None, person_id):
        raise Refusal("taken", "this account of the provider belongs to somebody else here")
    person = get_person(connection, person_id)
    connection.execute(update(people).where(people.c.id == person.id).values(issuer=issuer, subject=subject))
    return get_person(connection, person.id)


def admit_person(
    connection: Connection, provider: ProviderRow, claims: Claims, rng: RandomSource, now: float
) -> PersonRow:
    """Whom the provider's word stands for: somebody who came before, somebody whom an admin added under the
    e-mail address that the provider has checked, or, if it admits everyone, somebody new.

    An account with a password is never taken over by a name: its owner connects it, signed in. Raises Refusal
    `not_admitted`, `kept_out`.
    """
    known = _find_vouched(connection, provider.issuer, claims.subject)
    if known is not None:
        person = get_person(connection, known)
        if person.disabled_at is not None:
            raise Refusal("kept_out", "an admin of this coordinator keeps this account out")
        return person
    added = None if claims.email is None else find_person(connection, claims.email)
    if added is not None and added.issuer is None and not added.has_password:
        if added.disabled_at is not None:
            raise Refusal("kept_out", "an admin of this coordinator keeps this account out")
        return connect_person(connection, added.id, provider.issuer, claims.subject)
    if provider.admits != "everyone":
        raise Refusal(
            "not_admitted", "nobody here is known by this account: ask an admin to add its e-mail address"
        )
    name = _free_name(connection, claims)
    person = create_person(connection, name, is_admin=False, password=None, rng=rng, now=now)
    for network_id, role in provider.roles.items():
        if connection.execute(select(networks.c.id).where(networks.c.id == network_id)).first() is not None:
            set_role(connection, person.id, network_id, role)
    return connect_person(connection, person.id, provider.issuer, claims.subject)


def _free_name(connection: Connection, claims: Claims) -> str:
    """A name to be listed by: e-mail address, what the provider calls them, or their subject."""
    for wish in (claims.email, claims.username, f"user-{claims.subject}"):
        try:
            name = check_name("".join(char for char in wish or "" if char.isalnum() or char in "._@+-")[:60])
        except Refusal:
            continue
        for number in range(1, 1000):
            candidate = name if number == 1 else f"{name[:60]}-{number}"
            if find_person(connection, candidate) is None:
                return candidate
    raise Refusal("not_admitted", "the provider gives no name that could be used here")
