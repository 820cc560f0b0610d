"""What was done to the host, and how each of it is undone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from wgpy.errors import WgpyError

logger = logging.getLogger(__name__)


class Undo:
    """Steps that take back others, latest first. One that fails is told and keeps none from being tried."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """`what` completes "cannot …"."""
        self._steps.append((what, step))

    def run(self) -> None:
        while self._steps:
            what, step = self._steps.pop()
            try:
                step()
            except (WgpyError, OSError) as error:
                logger.warning("cannot %s: %s", what, error)
