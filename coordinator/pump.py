"""Feeds the streams of nodes: one task for all of them, because a task, a timer and an HTTP request for each
would cost more memory than TLS does.

A stream stands in no queue but the set of those to look at. What it is told is made when its connection takes
it, so nothing gathers for a slow one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import anyio
import anyio.lowlevel

from coordinator.hub import Hub, Watcher
from wgpy.mesh.frames import DEAD_STREAM_TIMEOUT, KEEPALIVE_INTERVAL

PIECE: Final = 4 * 1024
"""Octets handed to TLS at once: its buffers keep the size of the largest piece as long as the stream lives.
Measured with uvloop and 250 KB sent: 30 KB a connection with 4 KiB, 45 with 16 KiB.
"""

AT_ONCE: Final = 16
"""Streams served before others have their turn."""

TICK: Final = 0.5
"""Seconds between looks for streams that were quiet, or blocked, for long enough."""


class Sink(Protocol):
    """A connection whose answer has begun. It calls `on_ready` when it takes more after it did not, and
    `on_lost` once, when it is gone.
    """

    on_ready: Callable[[], None]
    on_lost: Callable[[], None]

    def send(self, data: bytes) -> bool:
        """Pass a piece on → whether it takes more now."""

    def end(self) -> None:
        """Finish the answer, and hang up."""

    def abort(self) -> None:
        """Hang up at once."""


class _Fed:
    """One stream. `rest` is what its connection has not taken yet, from `offset` on."""

    __slots__ = ("blocked_at", "offset", "rest", "sink", "watcher")

    def __init__(self, watcher: Watcher, sink: Sink) -> None:
        self.watcher, self.sink = watcher, sink
        self.rest = b""
        self.offset = 0
        self.blocked_at: float | None = None


class Pump:
    """`run` it beside the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ready: OrderedDict[_Fed, None] = OrderedDict()
        self._woken = anyio.Event()
        self._spoken: OrderedDict[_Fed, float] = OrderedDict()
        """Every stream and when it was told something, the longest quiet first."""

    def add(self, watcher: Watcher, sink: Sink) -> None:
        """Feed this stream until its end, which unsubscribes it."""
        fed = _Fed(watcher, sink)
        watcher.on_wake = partial(self._wake, fed)
        sink.on_ready = partial(self._go_on, fed)
        sink.on_lost = partial(self._drop, fed)
        self._spoken[fed] = anyio.current_time()
        self._wake(fed)

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed)
            tasks.start_soon(self._tick)

    async def _feed(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            served = 0
            while self._ready:
                fed, _ = self._ready.popitem(last=False)
                self._serve(fed)
                served += 1
                if served % AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()

    async def _tick(self) -> None:
        while True:
            await anyio.sleep(TICK)
            now, served = anyio.current_time(), 0
            while self._spoken:
                fed, spoken_at = next(iter(self._spoken.items()))
                if spoken_at > now - KEEPALIVE_INTERVAL:
                    break
                self._spoken[fed] = now
                self._spoken.move_to_end(fed)
                if fed.blocked_at is None:
                    self._say(fed, self._hub.quiet_lines(fed.watcher))
                elif fed.blocked_at < now - DEAD_STREAM_TIMEOUT:
                    fed.sink.abort()
                served += 1
                if served % AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()

    def _wake(self, fed: _Fed) -> None:
        self._ready[fed] = None
        self._woken.set()

    def _serve(self, fed: _Fed) -> None:
        if fed not in self._spoken:
            return  # gone meanwhile
        if fed.blocked_at is None:
            self._say(fed, self._hub.lines_now(fed.watcher))
        if self._hub.is_over(fed.watcher) and fed.blocked_at is None:
            fed.sink.end()

    def _say(self, fed: _Fed, lines: list[bytes]) -> None:
        if lines:
            self._spoken[fed] = anyio.current_time()
            self._spoken.move_to_end(fed)
            fed.rest, fed.offset = b"".join(lines), 0
            self._push(fed)

    def _push(self, fed: _Fed) -> None:
        """As much of what is left as the connection takes."""
        fed.blocked_at = None
        while fed.offset < len(fed.rest):
            piece = fed.rest[fed.offset : fed.offset + PIECE]
            fed.offset += len(piece)
            if not fed.sink.send(piece):
                fed.blocked_at = anyio.current_time()
                return
        fed.rest = b""

    def _go_on(self, fed: _Fed) -> None:
        if fed in self._spoken:
            self._push(fed)
            if fed.blocked_at is None:
                self._wake(fed)

    def _drop(self, fed: _Fed) -> None:
        if self._spoken.pop(fed, None) is not None:
            self._ready.pop(fed, None)
            fed.watcher.on_wake = None
            self._hub.unsubscribe(fed.watcher)
