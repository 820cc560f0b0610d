"""Join tokens: 256 random bits of which SHA-256 is kept, with a number of uses and an end."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from coordinator.errors import Refusal
from coordinator.names import check_node_name, make_tags
from coordinator.store.claims import keep_addresses, let_go
from coordinator.store.log import lock_network, note
from coordinator.store.node_names import check_name_free
from coordinator.store.prepared import Prepared
from coordinator.store.tables import tokens
from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.mesh.signing import BearerSecret

MAX_USES: Final = 1_000_000
MAX_AGE: Final = 10 * 366 * 86400.0


MIN_EPHEMERAL: Final = 60
MAX_EPHEMERAL: Final = 366 * 86400


def check_ephemeral(seconds: int | None) -> None:
    """Raises ConfigError."""
    if seconds is not None and not MIN_EPHEMERAL <= seconds <= MAX_EPHEMERAL:
        raise ConfigError(f"an ephemeral node is removed after a minute to a year offline; got {seconds} s")


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """How many nodes a token admits (0: no limit), for how many seconds, and what they are.

    `node_name` and `node_addresses` are fixed for the one node of a token with one use. `ephemeral_after`:
    its nodes are removed after that many seconds offline. `approval` None: as the network says.
    """

    uses: int = 1
    expires_in: float = 86400.0
    tags: tuple[str, ...] = ()
    node_name: str | None = None
    node_addresses: tuple[IPAddress, ...] = ()
    ephemeral_after: int | None = None
    approval: bool | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.uses <= MAX_USES:
            raise ConfigError(f"a token admits 1 to {MAX_USES} nodes, or 0 for no limit; got {self.uses}")
        if not 1 <= self.expires_in <= MAX_AGE:
            raise ConfigError(f"a token lives from a second to ten years; got {self.expires_in:g} s")
        make_tags(self.tags)
        check_ephemeral(self.ephemeral_after)
        if self.node_name is not None:
            check_node_name(self.node_name)
        if (self.node_name is not None or self.node_addresses) and self.uses != 1:
            raise ConfigError(
                f"a fixed name or address is one node's: such a token has one use; got {self.uses}"
            )


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
    tags: tuple[str, ...] = ()
    node_name: str | None = None
    node_addresses: tuple[str, ...] = ()
    ephemeral_after: int | None = None
    approval: bool | None = None

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
    tokens.c.tags,
    tokens.c.node_name,
    tokens.c.node_addresses,
    tokens.c.ephemeral_after,
    tokens.c.approval,
)


def _token_row(row: Any) -> TokenRow:
    values = row._asdict()
    values.pop("secret_hash", None)
    tags, fixed = tuple(values.pop("tags") or ()), tuple(values.pop("node_addresses") or ())
    return TokenRow(**values, tags=tags, node_addresses=fixed)


def create_token(
    connection: Connection, network_id: str, secret: BearerSecret, terms: TokenTerms, now: float
) -> TokenRow:
    """Raises ConfigError for addresses that no node of it has, Refusal `name_in_use`, `address_in_use`."""
    lock_network(connection, network_id)
    expires_at = now + terms.expires_in
    if terms.node_name is not None:
        check_name_free(connection, network_id, terms.node_name, now)
    connection.execute(
        insert(tokens).values(
            id=secret.id,
            network_id=network_id,
            secret_hash=secret.hash,
            uses_allowed=terms.uses,
            uses=0,
            created_at=now,
            expires_at=expires_at,
            tags=list(make_tags(terms.tags)) or None,
            node_name=terms.node_name,
            node_addresses=[str(address) for address in terms.node_addresses] or None,
            ephemeral_after=terms.ephemeral_after,
            approval=terms.approval,
        )
    )
    keep_addresses(connection, network_id, terms.node_addresses, secret.id, expires_at)
    note(connection, network_id)
    row = read_token(connection, network_id, secret.id)
    assert row is not None
    return row


def list_tokens(connection: Connection, network_id: str) -> list[TokenRow]:
    statement = (
        select(*_COLUMNS).where(tokens.c.network_id == network_id).order_by(tokens.c.created_at, tokens.c.id)
    )
    return [_token_row(row) for row in connection.execute(statement)]


_IS_IT: Final = tokens.c.id == bindparam("token")
_OPENED: Final = Prepared(select(*_COLUMNS, tokens.c.secret_hash).where(_IS_IT))
_SPEND: Final = Prepared(update(tokens).where(_IS_IT).values(uses=tokens.c.uses + 1))


def find_token(connection: Connection, secret: BearerSecret) -> TokenRow | None:
    """The token of which this is the secret."""
    row = _OPENED.first(connection, token=secret.id)
    if row is None or not hmac.compare_digest(row.secret_hash, secret.hash):
        return None
    return _token_row(row)


def _is(network_id: str, token_id: str) -> ColumnElement[bool]:
    return (tokens.c.id == token_id) & (tokens.c.network_id == network_id)


def read_token(connection: Connection, network_id: str, token_id: str) -> TokenRow | None:
    """A token of this network by its id."""
    row = connection.execute(select(*_COLUMNS).where(_is(network_id, token_id))).one_or_none()
    return None if row is None else _token_row(row)


def revoke_token(connection: Connection, network_id: str, token_id: str, now: float) -> TokenRow:
    """It admits nobody any more; who came by it stays. Raises Refusal `not_found`."""
    lock_network(connection, network_id)
    connection.execute(
        update(tokens).where(_is(network_id, token_id), tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    row = read_token(connection, network_id, token_id)
    if row is None:
        raise Refusal("not_found", f"no token of this network has the id {token_id[:32]!r}: see `token list`")
    let_go(connection, token_id)
    note(connection, network_id)
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
    _SPEND.run(connection, token=token.id)
