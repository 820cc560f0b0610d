"""What an engine has to tell, until the device drains it: one place for each kind, each of bounded size.

Handshake messages wait in a queue whose depth is the measure of load. Work is coalesced per peer and never
lost. Control messages and other datagrams are in rings that lose their oldest: whoever sent them sends them
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import (
    Control,
    EngineFailed,
    Event,
    HandshakeMessage,
    OtherDatagram,
    PeerId,
    PeerWork,
    Work,
)
from wgpy.protocol.constants import UNDER_LOAD_QUEUE

RING_LIMIT: Final = 1024
"""Control messages, and other datagrams, that wait at most."""

HANDSHAKES_A_DRAIN: Final = 16
"""Handshake messages given out at once. The rest stays in the queue, so that its depth tells how far the core
is behind; and packets and timers get their turn between."""


class _PendingWork:
    __slots__ = ("bits", "confirmed_index", "endpoint")

    def __init__(self) -> None:
        self.bits = Work(0)
        self.confirmed_index: int | None = None
        self.endpoint: Endpoint | None = None


class EventQueues:
    """`wake` is called when something is put where nothing was."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._handshakes: deque[HandshakeMessage] = deque()
        self._work: dict[PeerId, _PendingWork] = {}
        self._controls: deque[Control] = deque(maxlen=RING_LIMIT)
        self._others: deque[OtherDatagram] = deque(maxlen=RING_LIMIT)
        self._failure: str | None = None

    def __bool__(self) -> bool:
        return bool(
            self._work or self._handshakes or self._controls or self._others or self._failure is not None
        )

    @property
    def handshake_depth(self) -> int:
        """How many handshake messages wait."""
        return len(self._handshakes)

    def put_handshake(self, message: HandshakeMessage) -> bool:
        """False, and the message is lost, when the queue is full."""
        if len(self._handshakes) >= UNDER_LOAD_QUEUE:
            return False
        self._handshakes.append(message)
        self.wake()
        return True

    def discard_handshakes(self) -> None:
        """The identity or the sockets changed: what waits is for the old ones."""
        self._handshakes.clear()

    def put_work(
        self,
        peer: PeerId,
        bits: Work,
        *,
        confirmed_index: int | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        pending = self._work.get(peer)
        if pending is None:
            pending = self._work[peer] = _PendingWork()
            self.wake()
        pending.bits |= bits
        if confirmed_index is not None:
            pending.confirmed_index = confirmed_index
        if endpoint is not None:
            pending.endpoint = endpoint

    def put_control(self, control: Control) -> None:
        self._controls.append(control)
        self.wake()

    def put_other(self, datagram: OtherDatagram) -> None:
        self._others.append(datagram)
        self.wake()

    def put_failure(self, reason: str) -> None:
        """The first reason stands."""
        if self._failure is None:
            self._failure = reason
            self.wake()

    def forget_peer(self, peer: PeerId) -> None:
        """It was removed: nothing more is told of it, but for handshake messages, which the core ignores."""
        self._work.pop(peer, None)

    def drain(self) -> list[Event]:
        """Everything that waits, of handshake messages the oldest `HANDSHAKES_A_DRAIN`."""
        events: list[Event] = [
            PeerWork(peer, pending.bits, pending.confirmed_index, pending.endpoint)
            for peer, pending in self._work.items()
        ]
        self._work.clear()
        for _ in range(min(HANDSHAKES_A_DRAIN, len(self._handshakes))):
            events.append(self._handshakes.popleft())
        events += self._controls
        self._controls.clear()
        events += self._others
        self._others.clear()
        if self._failure is not None:
            events.append(EngineFailed(self._failure))
            self._failure = None
        return events
