"""Streams and polls against a real store: what each node hears, and when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from coordinator import hub as hub_module
from coordinator.auth import Bearer
from coordinator.errors import Refusal
from coordinator.hub import Hub, Watcher
from coordinator.identity import CoordinatorIdentity
from coordinator.netmap import Snapshot, map_for
from coordinator.policy import Policy
from coordinator.presence import LEASE, Report
from coordinator.store import networks, nodes
from coordinator.store.housekeeping import tidy
from coordinator.store.log import LOG_AGE, trim_log
from coordinator.store.snapshot import read_snapshot
from coordinator.store.store import Store
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import EPOCH, Rows
from wgpy.addresses import Endpoint
from wgpy.mesh.frames import Since
from wgpy.mesh.signing import IdentityKey

IDENTITY = CoordinatorIdentity(IdentityKey(bytes(range(32))), (bytes(32),), pinned=True)


@asynccontextmanager
async def running_hub(rows: Rows, epoch: str = EPOCH) -> AsyncIterator[Hub]:
    hub = Hub(Store(rows.database), IDENTITY, epoch, "process", lambda: rows.now)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: hub.run(task_status=task_status))
        yield hub
        nursery.cancel_scope.cancel()


def bearer(host: Host, key_epoch: int = 0) -> Bearer:
    assert host.membership is not None
    return Bearer(host.membership.network.id, host.id, key_epoch)


def said(rows: Rows, sequence: int, *endpoints: str, boot: int = 1) -> Report:
    return Report(boot, sequence, tuple(Endpoint.parse(text) for text in endpoints), rows.now)


async def change(hub: Hub, *args: object) -> object:
    """A write as the API makes it: the bell rings after it."""
    return await hub._store.write(*args)  # type: ignore[arg-type]


class Stream:
    """A node's stream, read in the background."""

    def __init__(self, hub: Hub, watcher: Watcher, follower: Follower) -> None:
        self.hub, self.watcher, self.follower = hub, watcher, follower
        self.ended = False

    async def read(self) -> None:
        while lines := await self.hub.next_lines(self.watcher):
            for line in lines:
                self.follower.take(line)
        self.hub.unsubscribe(self.watcher)
        self.ended = True


async def open_stream(
    nursery: trio.Nursery, hub: Hub, host: Host, follower: Follower | None = None
) -> Stream:
    follower = follower or Follower()
    stream = Stream(hub, await hub.subscribe(bearer(host), follower.since), follower)
    nursery.start_soon(stream.read)
    await wait_until(lambda: len(follower.frames) >= 2)
    return stream


async def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.005)


