"""A network namespace of its own for a test that makes devices in its own process.

Only the calling thread enters it, and what that thread starts: sockets, TUN devices, programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """In the block, this thread is alone in a new network namespace with its loopback up. Needs root."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


@contextlib.contextmanager
def second_network() -> Iterator[int]:
    """A further namespace, as the id of a process that lives in it: for `ip link set … netns ID`."""
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    try:
        ours = os.readlink("/proc/thread-self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
            if holder.poll() is not None:
                raise OSError("cannot make a network namespace")
            os.sched_yield()
        yield holder.pid
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()
