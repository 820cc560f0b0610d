"""Names of nodes, unique in their network: those that nodes have, and those that tokens keep for theirs.

A token with a fixed name keeps it while it can admit somebody, and while a join that spent it waits.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from coordinator.errors import Refusal
from coordinator.names import MAX_LABEL, make_label, unique_label
from coordinator.store.joins import IS_WAITING
from coordinator.store.tables import joins, nodes, tokens

_ENDING: Final = 8
"""Characters that a number behind a name may take of a long one: `unique_label` cuts it by less."""


def _of_nodes(network_id: str, node_id: str) -> ColumnElement[bool]:
    return (nodes.c.network_id == network_id) & (nodes.c.id != node_id)


def _kept(network_id: str, token_id: str, now: float) -> ColumnElement[bool]:
    """Tokens of the network, but for this one, whose name is not to be given away."""
    usable = tokens.c.revoked_at.is_(None) & (tokens.c.expires_at > now)
    unspent = tokens.c.uses < tokens.c.uses_allowed
    waits = exists().where(joins.c.token_id == tokens.c.id, joins.c.expires_at > now, IS_WAITING)
    mine = (tokens.c.network_id == network_id) & (tokens.c.id != token_id)
    return mine & tokens.c.node_name.is_not(None) & or_(usable & unspent, waits)


def check_name_free(
    connection: Connection, network_id: str, name: str, now: float, *, token_id: str = "", node_id: str = ""
) -> None:
    """For the node of this token, or this node. Raises Refusal `name_in_use`, which says who has it."""
    has = _of_nodes(network_id, node_id) & (nodes.c.name == name)
    if connection.execute(select(nodes.c.id).where(has)).first() is not None:
        raise Refusal("name_in_use", f"another node of this network is called {name!r}")
    keeps = _kept(network_id, token_id, now) & (tokens.c.node_name == name)
    holder = connection.execute(select(tokens.c.id).where(keeps)).scalar()
    if holder is not None:
        raise Refusal(
            "name_in_use", f"token {holder} keeps the name {name!r} for its node: revoke it, or take another"
        )


def find_free_name(
    connection: Connection, network_id: str, wish: str, now: float, *, token_id: str = "", node_id: str = ""
) -> str:
    """The label nearest to the wish that no other node has and no other token keeps."""
    stem = make_label(wish)[: MAX_LABEL - _ENDING]
    taken: set[Any] = set()
    for column, whose in (
        (nodes.c.name, _of_nodes(network_id, node_id)),
        (tokens.c.node_name, _kept(network_id, token_id, now)),
    ):
        near = column.startswith(stem, autoescape=True)
        taken.update(connection.execute(select(column).where(whose, near)).scalars())
    return unique_label(wish, taken)
