"""Who listens to which network: takes changes out of the store and wakes the streams that they concern.

The bell (`ring`) comes from this process's own writes and, over PostgreSQL, from those of others; the
revisions are also read every 2 s, after which it does not matter whether a bell was missed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import anyio
from anyio.abc import TaskStatus

from coordinator.auth import Bearer
from coordinator.elections import settle_elections
from coordinator.errors import Refusal
from coordinator.feed import NetworkView
from coordinator.identity import CoordinatorIdentity
from coordinator.metrics import Census
from coordinator.netmap import Changes
from coordinator.presence import AHEAD, PresenceLane, Report, presence_line
from coordinator.store.bell import Bell, Rung
from coordinator.store.log import read_changes
from coordinator.store.networks import read_revisions
from coordinator.store.presence import (
    EndpointsRow,
    LeaseRow,
    flush_presence,
    read_presence,
    read_presence_elsewhere,
)
from coordinator.store.snapshot import read_snapshot, read_step
from coordinator.store.store import Store
from coordinator.tunnels import WATCHED_TIME, TunnelBoard, report_interval
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import KEEPALIVE_INTERVAL, PresenceFrame, ReportsFrame, Since
from wgpy.mesh.tunnels import REPORT_INTERVAL, ReportTerms, TunnelReport

logger = logging.getLogger(__name__)

POLL_INTERVAL = 2.0
SILENCE = 3.5 * POLL_INTERVAL
"""Seconds without an answer of the database after which this process says that it cannot work."""

FLUSH_INTERVAL = 0.25
IDLE_AGE = 300.0
"""Seconds after which a network that nobody watches is dropped from memory."""

UNKNOWN_NODE = "this node is not a member of the network any more"


class Channel:
    """A network in memory, and the streams that follow it."""

    def __init__(self, network_id: str, view: NetworkView, lane: PresenceLane, now: float) -> None:
        self.network_id = network_id
        self.view = view
        self.lane = lane
        self.board = TunnelBoard()
        self.report_every = REPORT_INTERVAL
        self.watched_until = 0.0
        self.watchers: dict[str, set[Watcher]] = {}
        self.listeners: set[Listener] = set()
        self.used_at = now
        self.told_version = lane.version
        self.rung = False
        self.gone = False
        self.lock = anyio.Lock()

    def wake(self) -> None:
        for watchers in self.watchers.values():
            for watcher in watchers:
                watcher.wake()
        self.wake_listeners()

    def wake_listeners(self) -> None:
        """They look for themselves whether there is news."""
        for listener in self.listeners:
            listener.woken.set()

    def settle_report_interval(self, now: float) -> None:
        """Nodes report more often while somebody looks; their streams are woken to say so."""
        is_watched = bool(self.listeners) or self.watched_until > now
        wanted = report_interval(len(self.view.members), is_watched=is_watched)
        if wanted != self.report_every:
            self.report_every = wanted
            self.wake()

    @property
    def state(self) -> tuple[int, int, int]:
        """Changes with everything that an admin might see: map, presence, tunnels."""
        return self.view.revision + self.view.notices, self.lane.version, self.board.version


class Listener:
    """An admin who looks at a network: what they were last told of. Its queue is this and nothing more."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.seen = channel.state
        self.woken = anyio.Event()


class Watcher:
    """One stream of one node: where it stands. Its queue is this and nothing more."""

    __slots__ = (
        "changes", "channel", "finished", "key_epoch", "node_id", "on_wake", "presence_version",
        "report_every", "revision", "woken",
    )  # fmt: skip

    def __init__(self, channel: Channel, node_id: str, key_epoch: int, changes: Changes | None) -> None:
        self.channel = channel
        self.node_id = node_id
        self.key_epoch = key_epoch
        self.changes = changes
        self.revision: int | None = None
        self.presence_version = 0
        self.report_every = REPORT_INTERVAL
        self.on_wake: Callable[[], None] | None = None
        self.woken: anyio.Event | None = None
        self.finished = False

    def wake(self) -> None:
        """There may be something to tell it."""
        if self.on_wake is not None:
            self.on_wake()
        elif self.woken is not None:
            self.woken.set()


