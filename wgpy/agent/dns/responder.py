"""The responder: answers for the mesh from its zone, and hands everything else on.

It listens on the node's own mesh addresses. Who asks from this host gets any name; what comes through the
tunnel gets the mesh's names and nothing else, so that no node is an open resolver for another, unless it is
their exit node or a gateway of external clients.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket as stdlib_socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import trio

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent import marked
from wgpy.agent.dns.message import (
    Code,
    InvalidQuery,
    Name,
    Query,
    encode_reply,
    is_truncated,
    parse_query_untrusted,
)
from wgpy.agent.dns.upstream import MAX_TCP, Prepare, Reply, ask_over_tcp, ask_over_udp, at_port, read_framed
from wgpy.agent.dns.zone import Zone
from wgpy.errors import HostError

logger = logging.getLogger(__name__)

MAX_PENDING: Final = 256
"""Questions that are with other servers at once; more are refused as a failure of ours."""
MAX_STREAMS: Final = 32
"""TCP connections at once."""
STREAM_TIMEOUT: Final = 10.0
"""Seconds that a TCP connection may rest."""

_IP_PKTINFO: Final = 8
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


Servers = Callable[[], Sequence[Endpoint] | None]
"""Whom to ask, at each question anew; None: nobody, and we refuse."""


class Responder:
    """What it is asked beside the mesh's names it asks of others: `upstreams` for this host, `members` for
    whoever comes through the tunnel, and `own` for names that are `kept_outside` of it, by marked sockets.
    """

    def __init__(self, interface: str, upstreams: Servers) -> None:
        self.zone = Zone(("invalid",))
        """What is answered; put another one here at any time."""
        self.others: Callable[[Query], Sequence[Endpoint] | None] = lambda _: None
        """The responder of another network on this host that knows the name, if one does."""
        self._interface = interface
        self.members: Servers = lambda: None
        self.own: Servers = upstreams
        self.kept_outside: frozenset[Name] = frozenset()
        self.is_outside: Callable[[IPAddress], bool] = lambda _: False
        """Whether a domain's name server is in the LAN, which an exit node leaves outside."""
        self.answered: Callable[[Sequence[Endpoint], Reply | None], None] = lambda _asked, _reply: None
        """Told of each question for the rest of the world: who was asked in turn, and what came of it."""
        self._upstreams = upstreams
        self._pending: dict[tuple[bytes, bool, bool], _Pending] = {}
        self._sockets: list[trio.socket.SocketType] = []
        self._listeners: list[trio.SocketListener] = []
        self.servers: tuple[IPAddress, ...] = ()
        """Where it listens."""

    def bind(self, addresses: Sequence[IPAddress], port: int) -> None:
        """Raises HostError when none of the addresses can be had."""
        failure: OSError | None = None
        bound = []
        for address in addresses:
            try:
                datagrams, listener = _bind(address, port)
            except OSError as error:
                failure = error
                continue
            bound.append(address)
            self._sockets.append(trio.socket.from_stdlib_socket(datagrams))
            self._listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(listener)))
        self.servers = tuple(bound)
        if not bound and failure is not None:
            why = "another name server has it" if failure.errno == errno.EADDRINUSE else failure.strerror
            where = " and ".join(map(str, addresses))
            raise HostError(f"cannot answer names at {where}, port {port}: {why}")

    async def run(self) -> None:
        """Answer until cancelled, then close."""
        try:
            async with trio.open_nursery() as nursery:
                for socket in self._sockets:
                    nursery.start_soon(self._serve_datagrams, socket, nursery)
                streams = trio.CapacityLimiter(MAX_STREAMS)
                for listener in self._listeners:
                    nursery.start_soon(self._serve_streams, listener, streams)
        finally:
            self.close()

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()
        for listener in self._listeners:
            listener.socket.close()

    # --- UDP --------------------------------------------------------------------------------------

    async def _serve_datagrams(self, socket: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                data, ancillary, _, address = await socket.recvmsg(1500, 64)
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                continue  # an ICMP error of a reply of ours
            try:
                query = parse_query_untrusted(data)
            except InvalidQuery:
                continue
            sender = cast("tuple[Any, ...]", address)
            # From our own address nobody else can send: a peer's packet with it is dropped by the tunnel.
            is_local = any(sender[0] == str(server) for server in self.servers)
            is_ours = is_local or _arrived_on(ancillary) != _index_of(self._interface)
            answer = self._answer_at_once(query, query.size, is_ours=is_ours)
            if isinstance(answer, bytes):
                await self._send(socket, answer, sender)
            else:
                nursery.start_soon(self._forward_datagram, socket, sender, query, data, answer)

    async def _forward_datagram(
        self,
        socket: trio.socket.SocketType,
        sender: tuple[Any, ...],
        query: Query,
        data: bytes,
        whom: _Whom,
    ) -> None:
        reply = await self._forward(query, data, whom, over_tcp=False)
        if len(reply) > query.size and not is_truncated(reply):
            reply = encode_reply(query, limit=0, authoritative=False)
        await self._send(socket, reply, sender)

    @staticmethod
    async def _send(socket: trio.socket.SocketType, reply: bytes, sender: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):
            await socket.sendto(reply, sender)

    # --- TCP --------------------------------------------------------------------------------------

    async def _serve_streams(self, listener: trio.SocketListener, limit: trio.CapacityLimiter) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except OSError as error:
                    logger.debug("cannot accept: %s", error)
                    await trio.sleep(0.1)
                    continue
                if limit.available_tokens:
                    nursery.start_soon(self._converse, stream, limit)
                else:
                    await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SocketStream, limit: trio.CapacityLimiter) -> None:
        # A connection does not say which interface it came in by, but who talks to himself is this host.
        is_ours = stream.socket.getpeername()[0] == stream.socket.getsockname()[0]
        async with limit:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, InvalidQuery):
                while True:
                    with trio.move_on_after(STREAM_TIMEOUT) as scope:
                        data = await read_framed(stream)
                    if scope.cancelled_caught or data is None:
                        break
                    query = parse_query_untrusted(data)
                    reply = self._answer_at_once(query, MAX_TCP, is_ours=is_ours)
                    if not isinstance(reply, bytes):
                        reply = await self._forward(query, data, reply, over_tcp=True)
                    await stream.send_all(len(reply).to_bytes(2, "big") + reply)
            await trio.aclose_forcefully(stream)

    # --- answers ----------------------------------------------------------------------------------

    def _answer_at_once(self, query: Query, limit: int, *, is_ours: bool) -> bytes | _Whom:
        """The reply, or who else has to be asked."""
        if query.code:
            return encode_reply(query, query.code, limit=limit, authoritative=False)
        reply = self.zone.answer(query, limit)
        if reply is not None:
            return reply
        whom = self._whom(query, is_ours=is_ours) if query.recursion_desired else None
        return whom or encode_reply(query, Code.REFUSED, limit=limit, authoritative=False)

    async def _forward(self, query: Query, data: bytes, whom: _Whom, *, over_tcp: bool) -> bytes:
        """Ask those who know. The same question asked again while it is under way is asked once: that ends
        loops, too, of servers that hand our questions back to us.
        """
        key = (data[2:], over_tcp, whom.prepare is _mark)
        pending = self._pending.get(key)
        if pending is not None:
            await pending.done.wait()
        elif len(self._pending) < MAX_PENDING:
            pending = self._pending[key] = _Pending()
            try:
                ask = ask_over_tcp if over_tcp else ask_over_udp
                pending.reply = await ask(data, whom.servers, whom.prepare)
                if whom.is_rest:
                    self.answered(whom.servers, pending.reply)
            finally:
                del self._pending[key]
                pending.done.set()
        if pending is None or pending.reply is None:
            return encode_reply(query, Code.SERVER_FAILURE, limit=MAX_TCP, authoritative=False)
        return data[:2] + pending.reply.data[2:]

    def _mark_beside_exit(self, socket: trio.socket.SocketType, server: Endpoint) -> None:
        if self.is_outside(server.address):
            marked.adopt(socket)

    def _whom(self, query: Query, *, is_ours: bool) -> _Whom | None:
        """None: nobody is asked for who asks this."""
        rest = self._upstreams() if is_ours else self.members()
        if rest is None and not is_ours:
            return None
        if (listed := self.zone.servers_for(query.name)) is not None:
            return _Whom(at_port(listed), self._mark_beside_exit)
        if is_ours and query.name in self.kept_outside:
            servers = self.own()
            return None if servers is None else _Whom(servers, _mark)
        if is_ours and (other := self.others(query)) is not None:
            return _Whom(other)
        return None if rest is None else _Whom(rest, is_rest=is_ours)


