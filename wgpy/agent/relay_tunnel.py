"""A relay over TLS, for where UDP does not get out (docs/relay.md §5): a WebSocket, at whose near end is a
UDP socket on loopback, which the engine takes for the relay.

What goes through needs no trust in TLS: the relay proves its key in REGISTERED, and all else is WireGuard's.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Awaitable, Callable

import trio

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent.connection import Connection
from wgpy.errors import CoordinatorError
from wgpy.mesh.websocket import (
    MASK_SIZE,
    MAX_MESSAGE,
    FrameReader,
    Opcode,
    WebSocketError,
    encode_frame,
    is_accepted,
)

PATH = "/v1/relay/tunnel"
PING_INTERVAL = 25.0
"""Seconds: what is in between closes connections that seem idle."""
SILENCE = 60.0
"""Seconds without a word after which the connection is dead."""
_CHUNK = 65536


class RelayTunnel:
    """Open with `RelayTunnel.open`, then `run` until it breaks or is cancelled. `remote` is where the engine
    finds the relay meanwhile, for datagrams from `port`, its own.
    """

    def __init__(self, connection: Connection, stream: trio.abc.Stream, rest: bytes, port: int) -> None:
        self._connection = connection
        self._stream = stream
        self._rest = rest
        self._port = port
        self._socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._sending = trio.Lock()
        self.remote: Endpoint

    @classmethod
    async def open(cls, url: str, port: int, loopback: IPAddress) -> RelayTunnel:
        """Raises CoordinatorError when there is no way to it over TLS either."""
        connection = await Connection.open(url, pinned=True)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            stream, answer, rest = await connection.upgrade(PATH, key)
            if not is_accepted(key, answer):
                raise CoordinatorError(f"{url}: expected a WebSocket, got something else")
            tunnel = cls(connection, stream, rest, port)
            await tunnel._socket.bind((str(loopback), 0))
            address, bound = tunnel._socket.getsockname()[:2]
            assert address == str(loopback)
            tunnel.remote = Endpoint(loopback, bound)
        except BaseException:
            await connection.aclose()
            raise
        return tunnel

    async def run(self) -> None:
        """Returns when the connection breaks."""
        try:
            async with trio.open_nursery() as nursery:
                for task in (self._send_datagrams, self._receive_frames, self._ping):
                    nursery.start_soon(self._until_broken, task, nursery.cancel_scope)
        finally:
            self._socket.close()
            with trio.CancelScope(shield=True):
                await self._connection.aclose()

    async def _until_broken(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError, WebSocketError):
            await task()
        scope.cancel()

    async def _send(self, opcode: Opcode, data: bytes) -> None:
        frame = encode_frame(opcode, data, os.urandom(MASK_SIZE))
        async with self._sending:
            await self._stream.send_all(frame)

    async def _send_datagrams(self) -> None:
        while True:
            data, sender = await self._socket.recvfrom(MAX_MESSAGE + 1)
            # Nobody but our engine: any program on this host could send there.
            if sender[1] == self._port and 0 < len(data) <= MAX_MESSAGE:
                await self._send(Opcode.BINARY, data)

    async def _receive_frames(self) -> None:
        reader = FrameReader()
        chunk: bytes = self._rest
        to = (str(self.remote.address), self._port)
        while True:
            for opcode, data in reader.feed(chunk):
                if opcode == Opcode.BINARY and data:
                    with contextlib.suppress(OSError):  # the engine is between two sockets
                        await self._socket.sendto(data, to)
                elif opcode == Opcode.PING:
                    await self._send(Opcode.PONG, data)
                elif opcode == Opcode.CLOSE:
                    return
            with trio.move_on_after(SILENCE):
                chunk = bytes(await self._stream.receive_some(_CHUNK))
                if chunk:
                    continue
            return

    async def _ping(self) -> None:
        while True:
            await trio.sleep(PING_INTERVAL)
            await self._send(Opcode.PING, b"")
