"""uvicorn's HTTP protocol, with the patience and the room that a stranger gets: so long, and so much, for a
request's head. A stream leaves it, and with it everything that a request needs memory for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT: Final = 15.0
"""Seconds from the connection, or from the last answer, to the end of the next request's headers."""

HEAD_SIZE: Final = 32 * 1024
"""Octets of request line and headers."""


WRITE_BUFFER: Final = 32 * 1024
"""Octets that wait in memory for a slow reader before its stream has to wait as well; TLS alone would take
512 KiB.
"""


TAKE_OVER: Final = "wgpy.take_over"
"""The extension in an ASGI scope by which an application takes the connection."""


SWITCH: Final = "wgpy.switch"
"""The same, for another protocol than HTTP."""


class Switched(Protocol):
    """A protocol that a connection is given to. It calls `on_lost` when that has ended."""

    on_lost: Callable[[], None]

    def shutdown(self) -> None:
        """uvicorn stops."""


def _nothing() -> None:
    pass


class StreamProtocol(asyncio.Protocol):
    """A connection that only an answer without end goes over: `coordinator.pump.Sink`."""

    __slots__ = ("_connections", "_takes_more", "_transport", "on_lost", "on_ready")

    def __init__(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        self._transport = transport
        self._connections = connections
        self._takes_more = True
        self.on_ready: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing

    def send(self, data: bytes) -> bool:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        return self._takes_more

    def end(self) -> None:
        self._transport.write(b"0\r\n\r\n")
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def shutdown(self) -> None:
        """uvicorn stops."""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        self._transport.abort()  # who listens to a stream has nothing more to say

    def pause_writing(self) -> None:
        self._takes_more = False

    def resume_writing(self) -> None:
        self._takes_more = True
        self.on_ready()


class GuardedProtocol(HttpToolsProtocol):
    """Hangs up on who connects and says nothing, says it drop by drop, or does not stop."""

    _patience: asyncio.TimerHandle | None = None
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._forget_scope()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions = {TAKE_OVER: self.take_over, SWITCH: self.switch}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def _forget_scope(self) -> None:
        if self.scope is not None:  # it leads back to us, and we shall not wait for the garbage collector
            self.scope["extensions"].clear()

    def switch(self, headers: Iterable[tuple[bytes, bytes]], protocol: Switched) -> asyncio.Transport | None:
        """Answer the request under way with status 101, and give the connection to `protocol`. None when the
        other side is gone.
        """
        if self.transport.is_closing():
            return None
        lines = [b"HTTP/1.1 101 Switching Protocols", *(b"%s: %s" % pair for pair in headers), b"", b""]
        self.transport.write(b"\r\n".join(lines))
        self._give_up()
        connections: set[Any] = self.connections  # uvicorn asks no more of them than `shutdown`
        connections.add(protocol)
        protocol.on_lost = lambda: connections.discard(protocol)
        self.transport.set_protocol(protocol)  # type: ignore[arg-type]
        return self.transport

    def _give_up(self) -> None:
        """The connection goes to another protocol."""
        self.cycle.response_started = self.cycle.response_complete = True
        self._stop_waiting()
        self._forget_scope()
        self.connections.discard(self)

    def take_over(self, headers: Iterable[tuple[bytes, bytes]]) -> StreamProtocol | None:
        """Begin the answer to the request under way, with status 200, and give up the connection to who goes
        on with it. None when the other side is gone.
        """
        if self.transport.is_closing():
            return None
        lines = [b"HTTP/1.1 200 OK"]
        lines += [b"%s: %s" % pair for pair in (*self.server_state.default_headers, *headers)]
        lines += [b"transfer-encoding: chunked", b"connection: close", b"", b""]
        self.transport.write(b"\r\n".join(lines))
        self._give_up()
        connections: set[Any] = self.connections
        stream = StreamProtocol(self.transport, connections)
        connections.add(stream)
        self.transport.set_protocol(stream)
        return stream

    def data_received(self, data: bytes) -> None:
        if self._patience is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_SIZE + 64 * 1024:  # a body may have come with it
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_head()

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_size = 0
        self._patience = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
