"""Names of nodes, unique in their network: those that nodes have, and those that tokens keep for theirs.

A token with a fixed name keeps it while it can admit somebody, and while a join that spent it waits.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Double, bindparam, exists, or_, select

from coordinator.errors import Refusal
from coordinator.names import MAX_LABEL, check_node_name, make_label, unique_label
from coordinator.store.joins import IS_WAITING
from coordinator.store.prepared import Prepared
from coordinator.store.tables import joins, nodes, tokens

_ENDING: Final = 8
"""Characters that a number behind a name may take of a long one: `unique_label` cuts it by less."""

_NOW: Final = bindparam("now", type_=Double)
_USABLE: Final = (
    tokens.c.revoked_at.is_(None) & (tokens.c.expires_at > _NOW) & (tokens.c.uses < tokens.c.uses_allowed)
)
_WAITS: Final = exists().where(joins.c.token_id == tokens.c.id, joins.c.expires_at > _NOW, IS_WAITING)

_OF_NODES: Final = select(nodes.c.id, nodes.c.name).where(
    nodes.c.network_id == bindparam("network"), nodes.c.id != bindparam("node")
)
_OF_TOKENS: Final = select(tokens.c.id, tokens.c.node_name).where(
    tokens.c.network_id == bindparam("network"), tokens.c.id != bindparam("token"), or_(_USABLE, _WAITS)
)
"""Tokens whose name is not to be given away."""

_NODES_CALLED: Final = Prepared(_OF_NODES.where(nodes.c.name == bindparam("name")))
_NODES_LIKE: Final = Prepared(_OF_NODES.where(nodes.c.name.like(bindparam("pattern"))))
_TOKENS_CALLED: Final = Prepared(_OF_TOKENS.where(tokens.c.node_name == bindparam("name")))
_TOKENS_LIKE: Final = Prepared(_OF_TOKENS.where(tokens.c.node_name.like(bindparam("pattern"))))
"""A label has no character that LIKE takes for another."""


def check_name_free(
    connection: Connection, network_id: str, name: str, now: float, *, token_id: str = "", node_id: str = ""
) -> None:
    """For the node of this token, or this node. Raises ConfigError, Refusal `name_in_use`, which says who has
    it.
    """
    check_node_name(name)
    if _NODES_CALLED.first(connection, network=network_id, node=node_id, name=name) is not None:
        raise Refusal("name_in_use", f"another node of this network is called {name!r}")
    holder = _TOKENS_CALLED.scalar(connection, network=network_id, token=token_id, now=now, name=name)
    if holder is not None:
        raise Refusal(
            "name_in_use", f"token {holder} keeps the name {name!r} for its node: revoke it, or take another"
        )


def find_free_name(
    connection: Connection, network_id: str, wish: str, now: float, *, token_id: str = "", node_id: str = ""
) -> str:
    """The label nearest to the wish that no other node has and no other token keeps."""
    label = make_label(wish)
    of_nodes = {"network": network_id, "node": node_id}
    of_tokens = {"network": network_id, "token": token_id, "now": now}
    if (
        _NODES_CALLED.first(connection, name=label, **of_nodes) is None
        and _TOKENS_CALLED.first(connection, name=label, **of_tokens) is None
    ):
        return label  # as nearly always: then not all that are called alike are read
    pattern = label[: MAX_LABEL - _ENDING] + "%"
    others = _NODES_LIKE.all(connection, pattern=pattern, **of_nodes)
    keepers = _TOKENS_LIKE.all(connection, pattern=pattern, **of_tokens)
    return unique_label(wish, {name for _, name in (*others, *keepers)})
