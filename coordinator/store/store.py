"""The async face of the database: every query runs in a worker thread, neutral of the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import Connection

from coordinator.store.database import Database

P = ParamSpec("P")
T = TypeVar("T")


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

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        run = partial(self.database.read, query, *args, **kwargs)
        return await run_sync(self._timed, "read", run, limiter=self._readers)

    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of the change, or what it raised, with nothing of it left."""
        run = partial(self.database.write, change, *args, **kwargs)
        result, networks = await run_sync(self._timed, "write", run, limiter=self._writers)
        if networks:
            self.changed(networks)
        return result

    def _timed(self, kind: str, run: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return run()
        finally:
            self.measured(kind, time.perf_counter() - began)
