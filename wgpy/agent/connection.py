"""One HTTP/1.1 connection over TLS 1.3 to a coordinator (h11 on a trio stream), every wait and size
bounded.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

import h11
import trio

import wgpy
from wgpy.addresses import IPAddress
from wgpy.agent.proxy import open_tcp
from wgpy.errors import CoordinatorError, InvalidMessage
from wgpy.mesh.signing import NO_LEAF
from wgpy.mesh.spki import leaf_hash_untrusted

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS together, one URL."""
REQUEST_TIMEOUT: Final = 20.0
"""Seconds without a single octet of an answer."""
MAX_ANSWER_SIZE: Final = 8 * 1024 * 1024
"""Octets: a full frame and the presence of every peer."""
_CHUNK: Final = 16384

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that was read to its end."""

    status: int
    content_type: str
    body: bytes


@functools.cache
def _tls_context(pinned: bool) -> ssl.SSLContext:
    """In pinned mode the certificate proves nothing by itself: its key's hash is checked against the
    identity.
    """
    if pinned:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection:
    """Open with `Connection.open`, close with `aclose` or as an async context manager.

    `leaf_hash` is that of the certificate seen on this connection, NO_LEAF outside pinned mode.
    """

    def __init__(self, url: str, stream: trio.SSLStream[trio.SocketStream], leaf_hash: bytes) -> None:
        self.url = url
        self.leaf_hash = leaf_hash
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._host = urlsplit(url).netloc

    @classmethod
    async def open(cls, url: str, *, pinned: bool) -> Self:
        """Connect. Raises CoordinatorError with a reason in a few words."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                tcp = await open_tcp(host, port)
                context = _tls_context(pinned)
                stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
                try:
                    await stream.do_handshake()
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
        except trio.TooSlowError:
            raise CoordinatorError(
                f"{url}: no answer within {CONNECT_TIMEOUT:.0f} s", code="unreachable"
            ) from None
        except _BROKEN as error:
            raise CoordinatorError(f"{url}: {reason_of(error)}", code="unreachable") from None
        leaf_hash = NO_LEAF
        if pinned:
            try:
                leaf_hash = leaf_hash_untrusted(stream.getpeercert(binary_form=True) or b"")
            except InvalidMessage:
                await trio.aclose_forcefully(stream)
                raise CoordinatorError(f"{url}: its certificate is not one", code="leaf_mismatch") from None
        return cls(url, stream, leaf_hash)

    @property
    def remote_address(self) -> IPAddress | None:
        """The address at the other end."""
        transport = self._stream.transport_stream
        try:
            return ipaddress.ip_address(transport.socket.getpeername()[0].partition("%")[0])
        except (OSError, ValueError):
            return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close without waiting for the other side."""
        await trio.aclose_forcefully(self._stream)

    async def request(
        self, method: str, path: str, *, bearer: str | None = None, body: bytes | None = None
    ) -> Response:
        """Send a request, read the whole answer. Raises CoordinatorError when the connection breaks or is
        silent.
        """
        try:
            status, content_type = await self._start(method, path, bearer, body)
            found = bytearray()
            while (chunk := await self._read_body()) is not None:
                found += chunk
                if len(found) > MAX_ANSWER_SIZE:
                    raise CoordinatorError(f"{self.url}: an answer of more than {MAX_ANSWER_SIZE} octets")
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
            return Response(status, content_type, bytes(found))
        except _BROKEN as error:
            raise CoordinatorError(f"{self.url}: {reason_of(error)}", code="unreachable") from None
        except h11.ProtocolError as error:
            raise CoordinatorError(f"{self.url}: expected HTTP/1.1, got something else ({error})") from None

    async def lines(
        self, path: str, *, bearer: str, limit: int, silence: float
    ) -> AsyncGenerator[Response | bytes, None]:
        """Stream an answer: first its Response (whole when it is no 200, else without a body), then line by
        line.

        Ends when the server ends it; raises CoordinatorError when a line is over `limit` octets, when the
        connection breaks, or when nothing at all came for `silence` seconds.
        """
        try:
            status, content_type = await self._start("GET", path, bearer, None)
            if status != 200:
                body = bytearray()
                while len(body) < _CHUNK and (chunk := await self._read_body()) is not None:
                    body += chunk
                yield Response(status, content_type, bytes(body))
                return
            yield Response(status, content_type, b"")
            held = bytearray()
            while (chunk := await self._read_body(silence)) is not None:
                *whole, rest = chunk.split(b"\n")
                for part in whole:
                    line = bytes(held + part)
                    held.clear()
                    if line.strip():
                        yield line
                held += rest
                if len(held) > limit:
                    raise CoordinatorError(f"{self.url}: a frame of more than {limit} octets")
        except _BROKEN as error:
            raise CoordinatorError(f"{self.url}: {reason_of(error)}", code="unreachable") from None
        except h11.ProtocolError as error:
            raise CoordinatorError(f"{self.url}: expected HTTP/1.1, got something else ({error})") from None

    async def upgrade(self, path: str, key: str) -> tuple[trio.abc.Stream, str, bytes]:
        """Ask for a WebSocket → the stream below, the server's `Sec-WebSocket-Accept`, and what followed it.

        Raises CoordinatorError.
        """
        headers = [
            ("Host", self._host),
            ("User-Agent", f"wgpy/{wgpy.__version__}"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        try:
            data = self._http.send(h11.Request(method="GET", target=path, headers=headers)) or b""
            data += self._http.send(h11.EndOfMessage()) or b""
            await self._stream.send_all(data)
            event = await self._next_event(REQUEST_TIMEOUT)
        except _BROKEN as error:
            raise CoordinatorError(f"{self.url}: {reason_of(error)}", code="unreachable") from None
        except h11.ProtocolError as error:
            raise CoordinatorError(f"{self.url}: expected HTTP/1.1, got something else ({error})") from None
        if not isinstance(event, h11.InformationalResponse) or event.status_code != 101:
            status = event.status_code if isinstance(event, h11.Response) else "nothing"
            raise CoordinatorError(f"{self.url}: expected a WebSocket, got HTTP {status}")
        answer = dict(event.headers).get(b"sec-websocket-accept", b"").decode("ascii", "replace")
        return self._stream, answer, self._http.trailing_data[0]

    async def _start(self, method: str, path: str, bearer: str | None, body: bytes | None) -> tuple[int, str]:
        headers = [("Host", self._host), ("User-Agent", f"wgpy/{wgpy.__version__}"), ("Accept", "*/*")]
        if bearer is not None:
            headers.append(("Authorization", f"Bearer {bearer}"))
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        data = self._http.send(h11.Request(method=method, target=path, headers=headers)) or b""
        if body is not None:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        with trio.move_on_after(REQUEST_TIMEOUT) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise TimeoutError(f"it took no request within {REQUEST_TIMEOUT:.0f} s")
        while True:
            event = await self._next_event(REQUEST_TIMEOUT)
            if isinstance(event, h11.Response):
                content_type = dict(event.headers).get(b"content-type", b"").decode("ascii", "replace")
                return event.status_code, content_type.partition(";")[0].strip()
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("it closed the connection before it answered")

    async def _read_body(self, silence: float = REQUEST_TIMEOUT) -> bytes | None:
        event = await self._next_event(silence)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _next_event(self, silence: float) -> h11.Event | type:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("it closed the connection")
            if not isinstance(event, type) or event is h11.PAUSED:
                return event
            with trio.move_on_after(silence) as scope:
                self._http.receive_data(bytes(await self._stream.receive_some(_CHUNK)))
            if scope.cancelled_caught:
                raise TimeoutError(f"it was silent for {silence:.0f} s")


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"no TLS 1.3 ({error.reason or 'the handshake failed'})"
    if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, (OSError, ssl.SSLError)):
        return reason_of(error.__cause__)
    if isinstance(error, OSError) and error.__cause__ is not None and isinstance(error.__cause__, OSError):
        return reason_of(error.__cause__)
    if isinstance(error, OSError) and isinstance(error.__cause__, BaseExceptionGroup):
        return reason_of(error.__cause__.exceptions[0])
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)  # trio's own text repeats the address
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the connection failed"
    return "the connection broke"
