"""kill -9 at random moments, and a disk without room: what was acknowledged stays, nothing happens twice."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.client import open_client
from coordinator.state_dir import StateDir
from coordinator.store.database import Database, parse_database_url
from coordinator.store.tables import addresses, api_keys, change_log, networks, nodes, tokens
from tests.coordinator.postgres import PostgresServer
from tests.coordinator.process import Connection, Coordinator, RemoteHost, wait_until
from wgpy.errors import CoordinatorError
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Membership

AWAY = (OSError, http.client.HTTPException, EOFError, ConnectionError)


class Hurdle(Exception):
    """It cannot answer at this moment: ask again."""


class Stubborn(RemoteHost):
    """Joins in spite of everything, as an agent does: each step again until it is acknowledged."""

    def join(self) -> Membership:
        until_done(self._join)
        until_done(self._sign)
        assert self.membership is not None
        return self.membership

    def _join(self) -> None:
        with Connection(self.url) as connection:
            asked = self.join_request(
                self.token.secret, connection.challenge(), self.token.identity_hash, connection.leaf_hash
            )
            answer = accepted(connection.call("POST", "/v1/join", asked.to_json()))
            membership = Membership.from_json(answer)
            if self.membership is not None:
                assert membership == self.membership, "the same join gave another node"
            self.membership = membership

    def _sign(self) -> None:
        with Connection(self.url) as connection:
            self.open_session(connection)
            assert self.membership is not None
            accepted(
                connection.call("PUT", "/v1/node/record", self.record(self.membership).to_json(), self.bearer)
            )

    def open_session(self, connection: Connection) -> None:
        assert self.membership is not None
        asked = self.session_request(
            self.membership, connection.challenge(), self.token.identity_hash, connection.leaf_hash
        )
        self.bearer = accepted(connection.call("POST", "/v1/session", asked.to_json()))["bearer"]


def accepted(answer: tuple[int, Any]) -> Any:
    status, body = answer
    if status in (429, 503, 507):
        raise Hurdle(body)
    assert status in (200, 201), body
    return body


def until_done(step: Callable[[], None], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return step()
        except (*AWAY, Hurdle, ValueError):  # ValueError: half an answer
            assert time.monotonic() < deadline, "it did not come back"
            time.sleep(0.05)


@dataclass
class Work:
    """What many hosts and an admin do meanwhile, and what was acknowledged to them."""

    coordinator: Coordinator
    token: Token
    hosts: int
    edits: int
    joined: dict[int, Membership] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def run(self, threads: int = 6) -> list[threading.Thread]:
        numbers = iter(range(self.hosts))
        lock = threading.Lock()

        def join() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self.joined[number] = Stubborn(1000 + number, self.token).join()

        workers = [threading.Thread(target=self._guard, args=(join,)) for _ in range(threads)]
        workers.append(threading.Thread(target=self._guard, args=(self._edit,)))
        for worker in workers:
            worker.start()
        return workers

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)
            raise

    def _edit(self) -> None:
        key = json.loads((self.coordinator.state_dir / "admin.json").read_text())["key"]
        for number in range(self.edits):
            name = f"edit {number}"

            def make(name: str = name) -> None:
                with Connection(self.coordinator.url) as connection:
                    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
                    connection.http.request("POST", "/v1/admin/keys", json.dumps({"name": name}), headers)
                    response = connection.http.getresponse()
                    accepted((response.status, json.loads(response.read())))

            until_done(make)
            self.made.append(name)


def hold_to_it(database: Database, work: Work) -> None:
    """Everything acknowledged is there, once; revisions have no holes."""

    def check(connection: Any) -> None:
        rows = {row.id: row for row in connection.execute(select(nodes))}
        for membership in work.joined.values():
            row = rows[membership.node]
            assert (row.name, row.record is not None) == (membership.name, True)
            assert sorted(row.addresses) == sorted(str(address) for address in membership.addresses)
        given = Counter(address for row in rows.values() for address in row.addresses)
        assert not [address for address, count in given.items() if count > 1], "an address was given twice"
        assert len(rows) == work.hosts + 1  # and the one that watches
        claimed = connection.execute(
            select(func.count()).select_from(addresses).where(addresses.c.node_id.is_not(None))
        ).scalar_one()
        assert claimed == sum(given.values())
        assert connection.execute(select(func.sum(tokens.c.uses))).scalar_one() == len(rows)
        kept = Counter(connection.execute(select(api_keys.c.name)).scalars())
        assert {name: kept[name] for name in work.made} == dict.fromkeys(work.made, 1)
        revision = connection.execute(select(networks.c.revision)).scalar_one()
        logged = set(connection.execute(select(change_log.c.revision)).scalars())
        assert logged == set(range(1, revision + 1)) or logged == set(range(2, revision + 1))
        if database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"

    database.read(check)


class Watching(threading.Thread):
    """A node that follows its stream through all of it, resuming from where it stands."""

    def __init__(self, host: Stubborn) -> None:
        super().__init__(daemon=True)
        self.host = host
        self.stopping = False
        self.streams = 0

    def run(self) -> None:
        while not self.stopping:
            with contextlib.suppress(*AWAY, Hurdle, AssertionError, ValueError):
                with Connection(self.host.url) as connection:
                    self.host.open_session(connection)
                self.host.watch()
                self.streams += 1
                self.host.stream_ended.wait()
            time.sleep(0.05)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that may be killed: it keeps what it acknowledges."""
    with tempfile.TemporaryDirectory(prefix="wgpy-postgres-") as folder:
        server = PostgresServer(folder)
        server.start()
        yield server
        server.stop()


