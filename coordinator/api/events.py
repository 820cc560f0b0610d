"""What an admin's page listens to, as server-sent events: that something changed, not what. Three counts tell
of which kind it was: the map, presence, tunnels.

The page then asks for what it shows, by the same routes as everyone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from starlette.types import Receive, Scope, Send

from coordinator.api.stream import wait_hang_up
from coordinator.hub import Hub, Listener
from wgpy.mesh.frames import DEAD_STREAM_TIMEOUT

PACE: Final = 0.25
"""Seconds between two events: changes in between are one."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """One line a change until the browser hangs up, is not `allowed` any more, the network is deleted or the
    server stops.
    """

    def __init__(self, hub: Hub, listener: Listener, allowed: Callable[[], Awaitable[bool]]) -> None:
        self._hub = hub
        self._listener = listener
        self._allowed = allowed

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def say(body: bytes, *, more: bool = True) -> None:
            with anyio.fail_after(DEAD_STREAM_TIMEOUT):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_hang_up, receive, tasks.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await say(b"retry: 2000\n\n")
                while (changed := await self._hub.next_change(self._listener)) is not None:
                    if not await self._allowed():
                        break  # signed out, disabled, or the right was taken away
                    event = b"event: change\ndata: %d %d %d\n\n" % self._listener.seen
                    await say(event if changed else b": all quiet\n\n")
                    await anyio.sleep(PACE)
                await say(b"", more=False)
                tasks.cancel_scope.cancel()
        except* (OSError, TimeoutError):
            pass  # the browser is gone, or does not read
        finally:
            self._hub.unlisten(self._listener)
