"""A relay's TLS side (docs/relay.md §5), for nodes whose UDP does not get out: WebSockets, each of whose
binary messages is a datagram for its UDP port, and back.

Who is behind one is asked by the relay itself, as at its UDP port. Slow readers lose datagrams.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections import Counter
from pathlib import Path
from typing import Final

import h11
import trio

from wgpy.errors import ConfigError, HostError
from wgpy.mesh.websocket import MAX_MESSAGE, FrameReader, Opcode, WebSocketError, accept_key, encode_frame

logger = logging.getLogger(__name__)

PATH: Final = b"/v1/relay/tunnel"
MAX_TUNNELS: Final = 4096
MAX_OF_ADDRESS: Final = 256
"""Whole offices are behind one address."""
FIRST_WORD: Final = 15.0
"""Seconds for TLS, and for the request."""
SILENCE: Final = 90.0
"""Seconds without a word after which a tunnel ends, as a session does."""
_CHUNK: Final = 65536
_BROKEN: Final = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    WebSocketError,
    h11.ProtocolError,
)

Stream = trio.SSLStream[trio.SocketStream]


def load_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises ConfigError for files that are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {certificate} and {key}: {error.strerror or error}") from None
    return context


class Tunnels:
    """`run` until it is cancelled. `relay_port` is the relay's UDP port on this host."""

    def __init__(self, context: ssl.SSLContext, port: int, relay_port: int) -> None:
        self._context = context
        self._port = port
        self._relay_port = relay_port
        self._of: Counter[str] = Counter()
        """How many there are, by address."""

    async def run(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts with the port. Raises HostError when it is taken."""
        try:
            listeners = await trio.open_tcp_listeners(self._port)
        except OSError as error:
            raise HostError(f"cannot listen on TCP port {self._port}: {error.strerror}") from None
        task_status.started(listeners[0].socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._serve, listeners, handler_nursery=nursery)

    async def _serve(self, tcp: trio.SocketStream) -> None:
        """Nothing that the other side does raises."""
        try:
            address = str(tcp.socket.getpeername()[0])
        except OSError:
            address = "?"
        if self._of.total() >= MAX_TUNNELS or self._of[address] >= MAX_OF_ADDRESS:
            await trio.aclose_forcefully(tcp)
            return
        self._of[address] += 1
        stream = trio.SSLStream(tcp, self._context, server_side=True, https_compatible=True)
        try:
            with contextlib.suppress(*_BROKEN):
                if (rest := await self._accept(stream)) is not None:
                    await self._carry(stream, rest)
        finally:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _accept(self, stream: Stream) -> bytes | None:
        """Answer the request → what followed it; None: it asked for something else."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=8192)
        with trio.move_on_after(FIRST_WORD):
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_CHUNK)))
            if not isinstance(event, h11.Request):
                return None
            headers = dict(event.headers)
            key = headers.get(b"sec-websocket-key", b"").decode("ascii", "replace")
            is_ours = event.target == PATH and headers.get(b"upgrade", b"").lower() == b"websocket"
            if not is_ours or not key.isascii():
                closing = [("Content-Length", "0"), ("Connection", "close")]
                answer = h11.Response(status_code=404, headers=closing)
                await stream.send_all(http.send(answer) or b"")
                return None
            switch = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
            switch.append(("Sec-WebSocket-Accept", accept_key(key)))
            answer_101 = h11.InformationalResponse(status_code=101, headers=switch)
            await stream.send_all(http.send(answer_101) or b"")
            return http.trailing_data[0]
        return None

    async def _carry(self, stream: Stream, rest: bytes) -> None:
        udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        try:
            await udp.connect(("127.0.0.1", self._relay_port))
            sending = trio.Lock()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_back, udp, stream, sending)
                with contextlib.suppress(*_BROKEN):
                    await self._pass_on(stream, rest, udp, sending)
                nursery.cancel_scope.cancel()
        finally:
            udp.close()

    async def _pass_on(
        self, stream: Stream, rest: bytes, udp: trio.socket.SocketType, sending: trio.Lock
    ) -> None:
        reader, chunk = FrameReader(), rest
        while True:
            for opcode, data in reader.feed(chunk):
                if opcode == Opcode.BINARY and data:
                    with contextlib.suppress(OSError):
                        await udp.send(data)
                elif opcode == Opcode.PING:
                    async with sending:
                        await stream.send_all(encode_frame(Opcode.PONG, data, None))
                elif opcode == Opcode.CLOSE:
                    return
            chunk = b""
            with trio.move_on_after(SILENCE):
                chunk = bytes(await stream.receive_some(_CHUNK))
            if not chunk:
                return

    async def _pass_back(self, udp: trio.socket.SocketType, stream: Stream, sending: trio.Lock) -> None:
        with contextlib.suppress(*_BROKEN):
            while True:
                data = await udp.recv(MAX_MESSAGE + 1)
                if len(data) <= MAX_MESSAGE:
                    async with sending:
                        await stream.send_all(encode_frame(Opcode.BINARY, data, None))
