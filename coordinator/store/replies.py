"""Answers kept for a day, so that a creation that is asked for twice under one Idempotency-Key happens once.

An answer may show a new secret: it is sealed, under a key that is made from the coordinator's session key and
the client's own Idempotency-Key, of which only a hash is here.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.errors import Refusal
from coordinator.store.tables import replies

REPLY_AGE: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    sealed: bytes


def claim_reply(connection: Connection, reply_id: str, request_hash: bytes, now: float) -> Reply | None:
    """The answer that was given already; None makes the key ours, to be filled in this transaction.

    Raises Refusal `reused_key` (for another request), `busy` (the first is under way).
    """
    row = connection.execute(select(replies).where(replies.c.id == reply_id)).one_or_none()
    if row is not None and row.created_at > now - REPLY_AGE:
        if not hmac.compare_digest(row.request_hash, request_hash):
            raise Refusal(
                "reused_key", "this Idempotency-Key came with another request before: take a new one"
            )
        return Reply(row.status, row.sealed)
    connection.execute(delete(replies).where(replies.c.id == reply_id))
    values = {"id": reply_id, "request_hash": request_hash, "status": 0, "sealed": b"", "created_at": now}
    try:
        connection.execute(insert(replies).values(**values))
    except IntegrityError:
        raise Refusal("busy", "the same request is under way: ask again in a moment") from None
    return None


def fill_reply(connection: Connection, reply_id: str, reply: Reply) -> None:
    mine = replies.c.id == reply_id
    connection.execute(update(replies).where(mine).values(status=reply.status, sealed=reply.sealed))


def drop_old_replies(connection: Connection, now: float) -> None:
    connection.execute(delete(replies).where(replies.c.created_at <= now - REPLY_AGE))
