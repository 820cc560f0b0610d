"""The async face of the database: every query runs in a worker thread, neutral of the event loop.

Writes of SQLite that wait at the same moment share a transaction, each in a savepoint of its own: a commit is
an fsync, and a crowd that joins would else wait for one each. PostgreSQL does that by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import Connection

from coordinator.store.database import Database, Write

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE: Final = 64
"""Writes in one transaction at most."""


class Store:
    """`await store.read(query, …)` and `await store.write(change, …)`, where the first argument takes a
    connection.

    `changed` is called on the event loop with the ids of the networks that a write changed, after its commit:
    the in-process bell; `measured` in a worker thread, with read or write and its seconds. A write that has
    begun is not cancelled, so nobody is left in doubt about a commit.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.changed: Callable[[frozenset[str]], None] = lambda _networks: None
        self.measured: Callable[[str, float], None] = lambda _kind, _seconds: None
        self._readers = anyio.CapacityLimiter(database.readers)
        self._writers = anyio.CapacityLimiter(database.writers)
        self._waiting: list[Write[Any]] = []
        self._turn = anyio.Lock()

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        run = partial(self.database.read, query, *args, **kwargs)
        return await run_sync(self._timed, "read", run, limiter=self._readers)

    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of the change, or what it raised, with nothing of it left."""
        mine = Write(lambda connection: change(connection, *args, **kwargs))
        if not self.database.is_sqlite:
            await self._write([mine])
            return mine.result()
        self._waiting.append(mine)
        try:
            async with self._turn:
                if not mine.is_done:  # the first of those that wait writes for all of them
                    batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                    await self._write(batch)
        finally:
            if mine in self._waiting:  # cancelled before it began
                self._waiting.remove(mine)
        return mine.result()

    async def _write(self, batch: list[Write[Any]]) -> None:
        with anyio.CancelScope(shield=True):
            run = partial(self.database.write_all, batch)
            networks = await run_sync(self._timed, "write", run, limiter=self._writers)
        if networks:
            self.changed(networks)

    def _timed(self, kind: str, run: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return run()
        finally:
            self.measured(kind, time.perf_counter() - began)