def _leave_as_it_is(_socket: trio.socket.SocketType, _server: Endpoint) -> None:
    pass


def _mark(socket: trio.socket.SocketType, _server: Endpoint) -> None:
    """Have it reach the server whatever leaves by an exit node."""
    marked.adopt(socket)


@dataclass(frozen=True, slots=True)
class _Whom:
    """`servers` in turn, by sockets that `prepare` was called with. `is_rest`: for this host, about the rest
    of the world.
    """

    servers: Sequence[Endpoint]
    prepare: Prepare = _leave_as_it_is
    is_rest: bool = False


class _Pending:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Reply | None = None


def _bind(address: IPAddress, port: int) -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    """Sockets for datagrams and for connections. Raises OSError, with none of them left open."""
    is_v4 = address.version == 4
    family = stdlib_socket.AF_INET if is_v4 else stdlib_socket.AF_INET6
    level = stdlib_socket.IPPROTO_IP if is_v4 else stdlib_socket.IPPROTO_IPV6
    opened = []
    try:
        for kind in (stdlib_socket.SOCK_DGRAM, stdlib_socket.SOCK_STREAM):
            socket = stdlib_socket.socket(family, kind | stdlib_socket.SOCK_CLOEXEC)
            opened.append(socket)
            if kind == stdlib_socket.SOCK_STREAM:
                socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
            # The link may be down, or its address be added in a moment.
            socket.setsockopt(level, _IP_FREEBIND if is_v4 else _IPV6_FREEBIND, 1)
            socket.setsockopt(level, _IP_PKTINFO if is_v4 else stdlib_socket.IPV6_RECVPKTINFO, 1)
            socket.setblocking(False)
            socket.bind((str(address), port))
        opened[1].listen(MAX_STREAMS)
    except BaseException:
        for socket in opened:
            socket.close()
        raise
    return opened[0], opened[1]


def _arrived_on(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """The index of the interface that a datagram came in by."""
    for level, kind, data in ancillary:
        if (level, kind) == (stdlib_socket.IPPROTO_IP, _IP_PKTINFO):
            return int(struct.unpack_from("=I", data)[0])
        if (level, kind) == (stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_PKTINFO):
            return int(struct.unpack_from("=I", data, 16)[0])
    return 0


def _index_of(interface: str) -> int:
    try:
        return stdlib_socket.if_nametoindex(interface)
    except OSError:
        return -1
