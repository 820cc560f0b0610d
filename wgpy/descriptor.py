"""A file descriptor that an object owns."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class OwnedDescriptor:
    """Closed by `close`, or at the end of its block, and only once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """-1 once closed."""
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