@dataclass
class Stored:
    """Where a coordinator keeps its rows; `postgres` None: SQLite."""

    url: str
    postgres: PostgresServer | None = None

    @property
    def options(self) -> tuple[str, ...]:
        return () if self.postgres is None else ("--database", self.url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.root)])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    if request.param == "sqlite":
        return Stored(f"sqlite:///{tmp_path}/state/coordinator.db")
    postgres: PostgresServer = request.getfixturevalue("own_postgres")
    return Stored(postgres.create("wgpy"), postgres)


SIZES = [pytest.param(40, 4, marks=pytest.mark.slow), pytest.param(1000, 60, marks=pytest.mark.soak)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("hosts", "kills"), SIZES)
def test_killed_at_random_moments_it_loses_nothing_that_it_acknowledged(
    tmp_path: Path, free_port: int, stored: Stored, hosts: int, kills: int
) -> None:
    coordinator = Coordinator(tmp_path / "state", free_port, *stored.options)
    coordinator.start()
    rng = random.Random(hosts)
    try:
        coordinator.run("network", "create", "home", "--cidr", "10.77.0.0/16")
        token = coordinator.token("home", "--uses", "0")
        watching = Watching(Stubborn(1, token))
        watching.host.join()
        watching.start()
        wait_until(lambda: watching.streams > 0, "the first stream", 60)
        work = Work(coordinator, token, hosts, edits=hosts // 2)
        workers = work.run()
        for turn in itertools.count():
            if turn >= kills and not any(worker.is_alive() for worker in workers):
                break
            if turn < kills:
                time.sleep(rng.uniform(0.1, 1.0))
                if stored.postgres is not None and turn % 2:
                    stored.postgres.kill()  # under the coordinator, which goes on
                    time.sleep(rng.uniform(0.0, 0.3))
                    stored.postgres.start()
                else:
                    coordinator.stop(signal.SIGKILL)
                    coordinator.start()
            else:
                for worker in workers:
                    worker.join(0.2)
        assert work.failures == []
        names = {f"host-{1000 + number}" for number in range(hosts)}
        follower = watching.host.follower
        wait_until(lambda: follower.held is not None and follower.peer_names() == names, "the map", 60)
        assert watching.streams > 1
        assert not follower.refused, "a frame did not fit"
        watching.stopping = True
        coordinator.stop()
        watching.join(30)
        assert not watching.is_alive()
        with contextlib.closing(Database(parse_database_url(stored.url))) as database:
            hold_to_it(database, work)
    finally:
        coordinator.stop()


def scalar(connection: Any, statement: str) -> object:
    return connection.exec_driver_sql(statement).scalar_one()


@pytest.mark.root
@pytest.mark.slow
def test_on_a_full_disk_changes_are_refused_in_clear_words_and_nothing_is_damaged(
    tmp_path: Path, free_port: int
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "wgpy-test", str(state)], check=True)
    coordinator = Coordinator(state, free_port)
    try:
        coordinator.start()
        coordinator.run("network", "create", "home")
        token = coordinator.token("home", "--uses", "0")
        node = RemoteHost(1, token)
        node.join()
        node.watch()
        wait_until(lambda: node.follower.held is not None, "the map", 30)
        made, refused = 0, None
        with open_client(StateDir(state)) as client:
            while refused is None:
                try:
                    client.call("POST", "people", body={"name": f"person-{made}"})
                    made += 1
                except CoordinatorError as error:
                    refused = error
                assert made < 20_000, "the disk did not fill up"
            assert (refused.status, refused.code) == (507, "disk_full")
            assert "disk is full" in str(refused)
            assert client.call("GET", "networks")["networks"][0]["name"] == "home"  # reading goes on
            assert not node.stream_ended.is_set()
            subprocess.run(["mount", "-o", "remount,size=8m", str(state)], check=True)
            client.call("POST", "people", body={"name": "afterwards"})
        coordinator.stop(signal.SIGKILL)
        coordinator.start()
        found = coordinator.json("audit", "list", "--action", "person", "--limit", "1000")
        assert found[0]["subject"] == "afterwards"
        database = Database(parse_database_url(f"sqlite:///{state}/coordinator.db"))
        with contextlib.closing(database):
            for statement, value in (
                ("SELECT count(*) FROM people", made + 1),
                ("PRAGMA integrity_check", "ok"),
            ):
                assert database.read(scalar, statement) == value
        node.hang_up()
    finally:
        coordinator.stop()
        subprocess.run(["umount", "-l", str(state)], check=True)
