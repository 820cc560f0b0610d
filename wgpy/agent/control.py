"""The local socket of a running node: one JSON object a line, asked and answered (docs/agent.md).

The socket's file is for its owner alone; whoever can open it may do all that it offers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from wgpy.agent.places import control_socket, make_private_directory
from wgpy.errors import HostError, WgpyError
from wgpy.mesh.encoding import Fields, JsonObject, decode_json, encode_json

logger = logging.getLogger(__name__)

MAX_REQUEST: Final = 4096
"""Octets in a line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what is done once it went."""

    value: JsonObject
    then: Callable[[], None] | None = None


Operation = Callable[[Fields], Awaitable[Answer]]


def open_control_socket(name: str) -> socket.socket:
    """Listen, mode 0600. The caller holds the network's lock, so a file that is there is a dead one's."""
    path = control_socket(name)
    make_private_directory(path.parent)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise HostError(f"cannot listen at {path}: {error.strerror}") from None
    finally:
        os.umask(mask)
    return listener


async def serve_control(listener: socket.socket, operations: Mapping[str, Operation]) -> None:
    """Answer until cancelled; then the socket's file is removed."""
    path = Path(listener.getsockname())
    listener.setblocking(False)
    stream_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))

    async def converse(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await _converse(stream, operations)
        await trio.aclose_forcefully(stream)

    try:
        await trio.serve_listeners(converse, [stream_listener])
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _converse(stream: trio.SocketStream, operations: Mapping[str, Operation]) -> None:
    held = bytearray()
    async for chunk in stream:
        held += chunk
        while (end := held.find(b"\n")) >= 0:
            line = bytes(held[:end])
            del held[: end + 1]
            answer = await _answer(line, operations)
            await stream.send_all(encode_json(answer.value) + b"\n")
            if answer.then is not None:
                answer.then()
        if len(held) > MAX_REQUEST:
            return


async def _answer(line: bytes, operations: Mapping[str, Operation]) -> Answer:
    try:
        fields = Fields(decode_json(line, MAX_REQUEST))
        operation = operations.get(name := fields.word("op"))
        if operation is None:
            known = ", ".join(sorted(operations))
            return Answer({"error": f"expected one of the operations {known}; got {name}"})
        return await operation(fields)
    except WgpyError as error:
        return Answer({"error": str(error)})
