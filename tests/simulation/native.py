"""The native engine in the simulated world: the Rust that moves packets, between ends in memory, on the
world's clock. It is a build of its own, with the feature `simulation`, that `.ci/prepare test` makes.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.simulation.world import Host, World
from wgpy.addresses import Endpoint
from wgpy.engine.native import NativeDeviceEngine, Settings
from wgpy.engine.portable import Ends
from wgpy.engine.tuples import from_origin, to_endpoint, to_origin
from wgpy.protocol.actions import Origin, PeerId
from wgpy.protocol.constants import DEFAULT_MTU

PORT = 51820
"""What the engine's ends in memory listen at."""

EXTENSION = Path(__file__).parents[2] / "target/simulation/debug/lib_engine.so"


def load() -> ModuleType:
    """Beside wgpy's own extension, which stays what it is."""
    loader = ExtensionFileLoader("_engine", str(EXTENSION))
    spec = importlib.util.spec_from_loader("_engine", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class NativeClock:
    """The native engine's clock is set with ours. One world or bench at a time: the engines share it."""

    @functools.cached_property
    def extension(self) -> Any:
        return load()

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        self.extension.set_now(round(now * 1e9))


class NativeWorld(NativeClock, World):
    """A world whose hosts have the native engine."""

    def add_host(self, name: str) -> Host:
        return NativeHost(self, name, len(self.hosts) + 1)


class NativeHost(Host):
    """A host of such a world."""

    world: NativeWorld

    def make_engine(self) -> None:
        self.native = SimulatedNativeEngine(self, self.world.extension)
        self.engine = self.native  # type: ignore[assignment]

    @property
    def index_count(self) -> int:
        return self.native.index_count


class SimulatedNativeEngine(NativeDeviceEngine):
    """Given packets and datagrams like `PortableEngine`, and what it sends leaves at once, too."""

    def __init__(self, ends: Ends, extension: Any) -> None:
        self._ends = ends
        self._extension = extension
        self._engine = extension.Engine(
            tso=False,
            uso=False,
            gso=False,
            gro=False,
            staged_octets=Settings().staged_octets,
            socket_buffer=Settings().socket_buffer,
        )
        self.set_mtu(DEFAULT_MTU)

    def receive_datagram(self, data: bytes, origin: Origin, tos: int = 0) -> None:
        self._extension.datagram_arrives(self._engine, data, from_origin(origin), tos)
        self._give_out()

    def receive_packet(self, packet: bytes) -> None:
        self._extension.host_sends(self._engine, packet)
        self._give_out()

    def unbind(self) -> None:
        """The world keeps the ends."""

    @property
    def index_count(self) -> int:
        """Of handshakes and keypairs."""
        return int(self._extension.index_count(self._engine))

    def send_handshake(self, peer: PeerId, data: bytes) -> bool:
        left = super().send_handshake(peer, data)
        self._give_out()
        return left

    def send_datagram(self, data: bytes, to: Endpoint, source: Origin | None = None) -> None:
        super().send_datagram(data, to, source)
        self._give_out()

    def begin_session(self, peer: PeerId, **arguments: Any) -> None:
        super().begin_session(peer, **arguments)
        self._give_out()

    def send_keepalive(self, peer: PeerId) -> None:
        super().send_keepalive(peer)
        self._give_out()

    def send_control(self, peer: PeerId, path: Origin | None, data: bytes) -> None:
        super().send_control(peer, path, data)
        self._give_out()

    def _give_out(self) -> None:
        for packet in self._extension.host_got(self._engine):
            self._ends.write_tun(packet)
        for data, to, source, tos in self._extension.departed(self._engine):
            self._ends.send_udp(data, to_endpoint(to), None if source is None else to_origin(source), tos)
