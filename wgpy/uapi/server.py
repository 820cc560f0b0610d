"""Serving the userspace interface on its socket: wg(8) connects, asks, and goes."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Final, Protocol

import trio

from wgpy.clock import boottime
from wgpy.uapi.configuration import Configurable, Configuration
from wgpy.uapi.listener import UapiListener
from wgpy.uapi.messages import (
    MAX_LINE,
    DeviceReport,
    SetParser,
    UapiError,
    encode_status,
    get_lines,
)

logger = logging.getLogger(__name__)

LINES_A_TURN: Final = 1000
"""Lines read or written before handshakes and packets get their turn."""

LOOK_INTERVAL: Final = 2.0
"""Seconds between looks at the socket's file where it cannot be watched."""

_READ_SIZE: Final = 1 << 16


class ServedDevice(Configurable, Protocol):
    def report(self) -> DeviceReport: ...

    def changed(self) -> None: ...


async def serve_uapi(
    listener: UapiListener,
    device: ServedDevice,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until the socket's file is removed: that is how one asks a device to end. Closes the listener."""

    async def converse(stream: trio.SocketStream) -> None:
        try:
            await _Conversation(stream, device).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever asked did not wait for the answer
        finally:
            await trio.aclose_forcefully(stream)

    try:
        listener.socket.setblocking(False)
        # Trio closes what it serves; ours stays open until its file is removed.
        stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener.socket.dup()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, converse, [stream])
            task_status.started()
            await _wait_removed(listener)
            logger.info("%s was removed", listener.path)
            nursery.cancel_scope.cancel()
    finally:
        listener.close()


async def _wait_removed(listener: UapiListener) -> None:
    try:
        fd = listener.watch()
    except FileNotFoundError:
        return
    except OSError as error:
        # Watches are few on some hosts; looking costs a wake-up instead.
        logger.debug("looking at %s every %g s: %s", listener.path, LOOK_INTERVAL, error.strerror)
        while listener.is_ours():  # noqa: ASYNC110
            await trio.sleep(LOOK_INTERVAL)
        return
    try:
        while listener.is_ours():
            await trio.lowlevel.wait_readable(fd)
            os.read(fd, 4096)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)


class _Conversation:
    """One connection: any number of requests, each answered by one write."""

    def __init__(self, stream: trio.SocketStream, device: ServedDevice) -> None:
        self._stream = stream
        self._device = device
        self._buffer = bytearray()

    async def run(self) -> None:
        while True:
            try:
                operation = await self._read_line()
            except UapiError:
                return
            if operation == b"get=1":
                await self._get()
            elif operation != b"set=1" or not await self._set():
                return

    async def _get(self) -> None:
        following = await self._read_byte()
        if following is None:
            return
        if following != b"\n":
            logger.error("UAPI: get=1 is followed by an empty line, not by more")
            await self._stream.send_all(encode_status(errno.EINVAL))
            return
        reply: list[str] = []
        for line in get_lines(self._device.report()):
            reply.append(line)
            if len(reply) % LINES_A_TURN == 0:
                await trio.lowlevel.checkpoint()
        text = "\n".join([*reply, ""]) if reply else ""
        await self._stream.send_all(text.encode() + encode_status(0))

    async def _set(self) -> bool:
        """False: what comes after it cannot be understood."""
        status = 0
        try:
            await self._apply_lines()
        except UapiError as error:
            logger.error("UAPI: %s", error)
            status = error.errno
        await self._stream.send_all(encode_status(status))
        if status == errno.EIO:
            return False
        # A client sends the whole request before it reads: the rest of one that failed is not the next.
        return status == 0 or await self._skip_request()

    async def _apply_lines(self) -> None:
        parser = SetParser(socket.if_nametoindex)
        configuration = Configuration(self._device)
        lines = 0
        try:
            while line := await self._read_line():
                configuration.apply(parser.parse_line(line.decode(errors="replace")), boottime())
                lines += 1
                if lines % LINES_A_TURN == 0:
                    self._device.changed()
                    await trio.lowlevel.checkpoint()
        finally:
            try:
                configuration.finish(boottime())
            finally:
                self._device.changed()

    async def _skip_request(self) -> bool:
        lines = 0
        try:
            while line := await self._read_line():
                lines += 1
                if lines % LINES_A_TURN == 0:
                    await trio.lowlevel.checkpoint()
        except UapiError:
            return False
        return line is not None

    async def _read_line(self) -> bytes | None:
        """A line without its newline; None at the end of the stream. Raises UapiError EIO: it is too long."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) > MAX_LINE:
                break
            searched = len(self._buffer)
            if not await self._read_more():
                # What has no newline was cut off: it may be half of something else.
                return None
        if not 0 <= end <= MAX_LINE:
            raise UapiError(errno.EIO, f"a line has at most {MAX_LINE} characters")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _read_byte(self) -> bytes | None:
        if not self._buffer and not await self._read_more():
            return None
        byte = bytes(self._buffer[:1])
        del self._buffer[:1]
        return byte

    async def _read_more(self) -> bool:
        data = await self._stream.receive_some(_READ_SIZE)
        self._buffer += data
        return bool(data)
