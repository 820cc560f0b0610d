"""That somebody has changed nftables: the multicast group NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.

What was changed is not read: nft(8) tells how things are.
"""

from __future__ import annotations

import errno
import socket
from types import TracebackType
from typing import Final, Self

import trio

from wgpy.netlink.connection import NetlinkError

_NETLINK_NETFILTER: Final = 12
_NFNLGRP_NFTABLES: Final = 7
_DATAGRAM: Final = 1 << 16


class NftNews:
    """Tells of changes from the moment it is made. Raises NetlinkError."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
            )
        except OSError as error:
            raise NetlinkError("watching nftables", error.errno or errno.EIO) from error
        try:
            self._socket.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
        except OSError as error:
            self._socket.close()
            raise NetlinkError("watching nftables", error.errno or errno.EIO) from error
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    async def wait(self) -> None:
        """Until there was a change, ours or another's."""
        await trio.lowlevel.wait_readable(self._socket)
        # Bounded, so that somebody who never stops cannot keep us here.
        for _ in range(256):
            try:
                self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
