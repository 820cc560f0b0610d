"""The native engine on a real TUN and real sockets. Its threads deal with packets when they please, so the
bench waits for them where it promises that something was dealt with.
"""

from __future__ import annotations

from tests.conformance.host_bench import MTU, HostBench
from wgpy.engine.native import NativeDeviceEngine
from wgpy.protocol import actions
from wgpy.protocol.actions import OtherDatagram

_BARRIER_PREFIX = b"\x01\x01\x00\x00\x21\x12\xa4\x42conformance!"


class NativeHostBench(HostBench):
    """Used like `HostBench`."""

    def __init__(self, engine: NativeDeviceEngine) -> None:
        super().__init__(engine)  # type: ignore[arg-type]
        self.native = engine

    async def host_sends(self, *packets: bytes) -> None:
        await super().host_sends(*packets)
        # The TUN is empty. A command returns only when the batch that was read last is dealt with.
        self.native.set_mtu(MTU)

    async def events(self) -> list[actions.Event]:
        while more := self.native.drain_events():
            self._events += more
        events, self._events = self._events, []
        return [
            each
            for each in events
            if not (isinstance(each, OtherDatagram) and each.data.startswith(_BARRIER_PREFIX))
        ]
