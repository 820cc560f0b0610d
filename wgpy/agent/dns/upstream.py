"""Asking other name servers: a query's octets go out, a reply's come back as they are."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent.dns.message import is_reply_to

logger = logging.getLogger(__name__)

PORT: Final = 53
Prepare = Callable[[trio.socket.SocketType, Endpoint], None]
"""What is done to a socket before anything leaves by it for that server."""
TRY_TIME: Final = 1.5
"""Seconds until the next server is asked as well."""
TIMEOUT: Final = 5.0
"""Seconds for all of them: what the programs that ask us wait before they ask again."""
MAX_UDP: Final = 4096
MAX_TCP: Final = 65535


class Reply(NamedTuple):
    """The octets, under the id of the question, and who sent them."""

    data: bytes
    server: Endpoint

    @property
    def code(self) -> int:
        return self.data[3] & 0xF


async def ask_over_udp(asked: bytes, servers: Sequence[Endpoint], prepare: Prepare) -> Reply | None:
    """The first reply to the query `asked`; None: none within TIMEOUT.

    Each server gets it from a port of its own under an id of its own, so that a reply cannot be guessed; the
    next is asked when the one before failed or has been silent for TRY_TIME.
    """
    found: Reply | None = None

    async def ask_one(server: Endpoint, failed: trio.Event) -> None:
        nonlocal found
        sent = secrets.token_bytes(2) + asked[2:]
        try:
            reply = Reply(await _exchange_udp(sent, server, prepare), server)
        except OSError as error:
            logger.debug("name server %s: %s", server, error)
            failed.set()
            return
        if reply.code in _SERVERS_OWN_FAULT:
            failed.set()
            if server is not servers[-1]:
                return
        if found is None:
            found = Reply(asked[:2] + reply.data[2:], server)
        nursery.cancel_scope.cancel()

    with trio.move_on_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for server in servers:
                failed = trio.Event()
                nursery.start_soon(ask_one, server, failed)
                with trio.move_on_after(TRY_TIME):
                    await failed.wait()
    return found


_SERVERS_OWN_FAULT: Final = (2, 5)
"""SERVFAIL and REFUSED: another server may know better."""


async def _exchange_udp(sent: bytes, server: Endpoint, prepare: Prepare) -> bytes:
    with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as socket:
        prepare(socket, server)
        await socket.connect(_sockaddr(server))
        await socket.send(sent)
        while True:
            reply = await socket.recv(MAX_UDP)
            if is_reply_to(reply, sent):
                return reply


async def ask_over_tcp(asked: bytes, servers: Sequence[Endpoint], prepare: Prepare) -> Reply | None:
    """As `ask_over_udp`, one server after the other."""
    with trio.move_on_after(TIMEOUT):
        for server in servers:
            try:
                with trio.socket.socket(_family(server), trio.socket.SOCK_STREAM) as socket:
                    prepare(socket, server)
                    await socket.connect(_sockaddr(server))
                    stream = trio.SocketStream(socket)
                    await stream.send_all(len(asked).to_bytes(2, "big") + asked)
                    reply = await read_framed(stream)
            except OSError as error:
                logger.debug("name server %s: %s", server, error)
                continue
            except trio.BrokenResourceError:
                continue
            if reply is not None and is_reply_to(reply, asked):
                return Reply(reply, server)
    return None


async def read_framed(stream: trio.SocketStream) -> bytes | None:
    """A message behind its length, as DNS over TCP has them; None at the end."""
    held = bytearray()
    while len(held) < 2 or len(held) < 2 + int.from_bytes(held[:2], "big"):
        wanted = 2 if len(held) < 2 else 2 + int.from_bytes(held[:2], "big")
        chunk = await stream.receive_some(wanted - len(held))
        if not chunk:
            return None
        held += chunk
    return bytes(held[2:])


def at_port(servers: Sequence[IPAddress], port: int = PORT) -> list[Endpoint]:
    """Name servers as endpoints. A zone by an interface's name is not followed."""
    found = []
    for address in servers:
        zone = getattr(address, "scope_id", None)
        found.append(Endpoint(address, port, _index(zone)) if zone else Endpoint(address, port))
    return found


def _index(zone: str) -> int:
    try:
        return int(zone) if zone.isdigit() else trio.socket.if_nametoindex(zone)
    except OSError:
        return 0


def _family(server: Endpoint) -> int:
    return trio.socket.AF_INET if server.address.version == 4 else trio.socket.AF_INET6


def _sockaddr(server: Endpoint) -> tuple[str, int] | tuple[str, int, int, int]:
    host = str(server.address).partition("%")[0]
    return (host, server.port) if server.address.version == 4 else (host, server.port, 0, server.scope_id)
