"""Browsers' sessions: a cookie of 256 random bits, of which SHA-256 is kept."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from coordinator.errors import Refusal
from coordinator.rights import ROLES, Caller, Right
from coordinator.store.people import roles_of
from coordinator.store.tables import browser_sessions, people
from wgpy.mesh.encoding import decode_b64u, encode_b64u
from wgpy.mesh.signing import BearerSecret

SESSION_AGE: Final = 7 * 86400.0
"""Seconds after which one has to sign in again."""
IDLE_AGE: Final = 86400.0
"""Seconds without a request after which a session is over."""
USED_EVERY: Final = 300.0
"""How fine its last use is kept: a write each five minutes, not each request."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as far as anyone may know it: not its cookie."""

    id: str
    person_id: str
    person: str
    address: str
    agent: str
    created_at: float
    used_at: float


def encode_cookie(secret: BearerSecret) -> str:
    return encode_b64u(bytes(secret))


def parse_cookie_untrusted(text: str) -> BearerSecret | None:
    try:
        return BearerSecret(decode_b64u(text)) if len(text) == 43 else None
    except ValueError:
        return None


def open_session(
    connection: Connection, secret: BearerSecret, person_id: str, now: float, *, address: str, agent: str
) -> None:
    connection.execute(
        insert(browser_sessions).values(
            id=secret.id,
            secret_hash=secret.hash,
            person_id=person_id,
            address=address[:45],
            agent="".join(char for char in agent if char.isprintable())[:200],
            created_at=now,
            used_at=now,
        )
    )


def _alive(now: float) -> Any:
    return and_(
        browser_sessions.c.created_at > now - SESSION_AGE, browser_sessions.c.used_at > now - IDLE_AGE
    )


def find_caller(connection: Connection, secret: BearerSecret, now: float) -> tuple[Caller, bool] | None:
    """Whose cookie this is, while the session lasts and the person is let in → and whether its last use is
    old enough to be written anew.
    """
    row = connection.execute(
        select(browser_sessions, people.c.name, people.c.is_admin)
        .join(people, people.c.id == browser_sessions.c.person_id)
        .where(browser_sessions.c.id == secret.id, _alive(now), people.c.disabled_at.is_(None))
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, secret.hash):
        return None
    held = {network: ROLES[role] for network, role in roles_of(connection, row.person_id).items()}
    everywhere = Right.ADMIN if row.is_admin else None
    caller = Caller("person", row.person_id, row.name, everywhere, held, session=row.id)
    return caller, row.used_at < now - USED_EVERY


def touch_session(connection: Connection, session_id: str, now: float) -> None:
    mine = browser_sessions.c.id == session_id
    connection.execute(update(browser_sessions).where(mine).values(used_at=now))


def list_sessions(connection: Connection, person_id: str | None, now: float) -> list[SessionRow]:
    """Those that still work, of one person or of all, newest first."""
    statement = select(browser_sessions, people.c.name).join(
        people, people.c.id == browser_sessions.c.person_id
    )
    if person_id is not None:
        statement = statement.where(browser_sessions.c.person_id == person_id)
    rows = connection.execute(statement.where(_alive(now)).order_by(browser_sessions.c.created_at.desc()))
    return [
        SessionRow(row.id, row.person_id, row.name, row.address, row.agent, row.created_at, row.used_at)
        for row in rows
    ]


def end_session(connection: Connection, session_id: str, person_id: str | None) -> SessionRow:
    """Whoever holds its cookie is signed out; with `person_id` only if it is theirs. Raises Refusal
    `not_found`.
    """
    found = [row for row in list_sessions(connection, person_id, 0.0) if row.id == session_id]
    if not found:
        raise Refusal("not_found", "there is no such session: it may have ended already")
    connection.execute(delete(browser_sessions).where(browser_sessions.c.id == session_id))
    return found[0]


def drop_old_sessions(connection: Connection, now: float) -> None:
    old = or_(
        browser_sessions.c.created_at <= now - SESSION_AGE, browser_sessions.c.used_at <= now - IDLE_AGE
    )
    connection.execute(delete(browser_sessions).where(old))
