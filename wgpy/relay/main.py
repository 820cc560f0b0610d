"""A relay's process, from its key to its end."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from wgpy.agent.groups import single_error
from wgpy.agent.notify import notify
from wgpy.errors import WgpyError
from wgpy.mesh.relay_token import RelayToken
from wgpy.relay.server import RelayServer, Settings
from wgpy.relay.tunnels import Tunnels, load_tls

logger = logging.getLogger(__name__)


Announce = Callable[[RelayServer, int | None], None]
"""Called once it listens, with the TCP port of its TLS side if it has one."""


@dataclass(frozen=True, slots=True)
class TlsSide:
    """TCP port, certificate chain and key, PEM."""

    port: int
    certificate: Path
    key: Path


def serve(
    token: RelayToken,
    settings: Settings,
    announce: Announce,
    *,
    tls: TlsSide | None = None,
    with_stdin: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or until standard input ends; then drain. A second signal ends it at once.

    Raises ConfigError for a certificate that is none, HostError when it cannot listen, or the forwarding
    thread fails.
    """
    context = None if tls is None else load_tls(tls.certificate, tls.key)
    tls_port = 0 if tls is None else tls.port
    with single_error(WgpyError):
        trio.run(
            lambda: _serve(
                token, settings, announce, with_stdin=with_stdin, tls_port=tls_port, context=context
            )
        )


async def _serve(
    token: RelayToken,
    settings: Settings,
    announce: Announce,
    *,
    with_stdin: bool,
    tls_port: int,
    context: ssl.SSLContext | None,
) -> None:
    server = RelayServer(token, settings)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            port = None
            if context is not None:
                port = await nursery.start(Tunnels(context, tls_port, server.port).run)
            announce(server, port)
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
