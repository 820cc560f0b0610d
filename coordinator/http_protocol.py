"""uvicorn's HTTP protocol, with the patience and the room that a stranger gets: so long, and so much, for a
request's head.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT: Final = 15.0
"""Seconds from the connection, or from the last answer, to the end of the next request's headers."""

HEAD_SIZE: Final = 32 * 1024
"""Octets of request line and headers."""


WRITE_BUFFER: Final = 32 * 1024
"""Octets that wait in memory for a slow reader before its stream has to wait as well; TLS alone would take
512 KiB.
"""


class GuardedProtocol(HttpToolsProtocol):
    """Hangs up on who connects and says nothing, says it drop by drop, or does not stop."""

    _patience: asyncio.TimerHandle | None = None
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._patience is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_SIZE + 64 * 1024:  # a body may have come with it
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_head()

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_size = 0
        self._patience = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