async def test_a_stream_begins_with_presence_and_the_whole_map(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host, peer = sqlite_rows.member(network, 1), sqlite_rows.member(network, 2)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        await hub.check_in(bearer(peer), None, said(sqlite_rows, 1, "192.0.2.2:51820"))
        stream = await open_stream(nursery, hub, host)
        assert stream.follower.kinds() == ["presence", "full"]
        assert stream.follower.peer_names() == {"host-2"}
        assert str(stream.follower.presence[peer.id].endpoints[0]) == "192.0.2.2:51820"
        assert stream.follower.presence[peer.id].online
        nursery.cancel_scope.cancel()


async def test_a_second_join_is_seen_within_a_second_as_a_delta(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host, late = sqlite_rows.member(network, 1), Host(2)
    sqlite_rows.join(late, sqlite_rows.token(network))
    assert late.membership is not None
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        await hub.check_in(bearer(late), None, said(sqlite_rows, 1, "192.0.2.9:1"))
        await change(hub, nodes.put_record, late.record(late.membership), sqlite_rows.now)
        await wait_until(lambda: stream.follower.peer_names() == {"host-2"}, 1)
        assert stream.follower.kinds()[2] == "delta"
        # What it reported before it was visible is told now that it is.
        await wait_until(lambda: late.id in stream.follower.presence, 1)
        nursery.cancel_scope.cancel()


async def test_a_change_of_another_process_is_heard_without_a_bell(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host = sqlite_rows.member(network, 1)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        await trio.to_thread.run_sync(sqlite_rows.member, network, 2)
        await wait_until(lambda: stream.follower.peer_names() == {"host-2"}, 3)
        assert not stream.follower.refused
        nursery.cancel_scope.cancel()


async def test_a_resumed_stream_gets_the_difference_alone(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host = sqlite_rows.member(network, 1)
    follower = Follower()
    for _start in range(2):  # the second time in a process that remembers nothing
        async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
            await open_stream(nursery, hub, host, follower)
            nursery.cancel_scope.cancel()
        sqlite_rows.member(network, 5 + _start)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        follower.frames.clear()
        await open_stream(nursery, hub, host, follower)
        nursery.cancel_scope.cancel()
    assert follower.kinds() == ["presence", "delta"]
    assert follower.peer_names() == {"host-5", "host-6"}


async def test_who_has_missed_nothing_gets_a_keepalive(sqlite_rows: Rows) -> None:
    host = sqlite_rows.member(sqlite_rows.network(), 1)
    follower = Follower()
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        await open_stream(nursery, hub, host, follower)
        follower.frames.clear()
        await open_stream(nursery, hub, host, follower)
        assert follower.kinds() == ["presence", "keepalive"]
        assert not follower.refused
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("why", ["trimmed log", "another epoch", "a revision from the future"])
async def test_a_resume_that_cannot_be_a_difference_is_a_full_map(sqlite_rows: Rows, why: str) -> None:
    network = sqlite_rows.network()
    host = sqlite_rows.member(network, 1)
    snapshot = sqlite_rows.read(read_snapshot, network.network.id)
    since = Since(EPOCH, snapshot.revision)
    if why == "trimmed log":
        sqlite_rows.now += LOG_AGE + 1
        sqlite_rows.write(tidy, sqlite_rows.now)
        sqlite_rows.now += LOG_AGE + 1
        sqlite_rows.member(network, 2)
        sqlite_rows.member(network, 3)
        sqlite_rows.write(trim_log, sqlite_rows.now, LOG_AGE, 1)
    elif why == "another epoch":
        since = Since("other", since.revision)
    else:
        since = Since(EPOCH, since.revision + 1000)
    async with running_hub(sqlite_rows) as hub:
        line, _ = await hub.check_in(bearer(host), since, said(sqlite_rows, 1))
    follower = Follower()
    follower.take(line)
    assert follower.kinds() == ["full"]


async def test_a_log_trimmed_under_a_running_process_gives_full_maps(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host = sqlite_rows.member(network, 1)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)

        def edit_and_trim() -> None:
            for number in range(2, 6):
                sqlite_rows.member(network, number)
            sqlite_rows.write(trim_log, sqlite_rows.now, LOG_AGE, 1)

        await trio.to_thread.run_sync(edit_and_trim)
        await wait_until(lambda: len(stream.follower.peer_names()) == 4)
        assert stream.follower.kinds()[2] == "full"
        nursery.cancel_scope.cancel()


async def test_a_removed_node_gets_the_signed_word_and_its_stream_ends_within_a_second(
    sqlite_rows: Rows,
) -> None:
    network = sqlite_rows.network()
    host, peer = sqlite_rows.member(network, 1), sqlite_rows.member(network, 2)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        gone = await open_stream(nursery, hub, host)
        stays = await open_stream(nursery, hub, peer)
        await change(hub, nodes.remove_node, network.network.id, host.id, sqlite_rows.now)
        await wait_until(lambda: gone.ended, 1)
        assert gone.follower.removed is not None
        assert gone.follower.removed.verify(IDENTITY.public)
        assert gone.follower.removed.node == host.id
        await wait_until(lambda: stays.follower.peer_names() == set(), 1)
        with pytest.raises(Refusal):
            await hub.subscribe(bearer(host), None)
        nursery.cancel_scope.cancel()


async def test_deleting_a_network_tells_all_of_its_nodes(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    hosts = [sqlite_rows.member(network, number) for number in range(3)]
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        streams = [await open_stream(nursery, hub, host) for host in hosts]
        await change(hub, networks.delete_network, "home", sqlite_rows.now)
        await wait_until(lambda: all(stream.ended for stream in streams), 1)
        assert {stream.follower.removed.node for stream in streams if stream.follower.removed} == {
            host.id for host in hosts
        }


async def test_a_stream_of_another_key_epoch_ends_without_a_word(sqlite_rows: Rows) -> None:
    host = sqlite_rows.member(sqlite_rows.network(), 1)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)

        def rotate() -> None:
            sqlite_rows.write(
                lambda connection: connection.execute(nodes.update(nodes.nodes).values(key_epoch=1))
            )
            sqlite_rows.sign(host, seq=2)

        await trio.to_thread.run_sync(rotate)
        await wait_until(lambda: stream.ended)
        assert stream.follower.removed is None


async def test_a_slow_node_gets_one_frame_for_all_that_it_missed(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host = sqlite_rows.member(network, 1)
    async with running_hub(sqlite_rows) as hub:
        watcher = await hub.subscribe(bearer(host), None)
        follower = Follower()
        for line in await hub.next_lines(watcher):
            follower.take(line)
        for number in range(2, 12):  # it does not read meanwhile
            peer = Host(number)
            await trio.to_thread.run_sync(sqlite_rows.join, peer, sqlite_rows.token(network))
            assert peer.membership is not None
            await change(hub, nodes.put_record, peer.record(peer.membership), sqlite_rows.now)
        await wait_until(lambda: watcher.channel.view.revision == 12)
        for line in await hub.next_lines(watcher):
            follower.take(line)
        assert follower.kinds() == ["presence", "full", "delta"]
        assert len(follower.peer_names()) == 10


async def test_a_quiet_stream_gets_keepalives_that_renew_the_lease(
    sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "KEEPALIVE_INTERVAL", 0.05)
    host = sqlite_rows.member(sqlite_rows.network(), 1)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        await wait_until(lambda: stream.follower.kinds().count("keepalive") >= 3)
        assert not stream.follower.refused
        sqlite_rows.now += LEASE - 1
        before = stream.follower.kinds().count("keepalive")
        await wait_until(lambda: stream.follower.kinds().count("keepalive") > before)
        assert stream.watcher.channel.lane._nodes[host.id].until == sqlite_rows.now + LEASE
        nursery.cancel_scope.cancel()


async def test_endpoints_and_going_offline_are_told_without_touching_the_map(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host, peer = sqlite_rows.member(network, 1), sqlite_rows.member(network, 2)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        held = stream.follower.held
        await hub.check_in(bearer(peer), None, said(sqlite_rows, 1, "192.0.2.2:1"))
        await wait_until(lambda: peer.id in stream.follower.presence)
        await hub.check_in(bearer(peer), None, said(sqlite_rows, 2, "192.0.2.2:2"))
        await hub.check_in(bearer(peer), None, said(sqlite_rows, 1, "192.0.2.2:1"))  # a late one
        await wait_until(lambda: str(stream.follower.presence[peer.id].endpoints[0]) == "192.0.2.2:2")
        sqlite_rows.now += LEASE + 1
        await wait_until(lambda: not stream.follower.presence[peer.id].online)
        assert str(stream.follower.presence[peer.id].endpoints[0]) == "192.0.2.2:2"
        assert stream.follower.held == held
        nursery.cancel_scope.cancel()
    async with running_hub(sqlite_rows) as hub:  # and a new process knows what was said
        _, presence = await hub.check_in(bearer(host), None, said(sqlite_rows, 9))
        assert [str(endpoint) for endpoint in presence.nodes[peer.id].endpoints] == ["192.0.2.2:2"]


async def test_a_brief_reconnect_makes_no_noise(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host, peer = sqlite_rows.member(network, 1), sqlite_rows.member(network, 2)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        watcher = await hub.subscribe(bearer(peer), None)
        await wait_until(lambda: peer.id in stream.follower.presence)
        count = len(stream.follower.frames)
        for _ in range(3):
            hub.unsubscribe(watcher)
            sqlite_rows.now += 1
            watcher = await hub.subscribe(bearer(peer), None)
        await trio.sleep(0.6)  # two flushes: whatever there is to say would have been said
        assert len(stream.follower.frames) == count
        nursery.cancel_scope.cancel()


async def test_closing_ends_every_stream(sqlite_rows: Rows) -> None:
    host = sqlite_rows.member(sqlite_rows.network(), 1)
    async with running_hub(sqlite_rows) as hub, trio.open_nursery() as nursery:
        stream = await open_stream(nursery, hub, host)
        hub.close()
        await wait_until(lambda: stream.ended, 1)
        assert stream.follower.removed is None


@pytest.mark.parametrize("seed", range(6))
async def test_two_processes_and_random_edits_always_lead_to_the_map_that_the_rows_say(
    rows: Rows, seed: int
) -> None:
    rng = random.Random(seed)
    network = rows.network()
    network_id = network.network.id
    secret = rows.token(network, expires_in=1e8)
    living = [rows.member(network, number, secret) for number in range(3)]
    observers = {host.number: Follower() for host in living[:2]}
    start = rows.read(read_snapshot, network_id)
    history: dict[int, Snapshot] = {start.revision: start}
    seqs = dict.fromkeys(range(100), 1)

    def edit(number: int) -> None:
        kind = rng.choice(
            ["join", "join", "sign", "remove", "move", "trim", "unsigned", "tag", "see", "disable"]
        )
        if kind == "join":
            living.append(rows.member(network, number, secret))
        elif kind == "unsigned":
            rows.join(Host(number), secret)
        elif kind == "sign":
            host = rng.choice(living)
            seqs[host.number] += 1
            rows.sign(host, seqs[host.number])
        elif kind == "remove" and len(living) > 2:
            rows.remove(living.pop(rng.randrange(2, len(living))))
        elif kind == "move":
            rows.write(networks.set_urls, (f"https://c{number}.example",), rows.now)
        elif kind in ("tag", "disable"):
            one = {"tags": rng.sample(["a", "b", "c"], 2)} if kind == "tag" else {"disabled": number % 2 == 0}
            host = rng.choice(living)
            rows.write(nodes.edit_node, network_id, host.id, nodes.NodeEdit(one), rows.now)
        elif kind == "see":
            pairs = rng.choice([None, [], [["a", "a"]], [["a", "b"], ["*", "c"]]])
            rows.write(
                networks.edit_network,
                network_id,
                networks.NetworkChanges({"visibility": Policy.of(pairs)}),
                rows.now,
            )
        elif kind == "trim":
            rows.write(trim_log, rows.now, LOG_AGE, rng.choice([1, 5]))
        found = rows.read(read_snapshot, network_id)
        history[found.revision] = found

    async with running_hub(rows) as first, running_hub(rows) as second, trio.open_nursery() as nursery:
        live = await open_stream(nursery, first, living[0])
        for number in range(3, 40):
            await trio.to_thread.run_sync(edit, number)
            if rng.random() < 0.5:
                first.ring([network_id])
            if rng.random() < 0.6:
                host = living[rng.randrange(2)]
                follower = observers[host.number]
                hub = rng.choice([first, second])
                line, _ = await hub.check_in(bearer(host), follower.since, said(rows, number))
                follower.take(line)
                assert follower.held is not None
                assert follower.held.map == map_for(history[follower.held.revision], host.id)
        first.ring([network_id])
        newest = max(history)
        await wait_until(lambda: live.follower.held is not None and live.follower.held.revision == newest)
        assert live.follower.held is not None
        assert live.follower.held.map == map_for(history[newest], living[0].id)
        for follower in (live.follower, *observers.values()):
            assert not follower.refused
        nursery.cancel_scope.cancel()
