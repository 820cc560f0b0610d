"""Streams fed without a task each: in pieces, one difference for who was slow, and an end for the dead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from coordinator import pump as pump_module
from coordinator.hub import Hub
from coordinator.pump import PIECE, Pump
from coordinator.store import nodes
from tests.coordinator.asgi import wait_until
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from tests.coordinator.test_hub import bearer, change, running_hub


class Pipe:
    """A connection in memory that takes `room` octets and then has to be emptied."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.taken = bytearray()
        self.pieces: list[int] = []
        self.ended = self.aborted = False
        self.on_ready: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None

    def send(self, data: bytes) -> bool:
        assert not self.ended
        self.pieces.append(len(data))
        self.taken += data
        return len(self.taken) < self.room

    def end(self) -> None:
        self.ended = True
        self.on_lost()

    def abort(self) -> None:
        self.aborted = True
        self.on_lost()

    def read(self, follower: Follower) -> None:
        """Empty it: whole lines go to the follower, and there is room again."""
        end = self.taken.rfind(b"\n") + 1
        for line in self.taken[:end].splitlines(keepends=True):
            follower.take(bytes(line))
        del self.taken[:end]

    def drain(self, follower: Follower) -> None:
        self.read(follower)
        self.room = 1 << 30
        self.on_ready()


@asynccontextmanager
async def running(rows: Rows) -> AsyncIterator[tuple[Hub, Pump]]:
    async with running_hub(rows) as hub, trio.open_nursery() as nursery:
        pump = Pump(hub)
        nursery.start_soon(pump.run)
        yield hub, pump
        nursery.cancel_scope.cancel()


async def follow(hub: Hub, pump: Pump, host: Host, pipe: Pipe) -> None:
    pump.add(await hub.subscribe(bearer(host), None), pipe)
    await wait_until(lambda: bool(pipe.taken))


async def test_a_stream_is_fed_in_small_pieces_and_hears_of_changes(sqlite_rows: Rows) -> None:
    rows = sqlite_rows
    network = rows.network()
    host, *_ = [rows.member(network, number) for number in range(60)]
    late = Host(100)
    rows.join(late, rows.token(network))
    assert late.membership is not None
    async with running(rows) as (hub, pump):
        pipe, follower = Pipe(), Follower()
        await follow(hub, pump, host, pipe)
        assert max(pipe.pieces) <= PIECE < sum(pipe.pieces)
        pipe.read(follower)
        assert follower.kinds() == ["presence", "full"]
        await change(hub, nodes.put_record, late.record(late.membership), rows.now)
        await wait_until(lambda: bool(pipe.taken))
        pipe.read(follower)
        assert follower.kinds()[2] == "delta"
        assert "host-100" in follower.peer_names()


async def test_what_happens_while_a_stream_is_blocked_is_one_difference(sqlite_rows: Rows) -> None:
    rows = sqlite_rows
    network = rows.network()
    host, *_ = [rows.member(network, number) for number in range(60)]
    async with running(rows) as (hub, pump):
        pipe, follower = Pipe(room=2 * PIECE), Follower()
        await follow(hub, pump, host, pipe)
        before = len(pipe.taken)
        assert before < 3 * PIECE
        for number in range(100, 110):
            late = Host(number)
            rows.join(late, rows.token(network))
            assert late.membership is not None
            await change(hub, nodes.put_record, late.record(late.membership), rows.now)
        await hub.presence_of(network.network.id)  # the hub has taken them in
        assert len(pipe.taken) == before
        pipe.drain(follower)
        await wait_until(lambda: (pipe.read(follower), len(follower.frames) >= 3)[1])  # type: ignore[func-returns-value]
        assert follower.kinds() == ["presence", "full", "delta"]
        assert follower.peer_names() >= {f"host-{number}" for number in range(100, 110)}


async def test_a_quiet_stream_gets_keepalives_and_a_blocked_one_is_hung_up_on(
    sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "KEEPALIVE_INTERVAL", 0.05)
    monkeypatch.setattr(pump_module, "DEAD_STREAM_TIMEOUT", 0.2)
    monkeypatch.setattr(pump_module, "TICK", 0.01)
    rows = sqlite_rows
    network = rows.network()
    quiet, blocked = rows.member(network, 1), rows.member(network, 2)
    async with running(rows) as (hub, pump):
        listens, sleeps, follower = Pipe(), Pipe(room=1), Follower()
        await follow(hub, pump, quiet, listens)
        await follow(hub, pump, blocked, sleeps)
        held = len(sleeps.taken)
        await wait_until(lambda: sleeps.aborted)
        assert len(sleeps.taken) == held  # it was told nothing more
        await wait_until(lambda: listens.taken.count(b'"keepalive"') >= 3)
        listens.read(follower)
        assert not follower.refused
        assert not listens.aborted
        assert hub.census().node_streams == 1


async def test_the_end_of_a_membership_and_of_the_server_ends_streams(sqlite_rows: Rows) -> None:
    rows = sqlite_rows
    network = rows.network()
    stays, goes = rows.member(network, 1), rows.member(network, 2)
    async with running(rows) as (hub, pump):
        staying, going, follower = Pipe(), Pipe(), Follower()
        await follow(hub, pump, stays, staying)
        await follow(hub, pump, goes, going)
        await change(hub, nodes.remove_node, network.network.id, goes.id, rows.now)
        await wait_until(lambda: going.ended)
        going.read(follower)
        assert follower.removed is not None
        assert not staying.ended
        hub.close()
        await wait_until(lambda: staying.ended)
        assert hub.census().node_streams == 0


async def test_a_lost_connection_is_forgotten_once(sqlite_rows: Rows) -> None:
    rows = sqlite_rows
    host = rows.member(rows.network(), 1)
    async with running(rows) as (hub, pump):
        pipe = Pipe()
        await follow(hub, pump, host, pipe)
        for _ in range(2):
            pipe.on_lost()
            pipe.on_ready()
        assert hub.census().node_streams == 0
        assert not pump._spoken
