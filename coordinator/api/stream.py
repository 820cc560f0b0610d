"""The watch stream as ASGI: no framework between the hub and the connection."""

from __future__ import annotations

import anyio
from starlette.types import Receive, Scope, Send

from coordinator.http_protocol import TAKE_OVER
from coordinator.hub import Hub, Watcher
from coordinator.pump import PIECE, Pump
from wgpy.mesh.frames import DEAD_STREAM_TIMEOUT
from wgpy.mesh.wire import STREAM_TYPE

_HEADERS = [
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers frames before it passes them on breaks the stream
]


async def wait_hang_up(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel what streams as soon as nobody listens."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class FrameStream:
    """Answers with one frame a line until the node hangs up, is removed, or takes nothing for 45 s.

    Our own server gives up the connection to the pump, and the request ends; other servers are waited for.
    """

    def __init__(self, hub: Hub, pump: Pump, watcher: Watcher) -> None:
        self._hub = hub
        self._pump = pump
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        take_over = scope.get("extensions", {}).get(TAKE_OVER)
        if take_over is None:
            await self._wait(receive, send)
            return
        sink = take_over(_HEADERS)
        if sink is None:
            self._hub.unsubscribe(self._watcher)
        else:
            self._pump.add(self._watcher, sink)

    async def _wait(self, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_hang_up, receive, tasks.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                while lines := await self._hub.next_lines(self._watcher):
                    body = b"".join(lines)
                    for start in range(0, len(body), PIECE):
                        piece = {
                            "type": "http.response.body",
                            "body": body[start : start + PIECE],
                            "more_body": True,
                        }
                        with anyio.fail_after(DEAD_STREAM_TIMEOUT):
                            await send(piece)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()
        except* (OSError, TimeoutError):
            pass  # the node is gone, or does not read
        finally:
            self._hub.unsubscribe(self._watcher)


class LastWord:
    """A stream of one line: the signed removal."""

    def __init__(self, line: bytes) -> None:
        self._line = line

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": self._line, "more_body": False})
