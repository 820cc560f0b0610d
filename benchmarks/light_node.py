"""A node that costs little: the real protocol over real TLS, without a tunnel and without keeping the map.

It notes what each frame says it leads to. That frames are right is the business of the tests; here every
hundredth node also applies them and compares the hash.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.coordinator.hosts import Follower, Host
from wgpy.mesh.signing import NO_LEAF
from wgpy.mesh.spki import leaf_hash_untrusted
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Challenge, Membership

HEAD = re.compile(rb'^\{"kind":"(\w+)"(?:,"epoch":"(\w+)")?')
LEADS_TO = re.compile(rb'"(?:to|revision)":(\d+)')


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class Refused(Exception):
    """An answer that is none of 2xx."""


class Wire(asyncio.Protocol):
    """One connection: requests with whole answers, and at its end perhaps a stream of lines."""

    def __init__(self, on_line: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self.on_line, self.on_lost = on_line, on_lost
        self.held = bytearray()
        self.line = bytearray()
        self.left = -1  # octets of the chunk under way; -1: none
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.streams = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("hung up"))
        if self.streams:
            self.on_lost()

    async def ask(
        self, method: str, path: str, body: object, bearer: str, headers: str = ""
    ) -> tuple[int, bytes]:
        """`headers` are whole lines, each with its line's end."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: c\r\ncontent-length: {len(data)}\r\n{headers}"
        if bearer:
            head += f"authorization: Bearer {bearer}\r\n"
        self.answer = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(head.encode() + b"\r\n" + data)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        self.held += data
        if not self.streams:
            self._take_answer()
        if self.streams:
            self._take_chunks()

    def _take_answer(self) -> None:
        end = self.held.find(b"\r\n\r\n")
        if end < 0 or self.answer is None or self.answer.done():
            return
        head = bytes(self.held[:end]).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            del self.held[: end + 4]
            self.streams = True
            self.answer.set_result((status, b""))
            return
        found = re.search(rb"content-length: (\d+)", head)
        size = int(found[1]) if found else 0
        if len(self.held) >= end + 4 + size:
            body = bytes(self.held[end + 4 : end + 4 + size])
            del self.held[: end + 4 + size]
            self.answer.set_result((status, body))

    def _take_chunks(self) -> None:
        while self.held:
            if self.left < 0:
                end = self.held.find(b"\r\n")
                if end < 0:
                    return
                self.left = int(self.held[:end], 16)
                del self.held[: end + 2]
                continue
            if self.left == 0:  # the end of a chunk's line
                if len(self.held) < 2:
                    return
                del self.held[:2]
                self.left = -1
                continue
            piece = self.held[: self.left]
            del self.held[: len(piece)]
            self.left -= len(piece)
            self.line += piece
            while (end := self.line.find(b"\n")) >= 0:
                line = bytes(self.line[: end + 1])
                del self.line[: end + 1]
                self.on_line(line)


class LightNode:
    """`revision` is what its stream has led to; `at` when it came there, in perf_counter's seconds."""

    def __init__(self, number: int, url: str, token: Token, context: ssl.SSLContext | None) -> None:
        self.host = Host(number)
        self.url, self.token, self.context = url, token, context
        # A loopback address of its own: strangers are limited by address.
        self.source = f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
        self.bearer = ""
        self.epoch = ""
        self.revision = -1
        self.at = 0.0
        self.kinds: dict[str, int] = {}
        self.follower = Follower() if number % 100 == 0 else None
        self.heard = asyncio.Event()
        self.lost = asyncio.Event()
        self.wire: Wire | None = None

    async def connect(self) -> Wire:
        parts = urlsplit(self.url)
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(
            lambda: Wire(self._take, self.lost.set), parts.hostname, parts.port or 443,
            ssl=self.context, local_addr=(self.source, 0), server_hostname="c" if self.context else None,
        )  # fmt: skip
        self.wire = wire
        return wire

    async def call(self, wire: Wire, method: str, path: str, body: object = None) -> Any:
        status, answer = await wire.ask(method, path, body, self.bearer)
        if status // 100 != 2:
            raise Refused(f"{method} {path}: {status} {answer[:200]!r}")
        return json.loads(answer)

    def _leaf(self, wire: Wire) -> bytes:
        if self.context is None:
            return NO_LEAF  # TLS ends before the coordinator
        assert wire.transport is not None
        tls = wire.transport.get_extra_info("ssl_object")
        return leaf_hash_untrusted(tls.getpeercert(binary_form=True))

    async def join(self) -> None:
        """Become a node and sign the record; hangs up."""
        wire = await self.connect()
        leaf, identity = self._leaf(wire), self.token.identity_hash
        challenge = Challenge.from_json(await self.call(wire, "POST", "/v1/challenge", {}))
        asked = self.host.join_request(self.token.secret, challenge, identity, leaf)
        self.host.membership = Membership.from_json(
            await self.call(wire, "POST", "/v1/join", asked.to_json())
        )
        await self.open_session(wire)
        await self.sign(wire, 1)
        assert wire.transport is not None
        wire.transport.close()

    async def open_session(self, wire: Wire) -> None:
        assert self.host.membership is not None
        self.bearer = ""
        challenge = Challenge.from_json(await self.call(wire, "POST", "/v1/challenge", {}))
        asked = self.host.session_request(
            self.host.membership, challenge, self.token.identity_hash, self._leaf(wire)
        )
        self.bearer = (await self.call(wire, "POST", "/v1/session", asked.to_json()))["bearer"]

    async def sign(self, wire: Wire, seq: int) -> int:
        """The revision that a record of this seq makes: a change that all peers hear of."""
        assert self.host.membership is not None
        record = self.host.record(self.host.membership, seq).to_json()
        return int((await self.call(wire, "PUT", "/v1/node/record", record))["revision"])

    async def watch(self) -> None:
        """Follow the stream, from where we stand; returns with its first line that leads somewhere."""
        self.heard.clear()
        self.lost.clear()
        wire = await self.connect()
        path = "/v1/watch" + (f"?since={self.epoch}:{self.revision}" if self.epoch else "")
        status, answer = await wire.ask("GET", path, None, self.bearer)
        if status == 401:
            await self.open_session(wire)
            status, answer = await wire.ask("GET", path, None, self.bearer)
        if status != 200:
            raise Refused(f"watch: {status} {answer[:200]!r}")
        await self.heard.wait()

    def hang_up(self) -> None:
        if self.wire is not None and self.wire.transport is not None:
            self.wire.transport.abort()

    def _take(self, line: bytes) -> None:
        head = HEAD.match(line)
        assert head is not None, line[:100]
        kind = head[1].decode()
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.follower is not None:
            self.follower.take(line)
            self.follower.frames.clear()
            assert not self.follower.refused, "a frame did not fit the map"
        if kind in ("full", "delta", "keepalive"):
            found = LEADS_TO.search(line)
            assert found is not None
            self.epoch = (head[2] or b"").decode()
            revision = int(found[1])
            if revision > self.revision:
                self.revision, self.at = revision, time.perf_counter()
            self.heard.set()
