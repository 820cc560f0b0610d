"""Several processes over one PostgreSQL: the bell between them, and work that one does for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from sqlalchemy import Connection, text

from coordinator import hub as hub_module
from coordinator.hub import Hub
from coordinator.store import bell as bell_module
from coordinator.store import nodes
from coordinator.store.bell import Bell, Rung
from coordinator.store.database import Database
from coordinator.store.housekeeping import tidy
from coordinator.store.jobs import Job, take_job
from coordinator.store.log import LOG_AGE, Kind, record_change
from coordinator.store.store import Store
from tests.coordinator.asgi import wait_until
from tests.coordinator.hosts import Host
from tests.coordinator.rows import EPOCH, Rows
from tests.coordinator.test_hub import IDENTITY, bearer, change, open_stream, said

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard here is heard by the bell alone."""
    monkeypatch.setattr(hub_module, "POLL_INTERVAL", 3600.0)


@pytest.fixture
def elsewhere(postgres_database: Database) -> Iterator[Database]:
    """The same database, as another process opens it."""
    database = Database(postgres_database.url)
    yield database
    database.close()


@asynccontextmanager
async def two_hubs(rows: Rows, elsewhere: Database) -> AsyncIterator[tuple[Hub, Hub]]:
    async with trio.open_nursery() as nursery:
        hubs = []
        for process, database in (("here", rows.database), ("there", elsewhere)):
            hub = Hub(Store(database), IDENTITY, EPOCH, process, lambda: rows.now)
            await nursery.start(lambda task_status, hub=hub: hub.run(task_status=task_status))
            hubs.append(hub)
        await wait_until(lambda: listeners(rows) == 2)
        yield hubs[0], hubs[1]
        nursery.cancel_scope.cancel()


def listeners(rows: Rows) -> int:
    """Connections whose last word was LISTEN."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    count: int = rows.read(lambda connection: connection.execute(text(asked)).scalar_one())
    return count


@pytest.fixture
def postgres_rows(postgres_database: Database) -> Rows:
    return Rows(postgres_database)


async def test_a_change_and_presence_of_one_process_are_heard_on_another_at_once(
    postgres_rows: Rows, elsewhere: Database
) -> None:
    rows = postgres_rows
    network = rows.network()
    host, late = rows.member(network, 1), Host(2)
    rows.join(late, rows.token(network))
    assert late.membership is not None
    async with two_hubs(rows, elsewhere) as (here, there), trio.open_nursery() as nursery:
        stream = await open_stream(nursery, there, host)
        await change(here, nodes.put_record, late.record(late.membership), rows.now)
        await wait_until(lambda: stream.follower.peer_names() == {"host-2"})
        await here.check_in(bearer(late), None, said(rows, 1, "192.0.2.9:1"))
        await wait_until(lambda: late.id in stream.follower.presence)
        assert stream.follower.presence[late.id].online
        await here.check_in(bearer(late), None, said(rows, 2, "192.0.2.9:2"))
        await wait_until(lambda: str(stream.follower.presence[late.id].endpoints[0]) == "192.0.2.9:2")
        await change(here, nodes.remove_node, network.network.id, host.id, rows.now)
        await wait_until(lambda: stream.ended)
        assert stream.follower.removed is not None
        nursery.cancel_scope.cancel()


async def test_a_change_that_is_undone_rings_nobody(postgres_rows: Rows, elsewhere: Database) -> None:
    rows = postgres_rows
    network = rows.network()
    rung: list[Rung] = []
    store = Store(elsewhere)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(store, rung.append, lambda: None).run)
        await wait_until(lambda: listeners(rows) == 1)

        def fail(connection: Connection) -> None:
            record_change(connection, network.network.id, [(Kind.NETWORK, "x")], rows.now)
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011 - our own
            rows.write(fail)
        rows.write(record_change, network.network.id, [(Kind.NETWORK, "y")], rows.now)
        await wait_until(lambda: bool(rung))
        assert rung == [Rung(changed=frozenset({network.network.id}))]
        await store.write(record_change, network.network.id, [(Kind.NETWORK, "z")], rows.now)  # our own
        rows.write(record_change, network.network.id, [(Kind.NETWORK, "y")], rows.now)
        await wait_until(lambda: len(rung) > 1)
        assert len(rung) == 2
        nursery.cancel_scope.cancel()


async def test_a_bell_whose_connection_broke_listens_again_and_asks_what_it_missed(
    postgres_rows: Rows, elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    rows = postgres_rows
    network = rows.network()
    host = rows.member(network, 1)
    async with two_hubs(rows, elsewhere) as (_here, there), trio.open_nursery() as nursery:
        stream = await open_stream(nursery, there, host)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        rows.write(lambda connection: connection.execute(text(kill)))
        await trio.to_thread.run_sync(rows.member, network, 2)  # while nobody listens
        await wait_until(lambda: stream.follower.peer_names() == {"host-2"})
        assert not stream.follower.refused
        nursery.cancel_scope.cancel()
    assert "the bell of the database is not heard" in caplog.text


async def test_a_bell_that_cannot_be_heard_is_said(
    postgres_rows: Rows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind PgBouncer in transaction mode, where LISTEN is another connection's."""
    monkeypatch.setattr(bell_module, "HELLO_TIMEOUT", 0.1)
    monkeypatch.setattr(bell_module, "CHANNEL", "elsewhere")
    real = bell_module.Bell._listen

    def listen(self: Bell) -> object:
        connection = real(self)
        connection.execute("UNLISTEN *")
        return connection

    monkeypatch.setattr(bell_module.Bell, "_listen", listen)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(Store(postgres_rows.database), lambda _: None, lambda: None).run)
        await wait_until(lambda: "PgBouncer" in caplog.text)
        nursery.cancel_scope.cancel()


def test_a_job_is_done_by_one_process_at_a_time(postgres_rows: Rows, elsewhere: Database) -> None:
    rows = postgres_rows
    network = rows.network()
    rows.member(network, 1)
    later = rows.now + LOG_AGE + 1

    def while_another_does_it(connection: Connection) -> int:
        assert take_job(connection, Job.TIDY)
        return elsewhere.write(tidy, later)[0]

    assert rows.write(while_another_does_it) == 0
    assert elsewhere.write(tidy, later)[0] > 0
