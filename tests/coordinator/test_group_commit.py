"""Writes that wait at the same moment share a transaction of SQLite, and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import trio
from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from coordinator.errors import Refusal
from coordinator.store.api_keys import add_api_key
from coordinator.store.log import Kind, record_change
from coordinator.store.store import AT_ONCE, Store
from coordinator.store.tables import api_keys, networks
from tests.coordinator.rows import Rows, secret_of


class Gate:
    """Holds the writer until it is opened, so that others gather behind it."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, _connection: Connection) -> str:
        self.reached.set()
        assert self.open.wait(30)
        return "gate"


@pytest.fixture
def commits(sqlite_rows: Rows) -> Iterator[list[None]]:
    """One for each commit."""
    found: list[None] = []
    engine = sqlite_rows.database._writer

    def count(_connection: Connection) -> None:
        found.append(None)

    event.listen(engine, "commit", count)
    yield found
    event.remove(engine, "commit", count)


def keys(rows: Rows) -> set[str]:
    return set(rows.read(lambda connection: connection.execute(select(api_keys.c.name)).scalars().all()))


async def gathered(store: Store, nursery: trio.Nursery, gate: Gate) -> None:
    nursery.start_soon(store.write, gate)
    with trio.fail_after(30):
        await trio.to_thread.run_sync(gate.reached.wait)


async def until_waiting(store: Store, count: int) -> None:
    with trio.fail_after(30):
        while len(store._waiting) < count:  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.002)


async def test_a_crowd_of_writes_costs_few_commits_and_each_has_its_own_result(
    sqlite_rows: Rows, commits: list[None]
) -> None:
    store, gate = Store(sqlite_rows.database), Gate()
    rung: list[frozenset[str]] = []
    store.changed = rung.append
    home, other = sqlite_rows.network("home").network.id, sqlite_rows.network("other").network.id
    before = len(commits)
    results: dict[int, int] = {}
    count = 2 * AT_ONCE

    async def write(number: int) -> None:
        network_id = (home, other)[number % 2]
        results[number] = await store.write(record_change, network_id, [(Kind.NETWORK, "x")], 1.0)

    async with trio.open_nursery() as nursery:
        await gathered(store, nursery, gate)
        for number in range(count):
            nursery.start_soon(write, number)
        await until_waiting(store, count)
        gate.open.set()
    assert len(commits) - before == 3
    for which in (0, 1):  # each network's revisions: one each, without holes
        got = sorted(revision for number, revision in results.items() if number % 2 == which)
        assert got == list(range(got[0], got[0] + AT_ONCE))
    assert rung == [frozenset({home, other})] * 2


async def test_one_that_fails_is_undone_alone(sqlite_rows: Rows) -> None:
    store, gate = Store(sqlite_rows.database), Gate()
    home = sqlite_rows.network("home").network.id
    rung: list[frozenset[str]] = []
    store.changed = rung.append
    raised: list[BaseException] = []

    def refuse(connection: Connection) -> None:
        add_api_key(connection, secret_of(90), "refused", 1.0)
        record_change(connection, home, [(Kind.NETWORK, "x")], 1.0)
        raise Refusal("forbidden", "no")

    def collide(connection: Connection) -> None:
        add_api_key(connection, secret_of(91), "collided", 1.0)
        row = connection.execute(select(networks)).mappings().first()
        assert row is not None
        connection.execute(insert(networks).values(**row))

    async def fail(change: object) -> None:
        with pytest.raises((Refusal, IntegrityError)) as caught:
            await store.write(change)  # type: ignore[arg-type]
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        await gathered(store, nursery, gate)
        for number in range(6):
            nursery.start_soon(store.write, add_api_key, secret_of(number), f"key {number}", 1.0)
            if number in (2, 4):
                nursery.start_soon(fail, refuse if number == 2 else collide)
        await until_waiting(store, 8)
        gate.open.set()
    assert keys(sqlite_rows) == {f"key {number}" for number in range(6)}
    assert {type(error) for error in raised} == {Refusal, IntegrityError}
    assert rung == []  # nobody hears of what was undone


@pytest.mark.parametrize("loses", ["the commit", "the transaction midway"])
async def test_when_the_transaction_is_lost_none_of_them_is_told_that_it_is_done(
    sqlite_rows: Rows, loses: str
) -> None:
    store, gate = Store(sqlite_rows.database), Gate()
    failed = 0

    def lose(connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")  # as SQLite itself does on a full disk
        raise OperationalError("", {}, Exception("database or disk is full"))

    def fail_commit(_connection: Connection) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    async def write(number: int) -> None:
        nonlocal failed
        change = lose if loses != "the commit" and number == 3 else add_api_key
        args = () if change is lose else (secret_of(number), f"key {number}", 1.0)
        try:
            await store.write(change, *args)  # type: ignore[arg-type]
        except OperationalError:
            failed += 1

    async def hold() -> None:
        with contextlib.suppress(OperationalError):
            await store.write(gate)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        with trio.fail_after(30):
            await trio.to_thread.run_sync(gate.reached.wait)
        for number in range(6):
            nursery.start_soon(write, number)
        await until_waiting(store, 6)
        if loses == "the commit":
            event.listen(sqlite_rows.database._writer, "commit", fail_commit)
        gate.open.set()
    if loses == "the commit":
        event.remove(sqlite_rows.database._writer, "commit", fail_commit)
    assert failed == 6
    assert not keys(sqlite_rows) & {f"key {number}" for number in range(6)}
    await store.write(add_api_key, secret_of(50), "later", 1.0)
    assert "later" in keys(sqlite_rows)


async def test_a_write_that_is_cancelled_before_it_began_is_not_made(sqlite_rows: Rows) -> None:
    store, gate = Store(sqlite_rows.database), Gate()
    async with trio.open_nursery() as nursery:
        await gathered(store, nursery, gate)
        async with trio.open_nursery() as inner:
            inner.start_soon(store.write, add_api_key, secret_of(1), "cancelled", 1.0)
            await until_waiting(store, 1)
            inner.cancel_scope.cancel()
        nursery.start_soon(store.write, add_api_key, secret_of(2), "kept", 1.0)
        await until_waiting(store, 1)
        gate.open.set()
    assert keys(sqlite_rows) == {"kept"}
