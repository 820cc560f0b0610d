"""A door from this machine's loopback to a port of a host: for a browser that looks at the page.

The thread that opens connections lives in the host's network namespace; the socket on which it hears of them
was made outside before.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from types import TracebackType
from typing import Self

from tests.netns.hosts import Host
from tests.netns.processes import HostFailure

_CLONE_NEWNET = 0x40000000


class Doorway:
    """127.0.0.1:`port` is `address` as `host` sees it, until it is closed. `port`: the wished one if it is
    free, else any.
    """

    def __init__(self, host: Host, address: tuple[str, int], wished: int = 0) -> None:
        self._address = address
        self._namespace = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._listener = socket.create_server(("127.0.0.1", wished))
        except OSError:
            self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._thread.join()
        self._listener.close()
        os.close(self._namespace)

    def _serve(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self._namespace, _CLONE_NEWNET):  # this thread alone
            raise HostFailure(f"setns: {os.strerror(ctypes.get_errno())}")
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._address, timeout=10)
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=_join, args=(near, far), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    """Both ways, until both are at their end."""
    far.settimeout(None)
    with near, far:
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
