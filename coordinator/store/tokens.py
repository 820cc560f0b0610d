"""Join tokens: 256 random bits of which SHA-256 is kept, with a number of uses and an end."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, insert, select, update

from coordinator.errors import Refusal
from coordinator.store.tables import tokens
from wgpy.errors import ConfigError
from wgpy.mesh.signing import BearerSecret

MAX_USES: Final = 1_000_000
MAX_AGE: Final = 10 * 366 * 86400.0


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """How many nodes a token admits (0: no limit) and for how many seconds."""

    uses: int = 1
    expires_in: float = 86400.0

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.uses <= MAX_USES:
            raise ConfigError(f"a token admits 1 to {MAX_USES} nodes, or 0 for no limit; got {self.uses}")
        if not 1 <= self.expires_in <= MAX_AGE:
            raise ConfigError(f"a token lives from a second to ten years; got {self.expires_in:g} s")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as far as anyone may know it: not its secret."""

    id: str
    network_id: str
    uses_allowed: int
    uses: int
    created_at: float
    expires_at: float
    revoked_at: float | None

    def state(self, now: float) -> str:
        """usable, revoked, expired or used."""
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "used" if self.uses_allowed and self.uses >= self.uses_allowed else "usable"


_COLUMNS = (
    tokens.c.id,
    tokens.c.network_id,
    tokens.c.uses_allowed,
    tokens.c.uses,
    tokens.c.created_at,
    tokens.c.expires_at,
    tokens.c.revoked_at,
)


def create_token(
    connection: Connection, network_id: str, secret: BearerSecret, terms: TokenTerms, now: float
) -> TokenRow:
    row = TokenRow(secret.id, network_id, terms.uses, 0, now, now + terms.expires_in, None)
    connection.execute(
        insert(tokens).values(
            id=row.id,
            network_id=network_id,
            secret_hash=secret.hash,
            uses_allowed=terms.uses,
            uses=0,
            created_at=now,
            expires_at=row.expires_at,
        )
    )
    return row


def list_tokens(connection: Connection, network_id: str) -> list[TokenRow]:
    statement = (
        select(*_COLUMNS).where(tokens.c.network_id == network_id).order_by(tokens.c.created_at, tokens.c.id)
    )
    return [TokenRow(*row) for row in connection.execute(statement)]


def find_token(connection: Connection, secret: BearerSecret) -> TokenRow | None:
    """The token of which this is the secret."""
    statement = select(*_COLUMNS, tokens.c.secret_hash).where(tokens.c.id == secret.id)
    row = connection.execute(statement).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, secret.hash):
        return None
    return TokenRow(*row[:-1])


def _is(network_id: str, token_id: str) -> ColumnElement[bool]:
    return (tokens.c.id == token_id) & (tokens.c.network_id == network_id)


def read_token(connection: Connection, network_id: str, token_id: str) -> TokenRow | None:
    """A token of this network by its id."""
    row = connection.execute(select(*_COLUMNS).where(_is(network_id, token_id))).one_or_none()
    return None if row is None else TokenRow(*row)


def revoke_token(connection: Connection, network_id: str, token_id: str, now: float) -> TokenRow:
    """It admits nobody any more; who came by it stays. Raises Refusal `not_found`."""
    connection.execute(
        update(tokens).where(_is(network_id, token_id), tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    row = read_token(connection, network_id, token_id)
    if row is None:
        raise Refusal("not_found", f"no token of this network has the id {token_id[:32]!r}: see `token list`")
    return row


def spend_token(connection: Connection, token: TokenRow, now: float) -> None:
    """Count one use, in the transaction of the join. Raises Refusal that says why it admits nobody."""
    match token.state(now):
        case "revoked":
            raise Refusal("token_revoked", "this token was revoked: ask the network's admin for another")
        case "expired":
            raise Refusal("token_expired", "this token has expired: ask the network's admin for another")
        case "used":
            raise Refusal("token_used", "this token has been used up: ask the network's admin for another")
    connection.execute(update(tokens).where(tokens.c.id == token.id).values(uses=tokens.c.uses + 1))
