"""Connections that stay outside of our own tunnel: while all else leaves by an exit node, they are marked.

One process is one node, so the mark is the process's. Whoever opens a socket that must reach the coordinator,
a relay or a STUN server whatever the routes say opens it here, or hands it to `adopt`.
"""

from __future__ import annotations

import logging
import socket
from typing import Final
from weakref import WeakSet

import trio

logger = logging.getLogger(__name__)

_SO_MARK: Final = 36
_mark = 0
_sockets: WeakSet[trio.socket.SocketType] = WeakSet()
_known: dict[tuple[str, int], list[tuple[str, int]]] = {}


def set_mark(mark: int) -> int:
    """From now on all of them carry it, those that are open too; 0: none. Returns the mark."""
    global _mark  # noqa: PLW0603 (the mark is the process's)
    if mark != _mark:
        _mark = mark
        for each in list(_sockets):
            _put(each)
    return mark


def adopt(each: trio.socket.SocketType) -> None:
    """Have this socket carry the mark for as long as it lives."""
    _sockets.add(each)
    if _mark:
        _put(each)


def _put(each: trio.socket.SocketType) -> None:
    try:
        each.setsockopt(socket.SOL_SOCKET, _SO_MARK, _mark)
    except OSError as error:
        logger.debug("a socket cannot be marked: %s", error)


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """Connect to the first address of the host that answers, of either family. A name that cannot be looked
    up is what it was when it last could: the resolver may be beyond the tunnel. Raises OSError.
    """
    errors: list[OSError] = []
    for address, number in await _addresses(host, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        each = trio.socket.socket(family, socket.SOCK_STREAM)
        adopt(each)
        try:
            with trio.move_on_after(_ATTEMPT_TIMEOUT) as attempt:
                await each.connect((address, number))
            if not attempt.cancelled_caught:
                return trio.SocketStream(each)
            errors.append(TimeoutError(110, f"no answer from {address}"))
        except OSError as error:
            errors.append(error)
        except BaseException:
            each.close()
            raise
        each.close()
    raise errors[0] if errors else OSError(f"no address of {host}")


_ATTEMPT_TIMEOUT: Final = 4.0


async def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        if (known := _known.get((host, port))) is not None:
            return known
        raise
    addresses = list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
    _known[host, port] = addresses
    return addresses
