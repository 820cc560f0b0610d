"""The relay that `serve` runs beside itself: `wgpy relay serve`, as a process of its own (docs/relay.md).

It has its key and nothing else from us, over standard input, which stays open for as long as we live: it ends
when that ends, whatever ended us. One that fails is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from wgpy.mesh.relay_token import RelayToken

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LAST_PAUSE = 60.0
"""Seconds before it is started again: doubled from the first to the last."""
STABLE_TIME = 60.0
"""Seconds after which a start counts as one that went well."""
STOP_TIMEOUT = 8.0
"""Seconds for it to send its nodes away."""


def relay_hosts(urls: Sequence[str], port: int, limit: int) -> tuple[str, ...]:
    """HOST:PORT of the relay's UDP, by where nodes reach the coordinator."""
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    names = [host if host.endswith("]") else host.rpartition(":")[0] or host for host in hosts]
    return tuple(dict.fromkeys(f"{name}:{port}" for name in names))[:limit]


class OwnRelay:
    """`run` until it is cancelled, which stops the process, too."""

    def __init__(self, token: RelayToken, port: int) -> None:
        self._token = token
        self.port = port

    async def run(self) -> None:
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._run_once()
            if loop.time() - began > STABLE_TIME:
                pause = FIRST_PAUSE
            logger.error("the relay ended with status %d; started again in %.0f s", status, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "wgpy.cli.main", "relay", "serve", "-",
            "--port", str(self.port), "--until-stdin-closes",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(self._token.encode().encode() + b"\n")
            return await process.wait()
        finally:
            process.stdin.close()
            if process.returncode is None:
                with contextlib.suppress(TimeoutError, ProcessLookupError):
                    await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
            if process.returncode is None:
                process.kill()
