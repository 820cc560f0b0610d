"""The relay over TLS (docs/relay.md §5): a WebSocket on the API's port, each of whose binary messages is a
datagram for the relay that runs beside us, and back.

Nobody is asked who he is: the relay's own cookie, ticket and signature come through like everybody's. A
stranger has so many attempts, one address so many tunnels, and all of them a bound. Slow readers lose
datagrams.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.api.context import context_of
from coordinator.api.edge import limit_stranger
from coordinator.api.table import Endpoint, Needs
from coordinator.errors import Refusal
from coordinator.http_protocol import SWITCH
from wgpy.mesh.websocket import MAX_MESSAGE, FrameReader, Opcode, WebSocketError, accept_key, encode_frame

MAX_TUNNELS: Final = 4096
MAX_OF_ADDRESS: Final = 256
"""Whole offices are behind one address."""
SILENCE: Final = 90.0
"""Seconds without a datagram after which a tunnel ends, as a relay's session does."""
_LOOPBACK: Final = "127.0.0.1"

_tunnels: Final[Counter[str]] = Counter()
"""How many there are, by address."""


class Tunnel(asyncio.Protocol):
    """Both ends of one: the WebSocket's connection, and the socket whose other end is the relay."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._reader = FrameReader()
        self._stream: asyncio.Transport | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._takes_more = True
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.on_lost: Callable[[], None] = lambda: None
        _tunnels[address] += 1

    def begin(self, stream: asyncio.Transport, udp: asyncio.DatagramTransport) -> None:
        self._stream, self._udp = stream, udp
        self._heard_at = asyncio.get_running_loop().time()
        self._look()

    def end(self) -> None:
        """Of both ends."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._address:
            _tunnels[self._address] -= 1
            if not _tunnels[self._address]:
                del _tunnels[self._address]
            self._address = ""

    def shutdown(self) -> None:
        """uvicorn stops."""
        self.end()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_at > SILENCE:
            self.end()
            return
        self._watch = loop.call_later(SILENCE / 3, self._look)

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Each end is told of by who opened it."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            frames = self._reader.feed(data)
        except WebSocketError:
            self.end()
            return
        for opcode, content in frames:
            if opcode == Opcode.BINARY and self._udp is not None:
                self._udp.sendto(content)
            elif opcode == Opcode.PING and self._stream is not None:
                self._stream.write(encode_frame(Opcode.PONG, content, None))
            elif opcode == Opcode.CLOSE:
                self.end()

    def pause_writing(self) -> None:
        self._takes_more = False

    def resume_writing(self) -> None:
        self._takes_more = True

    # --- the relay ---

    def relay_sent(self, data: bytes) -> None:
        if self._takes_more and self._stream is not None and len(data) <= MAX_MESSAGE:
            self._stream.write(encode_frame(Opcode.BINARY, data, None))


async def open_tunnel(request: Request) -> ASGIApp:
    limit_stranger(request)
    context, switch = context_of(request), request.scope.get("extensions", {}).get(SWITCH)
    key = request.headers.get("sec-websocket-key", "")
    if context.relay_port is None or switch is None:
        raise Refusal("not_found", "this coordinator runs no relay")
    if request.headers.get("upgrade", "").lower() != "websocket" or not 1 <= len(key) <= 64:
        raise Refusal("malformed", "this takes WebSockets (RFC 6455) alone")
    address = "" if request.client is None else request.client.host
    if _tunnels.total() >= MAX_TUNNELS or _tunnels[address or "?"] >= MAX_OF_ADDRESS:
        raise Refusal("busy", "too many tunnels: try again later")
    return _Switch(Tunnel(address or "?"), context.relay_port, key)


class _Switch:
    """The answer: 101, and the connection is the tunnel's."""

    def __init__(self, tunnel: Tunnel, port: int, key: str) -> None:
        self._tunnel = tunnel
        self._port = port
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        try:
            udp, _ = await loop.create_datagram_endpoint(
                lambda: _RelayEnd(self._tunnel), remote_addr=(_LOOPBACK, self._port)
            )
        except OSError:
            self._tunnel.end()
            raise
        headers = (
            (b"upgrade", b"websocket"),
            (b"connection", b"upgrade"),
            (b"sec-websocket-accept", accept_key(self._key).encode()),
        )
        stream = scope["extensions"][SWITCH](headers, self._tunnel)
        if stream is None:
            udp.close()
            self._tunnel.end()
            return
        self._tunnel.begin(stream, udp)


class _RelayEnd(asyncio.DatagramProtocol):
    """Hands on what the relay sends."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._tunnel.relay_sent(data)

    def error_received(self, exc: Exception) -> None:
        """The relay is being started again; what it loses, tunnels repeat."""


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/relay/tunnel", open_tunnel, Needs.NOTHING, "relay.tunnel",
        "A WebSocket to the coordinator's relay (docs/relay.md §5)", raw=True, status=101,
        codes=("not_found", "malformed", "busy"), media=(),
    ),
)  # fmt: skip
