"""A relay's process, from its key to its end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

import trio

from wgpy.agent.groups import single_error
from wgpy.agent.notify import notify
from wgpy.errors import WgpyError
from wgpy.mesh.relay_token import RelayToken
from wgpy.relay.server import RelayServer, Settings

logger = logging.getLogger(__name__)


def serve(
    token: RelayToken,
    settings: Settings,
    announce: Callable[[RelayServer], None],
    *,
    with_stdin: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or until standard input ends; then drain. A second signal ends it at once.

    Raises HostError when it cannot listen, or the forwarding thread fails.
    """
    with single_error(WgpyError):
        trio.run(_serve, token, settings, announce, with_stdin)


async def _serve(
    token: RelayToken, settings: Settings, announce: Callable[[RelayServer], None], with_stdin: bool
) -> None:
    server = RelayServer(token, settings)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            announce(server)
            notify("READY=1")
            stop = trio.Event()
            nursery.start_soon(_wait_signal, stop, nursery.cancel_scope)
            if with_stdin:
                nursery.start_soon(_wait_stdin_ends, stop)
            await stop.wait()
            notify("STOPPING=1")
            logger.info("draining: nodes are told to use another relay")
            await server.drain()
            nursery.cancel_scope.cancel()
    finally:
        server.close()


async def _wait_signal(stop: trio.Event, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                scope.cancel()
            stop.set()


async def _wait_stdin_ends(stop: trio.Event) -> None:
    """Whoever started us holds the other end for as long as it lives."""
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
        while await stream.receive_some(4096):
            pass
    stop.set()
