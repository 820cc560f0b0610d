"""The bell between processes over one PostgreSQL: NOTIFY in the transaction of a change, LISTEN on a
connection of its own.

It only hurries: who hears nothing reads the revisions every 2 s all the same. So a bell may be lost, and one
that cannot be heard at all, as behind PgBouncer in transaction mode, is said and does no harm.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    import psycopg

    from coordinator.store.store import Store

logger = logging.getLogger(__name__)

CHANNEL: Final = "wgpy"
RETRY: Final = 1.0
HELLO_TIMEOUT: Final = 10.0
"""Seconds in which a bell rung by ourselves on another connection has to be heard."""

_IDS: Final = 200
"""Networks in one notification: PostgreSQL takes less than 8,000 octets."""


@dataclass(frozen=True, slots=True)
class Rung:
    """Networks of another process that changed, or whose presence did."""

    changed: frozenset[str] = frozenset()
    presence: frozenset[str] = frozenset()


def ring(connection: Connection, origin: str, kind: str, network_ids: Iterable[str]) -> None:
    """Heard by the others once this transaction is committed. `kind` is change, presence or hello."""
    ids = sorted(network_ids)
    for start in range(0, len(ids), _IDS):
        payload = f"{origin} {kind} {','.join(ids[start : start + _IDS])}"
        connection.execute(text("SELECT pg_notify(:channel, :payload)"), _bound(payload))


def _bound(payload: str) -> dict[str, str]:
    return {"channel": CHANNEL, "payload": payload}


class Bell:
    """Listens until cancelled, again and again. `on_ring` gets what others rang; `on_listen` is called each
    time that listening begins, for what was rung before.
    """

    def __init__(self, store: Store, on_ring: Callable[[Rung], None], on_listen: Callable[[], None]) -> None:
        self._store = store
        self._on_ring = on_ring
        self._on_listen = on_listen
        self._hello = ""
        self._greeted = anyio.Event()

    async def run(self) -> None:
        import psycopg  # noqa: PLC0415

        while True:
            connection = None
            try:
                connection = await run_sync(self._listen)
                self._on_listen()
                await self._hear(connection)
            except* (psycopg.Error, SQLAlchemyError, OSError) as errors:
                # Whatever else needs the database says more; here it costs two seconds and nothing is lost.
                logger.warning("the bell of the database is not heard: %s", _first_line(errors))
            finally:
                if connection is not None:
                    connection.close()
            await anyio.sleep(RETRY)

    def _listen(self) -> psycopg.Connection:
        import psycopg  # noqa: PLC0415

        arguments = self._store.database.driver_arguments()
        connection = psycopg.connect(**arguments, autocommit=True, keepalives_idle=30, keepalives_interval=10)
        connection.execute(f"LISTEN {CHANNEL}")
        return connection

    async def _hear(self, connection: psycopg.Connection) -> None:
        self._hello, self._greeted = os.urandom(8).hex(), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._check)
            try:
                while True:
                    await anyio.wait_readable(connection.fileno())
                    connection.pgconn.consume_input()
                    while (note := connection.pgconn.notifies()) is not None:
                        self._take(note.extra.decode("ascii", "replace"))
            finally:
                tasks.cancel_scope.cancel()

    async def _check(self) -> None:
        """Whether what is rung on one connection is heard on this one."""
        await self._store.write(ring, self._hello, "hello", ["-"])
        with anyio.move_on_after(HELLO_TIMEOUT):
            await self._greeted.wait()
            return
        logger.error(
            "what is notified on this database is not heard: is PgBouncer in transaction mode in between? "
            "Changes of other processes are seen every two seconds all the same"
        )

    def _take(self, payload: str) -> None:
        origin, _, rest = payload.partition(" ")
        kind, _, ids = rest.partition(" ")
        if origin == self._hello:
            self._greeted.set()
        elif origin != self._store.database.origin:
            found = frozenset(ids.split(","))
            if kind == "change":
                self._on_ring(Rung(changed=found))
            elif kind == "presence":
                self._on_ring(Rung(presence=found))


def _first_line(errors: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error).strip() or type(error).__name__).splitlines()[0]
