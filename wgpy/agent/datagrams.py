"""What comes to the tunnel's sockets and is not WireGuard: who waits for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wgpy.device import Device
from wgpy.engine import DatagramFilter
from wgpy.protocol.actions import OtherDatagram


class _Waiting(NamedTuple):
    datagrams: DatagramFilter
    take: Callable[[OtherDatagram], None]


class Datagrams:
    """Of one device. Each asker has a name, and replaces what it waited for before."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._waiting: dict[str, _Waiting] = {}
        device.on_other_datagram = self._handle

    def expect(self, asker: str, datagrams: DatagramFilter, take: Callable[[OtherDatagram], None]) -> None:
        """Let `take` have what matches: an answer to a STUN transaction goes to whoever began it, also from a
        place of which another waits for everything.
        """
        before = self._waiting.get(asker)
        self._waiting[asker] = _Waiting(datagrams, take)
        if before is None or before.datagrams != datagrams:
            self._device.engine.expect(
                DatagramFilter(
                    frozenset().union(*(one.datagrams.stun_transactions for one in self._waiting.values())),
                    frozenset().union(*(one.datagrams.remotes for one in self._waiting.values())),
                )
            )

    def _handle(self, datagram: OtherDatagram) -> None:
        for waiting in sorted(self._waiting.values(), key=lambda one: not one.datagrams.stun_transactions):
            if waiting.datagrams.matches(datagram.data, datagram.origin.remote):
                waiting.take(datagram)
                return
