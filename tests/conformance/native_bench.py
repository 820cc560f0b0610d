"""The native engine on a bench: between lists, or on a real TUN and real sockets. There its threads deal with
packets when they please, so the bench waits for them where it promises that something was dealt with.
"""

from __future__ import annotations

from tests.conformance.bench import MemoryBench
from tests.conformance.far_end import FarEnd
from tests.conformance.host_bench import MTU, HostBench
from tests.simulation.native import PORT, NativeClock, SimulatedNativeEngine
from wgpy.addresses import Endpoint
from wgpy.engine import DatagramFilter
from wgpy.engine.native import NativeDeviceEngine
from wgpy.engine.tuples import from_endpoint
from wgpy.protocol import actions
from wgpy.protocol.actions import Origin, OtherDatagram

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


class NativeMemoryBench(NativeClock, MemoryBench):
    """Used like `MemoryBench`. Indices and cookies are drawn of the system's randomness."""

    def _make_engine(self) -> None:
        self.engine = self.native = SimulatedNativeEngine(self, self.extension)

    def receive(self, datagram: bytes, origin: Origin, tos: int = 0) -> None:
        self.native.receive_datagram(datagram, origin, tos)

    def give(self, *packets: bytes) -> None:
        for packet in packets:
            self.native.receive_packet(packet)

    def drain(self) -> list[actions.Event]:
        return self.native.drain_events()

    def drops(self) -> int:
        return self.native.drops.total()

    def expect(self, datagrams: DatagramFilter) -> None:
        self.native.expect(datagrams)

    def set_mtu(self, mtu: int) -> None:
        self.native.set_mtu(mtu)

    def listen(self, port: int) -> None:
        assert port == PORT, "its ends have a port of their own"

    def refuse(self, to: Endpoint) -> None:
        self.extension.refuse(self.native._engine, from_endpoint(to))

    def skip_counters(self, far: FarEnd, counter: int) -> None:
        self.extension.skip_counters(self.native._engine, far.engine_index, counter)

    @property
    def handshake_depth(self) -> int:
        return int(self.extension.handshake_depth(self.native._engine))
