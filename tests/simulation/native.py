"""The native engine in the simulated world: the Rust that moves packets, between ends in memory, on the
world's clock. It is a build of its own, with the feature `simulation`, that `.ci/prepare test` makes.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.simulation.world import Host, World
from wgpy.engine.native import NativeDeviceEngine, Settings, _endpoint, _from_origin
from wgpy.protocol.actions import Event, Origin

EXTENSION = Path(__file__).parents[2] / "target/simulation/debug/lib_engine.so"


def load() -> ModuleType:
    """Beside wgpy's own extension, which stays what it is."""
    loader = ExtensionFileLoader("_engine", str(EXTENSION))
    spec = importlib.util.spec_from_loader("_engine", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class NativeWorld(World):
    """A world whose hosts have the native engine. One at a time: they share a clock."""

    def __init__(self, seed: int = 0, delay: float = 0.0) -> None:
        self.extension: Any = load()
        super().__init__(seed, delay)

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        self.extension.set_now(round(now * 1e9))

    def add_host(self, name: str) -> Host:
        return NativeHost(self, name, len(self.hosts) + 1)


class NativeHost(Host):
    """A host of such a world."""

    world: NativeWorld

    def make_engine(self) -> None:
        self.engine = SimulatedNativeEngine(self)  # type: ignore[assignment]


class SimulatedNativeEngine(NativeDeviceEngine):
    """Given packets and datagrams like `PortableEngine`; what it sends leaves when its events are drained."""

    def __init__(self, host: NativeHost) -> None:
        self._host = host
        self._extension = host.world.extension
        self._engine = self._extension.Engine(
            tso=False,
            uso=False,
            gso=False,
            gro=False,
            staged_octets=Settings().staged_octets,
            socket_buffer=Settings().socket_buffer,
        )

    def receive_datagram(self, data: bytes, origin: Origin, tos: int) -> None:
        self._extension.datagram_arrives(self._engine, data, _from_origin(origin), tos)

    def receive_packet(self, packet: bytes) -> None:
        self._extension.host_sends(self._engine, packet)

    def unbind(self) -> None:
        """The world keeps the ends."""

    def drain_events(self) -> list[Event]:
        events = super().drain_events()
        for packet in self._extension.host_got(self._engine):
            self._host.write_tun(packet)
        for data, to, tos in self._extension.departed(self._engine):
            self._host.send_udp(data, _endpoint(to), None, tos)
        return events