class Hub:
    """Every network that somebody listens to."""

    def __init__(
        self,
        store: Store,
        identity: CoordinatorIdentity,
        epoch: str,
        process: str,
        clock: Callable[[], float],
    ) -> None:
        """`process` is the id under which this process holds leases; `clock` gives Unix time in seconds."""
        self.epoch = epoch
        self._store = store
        self._identity = identity
        self._process = process
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._loading = anyio.Lock()
        self._rung = anyio.Event()
        self._dirty = anyio.Event()
        self._presence_rung = anyio.Event()
        self._moved_elsewhere: set[str] = set()
        self._closing = False
        self._database_heard_at = clock()
        store.changed = self.ring

    # --- the loops ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_bell)
            tasks.start_soon(self._poll)
            tasks.start_soon(self._flush)
            if not self._store.database.is_sqlite:  # there may be other processes
                tasks.start_soon(self._learn_at_once)
                tasks.start_soon(Bell(self._store, self._take_ring, self._ring_all).run)
            task_status.started()

    def ring(self, network_ids: Iterable[str]) -> None:
        """These networks have changed."""
        for network_id in network_ids:
            if network_id in self._channels:
                self._channels[network_id].rung = True
        self._rung.set()

    def _take_ring(self, rung: Rung) -> None:
        """Another process has changed something."""
        if rung.changed:
            self.ring(rung.changed)
        if moved := rung.presence & self._channels.keys():
            self._moved_elsewhere |= moved
            self._presence_rung.set()

    def _ring_all(self) -> None:
        self.ring(list(self._channels))

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closing = True
        for channel in self._channels.values():
            channel.wake()

    @property
    def is_closing(self) -> bool:
        """Whoever waits for something is to wait no longer."""
        return self._closing

    @property
    def is_ready(self) -> bool:
        """Whether the database was heard lately and we are not about to stop."""
        return not self._closing and self._clock() < self._database_heard_at + SILENCE

    def census(self) -> Census:
        channels = self._channels.values()
        streams = sum(len(watchers) for channel in channels for watchers in channel.watchers.values())
        return Census(len(channels), streams, sum(len(channel.listeners) for channel in channels))

    async def _follow_bell(self) -> None:
        while True:
            await self._rung.wait()
            self._rung = anyio.Event()
            for channel in [channel for channel in self._channels.values() if channel.rung]:
                try:
                    await self._refresh(channel)
                except Exception:  # the database is away: the next poll rings again
                    logger.exception("network %s: cannot read its changes", channel.network_id[:8])

    async def _poll(self) -> None:
        while True:
            await anyio.sleep(POLL_INTERVAL)
            now = self._clock()
            for channel in list(self._channels.values()):
                wanted = channel.watchers or channel.listeners or channel.lane.is_dirty
                if not wanted and channel.used_at < now - IDLE_AGE:
                    del self._channels[channel.network_id]
            try:
                revisions = await self._store.read(read_revisions, list(self._channels))
                if not self._store.database.is_sqlite:
                    await self._learn_presence(list(self._channels), now)
                self._database_heard_at = now
            except Exception:
                logger.exception("cannot read what other processes have written")
                continue
            finally:
                for channel in self._channels.values():
                    channel.lane.expire(now)
                    if channel.lane.is_dirty:
                        self._dirty.set()
                    channel.board.expire(now)
                    channel.settle_report_interval(now)
                    self._wake_for_presence(channel)
            await settle_elections(self._store, list(self._channels.values()), now)
            behind = [
                id_ for id_, known in self._channels.items() if revisions.get(id_) != known.view.revision
            ]
            if behind:
                self.ring(behind)

    async def _learn_at_once(self) -> None:
        """What another process says of presence, in bursts of a flush's length."""
        while True:
            await self._presence_rung.wait()
            self._presence_rung = anyio.Event()
            ids, self._moved_elsewhere = list(self._moved_elsewhere), set()
            try:
                await self._learn_presence(ids, self._clock())
            except Exception:  # the next poll learns it
                logger.exception("cannot read the presence that other processes have written")
            for channel in [self._channels[id_] for id_ in ids if id_ in self._channels]:
                self._wake_for_presence(channel)
            await anyio.sleep(FLUSH_INTERVAL)

    async def _learn_presence(self, ids: Sequence[str], now: float) -> None:
        rows, leases = await self._store.read(read_presence_elsewhere, ids, self._process, now)
        reports: dict[str, dict[str, Report]] = {}
        until: dict[str, dict[str, float]] = {}
        for row in rows:
            report = Report(row.boot, row.sequence, row.endpoints, row.updated_at)
            reports.setdefault(row.network_id, {})[row.node_id] = report
        for node_id, (network_id, end) in leases.items():
            until.setdefault(network_id, {})[node_id] = end
        for network_id in ids:
            channel = self._channels.get(network_id)
            if channel is not None:
                channel.lane.learn(reports.get(network_id, {}), until.get(network_id, {}), now)

    async def _flush(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = anyio.Event()
            for channel in list(self._channels.values()):
                self._wake_for_presence(channel)
            await self.flush()
            await anyio.sleep(FLUSH_INTERVAL)

    async def flush(self) -> None:
        """Write what the fast lanes have gathered, in one transaction."""
        reports, leases, moved = [], [], set()
        for channel in self._channels.values():
            if channel.lane.version != channel.told_version:
                channel.told_version = channel.lane.version
                moved.add(channel.network_id)
            new_reports, new_leases = channel.lane.drain_unwritten()
            for node_id, report in new_reports.items():
                row = (node_id, channel.network_id, report.boot, report.sequence, report.endpoints, report.at)
                reports.append(EndpointsRow(*row))
            leases += [LeaseRow(node_id, self._process, until) for node_id, until in new_leases.items()]
        if not reports and not leases:
            return
        try:
            await self._store.write(flush_presence, reports, leases, moved)
        except Exception:  # presence is made anew by the nodes' next reports
            logger.exception("cannot write presence")

    def _wake_for_presence(self, channel: Channel) -> None:
        version = channel.lane.version
        for watchers in channel.watchers.values():
            for watcher in watchers:
                if watcher.presence_version < version:
                    watcher.wake()
        channel.wake_listeners()

    # --- channels -------------------------------------------------------------------------------------------

    async def _open(self, network_id: str) -> Channel:
        """The network, up to date with what this process has written. Raises Refusal `node_unknown`."""
        channel = self._channels.get(network_id)
        if channel is None:
            async with self._loading:
                channel = self._channels.get(network_id) or await self._load(network_id)
        if channel.rung or channel.lock.locked():  # who has written reads what it wrote
            await self._refresh(channel)
        if channel.gone:
            raise Refusal("node_unknown", UNKNOWN_NODE)
        channel.used_at = self._clock()
        return channel

    async def _load(self, network_id: str) -> Channel:
        now = self._clock()
        rows, until = await self._store.read(read_presence, network_id, now)
        reports = {row.node_id: Report(row.boot, row.sequence, row.endpoints, row.updated_at) for row in rows}
        snapshot = await self._store.read(read_snapshot, network_id)
        if snapshot is None:
            raise Refusal("node_unknown", UNKNOWN_NODE)
        lane = PresenceLane(reports, until, now, AHEAD if self._store.database.is_sqlite else 0.0)
        channel = Channel(network_id, NetworkView(self.epoch, snapshot), lane, now)
        # A change that was committed while we read rang for nobody: look once more.
        channel.rung = True
        self._channels[network_id] = channel
        return channel

    async def _refresh(self, channel: Channel) -> None:
        async with channel.lock:
            if channel.gone or not channel.rung:
                return
            channel.rung = False
            try:
                await self._take_changes(channel)
            except BaseException:
                channel.rung = True
                raise
        channel.wake()

    async def _take_changes(self, channel: Channel) -> None:
        step = await self._store.read(read_step, channel.network_id, channel.view.revision)
        if step is None:
            channel.gone = True
            self._channels.pop(channel.network_id, None)
            return
        if step.changes.complete and step.changes.revision >= channel.view.revision:
            channel.view.apply(step)
        else:  # the log was trimmed under us, or the database is an older one than before
            snapshot = await self._store.read(read_snapshot, channel.network_id)
            if snapshot is None:
                channel.gone = True
                self._channels.pop(channel.network_id, None)
                return
            channel.view = NetworkView(self.epoch, snapshot)
        for node_id, member in step.members.items():
            if member is None:
                channel.lane.forget(node_id)
                channel.board.forget(node_id)
        for node_id in step.members:
            if channel.view.is_visible(node_id):  # perhaps to others than before
                channel.lane.touch(node_id)

    async def _changes_since(self, channel: Channel, since: Since | None) -> Changes | None:
        """How a node that stands at `since` comes to where the view is; None when only a full map leads
        there.
        """
        if since is None or since.epoch != self.epoch:
            return None
        if since.revision > channel.view.revision:
            channel.rung = True  # told by another process, which is ahead of us
            await self._refresh(channel)
            if since.revision > channel.view.revision:
                return None
        known = channel.view.recall(since.revision)
        if known is None:
            target = channel.view.revision
            logged = await self._store.read(read_changes, channel.network_id, since.revision, target)
            later = channel.view.recall(target)
            known = None if later is None else logged.followed_by(later)
        return known

    # --- what a node asks -----------------------------------------------------------------------------------

    def removed_line(self, network_id: str, node_id: str) -> bytes:
        return encode_json(self._identity.removed_frame(network_id, node_id).to_json()) + b"\n"

    async def subscribe(self, bearer: Bearer, since: Since | None) -> Watcher:
        """Begin a stream; it ends with the key epoch of the bearer. Raises Refusal `node_unknown`."""
        node_id = bearer.node_id
        channel = await self._open(bearer.network_id)
        changes = await self._changes_since(channel, since)
        if node_id not in channel.view.members:
            raise Refusal("node_unknown", UNKNOWN_NODE)
        watcher = Watcher(channel, node_id, bearer.key_epoch, changes)
        if changes is not None and changes.since == changes.revision:
            watcher.revision = channel.view.revision
        channel.watchers.setdefault(node_id, set()).add(watcher)
        self._hear(channel, node_id)
        return watcher

    def unsubscribe(self, watcher: Watcher) -> None:
        """Its stream is over."""
        channel = watcher.channel
        streams = channel.watchers.get(watcher.node_id, set())
        streams.discard(watcher)
        if not streams:
            channel.watchers.pop(watcher.node_id, None)
            if not self._closing:
                channel.lane.hang_up(watcher.node_id, self._clock())
                self._dirty.set()

    async def listen(self, network_id: str) -> Listener:
        """Begin to follow a network as an admin. Raises Refusal `node_unknown` when it is gone."""
        channel = await self._open(network_id)
        listener = Listener(channel)
        channel.listeners.add(listener)
        channel.settle_report_interval(self._clock())
        return listener

    def unlisten(self, listener: Listener) -> None:
        """Its stream is over."""
        listener.channel.listeners.discard(listener)

    async def next_change(self, listener: Listener) -> bool | None:
        """Wait for something that an admin might see: True. False after 15 s of quiet; None when the network
        is gone or the server stops.
        """
        with anyio.move_on_after(KEEPALIVE_INTERVAL):
            while listener.seen == listener.channel.state and not self._is_deaf(listener):
                listener.woken = anyio.Event()
                await listener.woken.wait()
        if self._is_deaf(listener):
            return None
        changed = listener.seen != listener.channel.state
        listener.seen = listener.channel.state
        return changed

    def _is_deaf(self, listener: Listener) -> bool:
        return self._closing or listener.channel.gone

    def _hear(self, channel: Channel, node_id: str) -> None:
        channel.lane.hear(node_id, self._clock())
        if channel.lane.is_dirty:
            self._dirty.set()

    async def next_lines(self, watcher: Watcher) -> list[bytes]:
        """Wait for something to tell → the lines, none when the stream is over. A keepalive after 15 s of
        quiet.
        """
        if watcher.presence_version == 0:
            return self._first_lines(watcher)
        with anyio.move_on_after(KEEPALIVE_INTERVAL):
            while not self.is_over(watcher):
                watcher.woken = anyio.Event()
                if lines := self._lines(watcher):
                    return lines
                if not self.is_over(watcher):
                    await watcher.woken.wait()
        return self.quiet_lines(watcher)

    def lines_now(self, watcher: Watcher) -> list[bytes]:
        """What there is to tell at this moment; perhaps nothing."""
        if self.is_over(watcher):
            return []
        return self._first_lines(watcher) if watcher.presence_version == 0 else self._lines(watcher)

    def quiet_lines(self, watcher: Watcher) -> list[bytes]:
        """The same after 15 s of quiet: at least a keepalive. None when the stream is over."""
        if lines := self.lines_now(watcher):
            return lines
        if self.is_over(watcher):
            return []
        self._hear(watcher.channel, watcher.node_id)
        return [watcher.channel.view.keepalive_for(watcher.node_id)]

    def is_over(self, watcher: Watcher) -> bool:
        """Whether there is nothing more to come."""
        return self._closing or watcher.finished

    def _first_lines(self, watcher: Watcher) -> list[bytes]:
        channel, node_id = watcher.channel, watcher.node_id
        presence = channel.lane.complete(channel.view.visible_to(node_id))
        watcher.presence_version = channel.lane.version
        stands = watcher.revision == channel.view.revision
        if node_id not in channel.view.members:
            return self._lines(watcher)
        if stands:
            line = channel.view.keepalive_for(node_id)
        else:
            line = channel.view.line_for(node_id, self._now_known(watcher))
        watcher.revision = channel.view.revision
        watcher.changes = None
        return [presence_line(presence), line]

    def _now_known(self, watcher: Watcher) -> Changes | None:
        """The watcher's changes, and what came since they were gathered."""
        if watcher.changes is None:
            return None
        later = watcher.channel.view.recall(watcher.changes.revision)
        return None if later is None else watcher.changes.followed_by(later)

    def _lines(self, watcher: Watcher) -> list[bytes]:
        """What is new for a stream that has begun."""
        channel, node_id = watcher.channel, watcher.node_id
        member = channel.view.members.get(node_id)
        if channel.gone or member is None:
            watcher.finished = True
            return [self.removed_line(channel.network_id, node_id)]
        if member.key_epoch != watcher.key_epoch:
            watcher.finished = True
            return []
        lines = []
        view, lane = channel.view, channel.lane
        if watcher.revision != view.revision:
            changes = None if watcher.revision is None else view.recall(watcher.revision)
            lines.append(view.line_for(node_id, changes))
            watcher.revision = view.revision
            if view.sees_others(node_id, changes):
                lines.append(presence_line(lane.complete(view.visible_to(node_id))))
                watcher.presence_version = lane.version
        if watcher.presence_version < lane.version:
            frame = lane.since(watcher.presence_version, lambda id_: view.sees(node_id, id_))
            watcher.presence_version = lane.version
            if frame.nodes:
                lines.append(presence_line(frame))
        if watcher.report_every != channel.report_every:
            watcher.report_every = channel.report_every
            lines.append(encode_json(ReportsFrame(watcher.report_every).to_json()) + b"\n")
        return lines

    async def check_in(
        self, bearer: Bearer, since: Since | None, report: Report
    ) -> tuple[bytes, PresenceFrame]:
        """Take a report → the frame that follows `since` as JSON, and the presence of every peer.

        Raises Refusal `node_unknown`.
        """
        node_id = bearer.node_id
        channel = await self._open(bearer.network_id)
        changes = await self._changes_since(channel, since)
        view = channel.view
        if node_id not in view.members:
            raise Refusal("node_unknown", UNKNOWN_NODE)
        channel.lane.report(node_id, report)
        self._hear(channel, node_id)
        presence = channel.lane.complete(view.visible_to(node_id))
        if changes is not None and changes.since == view.revision:
            return view.keepalive_for(node_id), presence
        return view.line_for(node_id, changes), presence

    async def take_report(
        self, bearer: Bearer, report: Report, tunnels: TunnelReport | None, *, is_alone: bool
    ) -> ReportTerms:
        """What a node says of its tunnels, with a check-in or (`is_alone`) without → how it shall go on.

        Raises Refusal `node_unknown`.
        """
        node_id, now = bearer.node_id, self._clock()
        channel = await self._open(bearer.network_id)
        if node_id not in channel.view.members:
            raise Refusal("node_unknown", UNKNOWN_NODE)
        if is_alone:
            channel.lane.report(node_id, report)
            self._hear(channel, node_id)
        channel.board.hear(node_id, now)
        before = channel.board.version
        if tunnels is not None:
            channel.board.report(node_id, (report.boot, report.sequence), tunnels, now)
        if channel.board.version != before:
            channel.wake_listeners()
        return ReportTerms(channel.report_every, channel.board.knows(node_id))

    async def tunnels_of(self, network_id: str) -> Channel:
        """The network, which counts as watched for a while. Raises Refusal `node_unknown`."""
        channel = await self._open(network_id)
        channel.watched_until = self._clock() + WATCHED_TIME
        channel.settle_report_interval(self._clock())
        return channel

    async def presence_of(self, network_id: str) -> PresenceLane:
        """The fast lane of a network, for the admin's eyes. Raises Refusal `node_unknown`."""
        return (await self._open(network_id)).lane
