"""A device that serves: live, configurable by wg(8), until there is a reason to end."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio

from wgpy.device import Device
from wgpy.errors import sole_error
from wgpy.uapi.listener import UapiListener
from wgpy.uapi.server import serve_uapi

T = TypeVar("T")

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


async def serve_device(
    device: Device,
    listener: UapiListener,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the device and its socket until either is removed, or SIGINT or SIGTERM comes.

    Raises HostError when the engine cannot go on. The device stays the caller's to close. The two signals are
    unblocked here: blocked by the caller from the start, one that comes during set-up waits.
    """
    with trio.open_signal_receiver(*ENDING_SIGNALS) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        async with trio.open_nursery() as nursery:

            async def to_the_end(
                task: Callable[..., Awaitable[None]],
                task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
            ) -> None:
                await task(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(to_the_end, device.run)
            await nursery.start(to_the_end, partial(serve_uapi, listener, device))
            task_status.started()
            async for _ in signals:
                nursery.cancel_scope.cancel()


def run_trio(main: Callable[[], Awaitable[T]]) -> T:
    """trio.run; an error for our user that tasks raised comes out alone, as it was raised."""
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if error is group:
            raise
        raise error from group
