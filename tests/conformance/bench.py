"""An engine on the bench: datagrams and packets are put in, what comes out is looked at, through the seam
alone.

`MemoryBench` has an engine between two lists and a clock that is set by hand: the portable one, or the native
one (native_bench.py). `HostBench` (host_bench.py) has an engine with sockets and a TUN.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from tests.conformance.far_end import FarEnd
from wgpy.addresses import Endpoint
from wgpy.engine import DatagramFilter
from wgpy.engine.portable import PortableEngine
from wgpy.protocol import actions, cookie
from wgpy.protocol.actions import Origin, PeerId, PeerWork, Work

IDENTITY = bytes(range(32))
"""The static public key that the engine is told to be."""


@dataclass(frozen=True)
class Sent:
    """A datagram that left; `tos` and `source` are None where the bench cannot see them."""

    data: bytes
    to: Endpoint
    source: Origin | None
    tos: int | None


class Bench(abc.ABC):
    """What a conformance test has in its hands."""

    engine: actions.Engine
    rng: random.Random
    now: float

    @abc.abstractmethod
    def sender(self, number: int = 0) -> Endpoint:
        """One of the addresses that the far end has."""

    @abc.abstractmethod
    async def arrives(self, *datagrams: bytes, sender: int = 0, tos: int = 0) -> None:
        """Datagrams reach the engine's socket, and are dealt with when this returns."""

    @abc.abstractmethod
    async def departed(self) -> list[Sent]:
        """All datagrams that left since the last call."""

    @abc.abstractmethod
    async def host_sends(self, *packets: bytes) -> None:
        """The host routes packets into the TUN, and they are dealt with when this returns."""

    @abc.abstractmethod
    async def host_got(self) -> list[bytes]:
        """All packets that the engine gave to the host since the last call."""

    @abc.abstractmethod
    async def events(self) -> list[actions.Event]:
        """What the engine has to tell, until it has nothing more."""

    @abc.abstractmethod
    def expect(self, datagrams: DatagramFilter) -> None: ...

    @abc.abstractmethod
    def drops(self) -> int:
        """How many datagrams and packets were dropped and counted."""

    # --- what many tests do first ---

    def identify(self) -> None:
        self.engine.set_identity(cookie.mac1_key(IDENTITY), cookie.cookie_key(IDENTITY))

    def peer(self, *prefixes: str, sender: int | None = 0) -> PeerId:
        """A peer with allowed IPs, at one of the far end's addresses."""
        peer = self.engine.add_peer()
        self.engine.add_allowed_ips(peer, [ip_network(prefix) for prefix in prefixes])
        if sender is not None:
            self.engine.set_endpoint(peer, self.sender(sender))
        return peer

    def session(
        self, peer: PeerId, *, initiator: bool = True, age: float = 0.0, response: bytes | None = None
    ) -> FarEnd:
        """Begin a session that `age` seconds ago a handshake ended in."""
        far = FarEnd(
            chaining_key=self.rng.randbytes(32),
            engine_is_initiator=initiator,
            engine_index=self.engine.reserve_index(peer),
            index=self.rng.getrandbits(32),
        )
        if response is None and not initiator:
            response = bytes(92)
        self.engine.begin_session(
            peer,
            local_index=far.engine_index,
            remote_index=far.index,
            is_initiator=initiator,
            chaining_key=far.chaining_key,
            created_at=self.now - age,
            response=response,
        )
        return far

    async def work(self, peer: PeerId) -> Work:
        """All work reported for a peer since the last drain."""
        bits = Work(0)
        for event in await self.events():
            if isinstance(event, PeerWork) and event.peer == peer:
                bits |= event.bits
        return bits

    async def handshakes(self) -> list[actions.HandshakeMessage]:
        return [event for event in await self.events() if isinstance(event, actions.HandshakeMessage)]

    def add_macs(self, message: bytes, generator: cookie.CookieGenerator | None = None) -> bytes:
        """A handshake message, made of the part before its macs, that knows whom it is for."""
        return (generator or cookie.CookieGenerator(IDENTITY)).add_macs(message, self.now)


class MemoryBench(Bench):
    """The portable engine between two lists. Time stands still but for `advance` and `now`."""

    def __init__(self) -> None:
        self.rng = random.Random(20)
        self._sent: list[Sent] = []
        self._written: list[bytes] = []
        self._refused: set[Endpoint] = set()
        self.now = 1000.0
        self._make_engine()

    def _make_engine(self) -> None:
        self.engine = self.portable = PortableEngine(self, lambda: self.now, self.rng)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sender(self, number: int = 0) -> Endpoint:
        return Endpoint(IPv4Address("198.51.100.0") + 1 + number, 51820)

    def origin(self, number: int = 0) -> Origin:
        return Origin(self.sender(number), IPv4Address("192.0.2.1"), 2)

    # what of each engine is its own

    def receive(self, datagram: bytes, origin: Origin, tos: int = 0) -> None:
        """A datagram comes through the socket."""
        self.portable.receive_datagram(datagram, origin, tos)

    def give(self, *packets: bytes) -> None:
        """Packets come from the host."""
        self.portable.receive_packets(packets)

    def drain(self) -> list[actions.Event]:
        """What the engine gives out at once."""
        return self.portable.drain_events()

    def drops(self) -> int:
        return self.portable.drops.total()

    def expect(self, datagrams: DatagramFilter) -> None:
        self.portable.expect(datagrams)

    def set_mtu(self, mtu: int) -> None:
        self.portable.mtu = mtu

    def listen(self, port: int) -> None:
        self.portable.listen_port = port

    def refuse(self, to: Endpoint) -> None:
        """From now on sending there fails."""
        self._refused.add(to)

    def skip_counters(self, far: FarEnd, counter: int) -> None:
        """The engine's next packet of this session has that counter."""
        self.portable._sessions[far.engine_index].skip_counters(counter)

    @property
    def handshake_depth(self) -> int:
        """How many handshake messages wait."""
        return self.portable.events.handshake_depth

    # the engine's ends

    def send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        if to in self._refused:
            return False
        self._sent.append(Sent(data, to, source, tos))
        return True

    def write_tun(self, packet: bytes) -> None:
        self._written.append(packet)

    # the bench

    async def arrives(self, *datagrams: bytes, sender: int = 0, tos: int = 0) -> None:
        for datagram in datagrams:
            self.receive(datagram, self.origin(sender), tos)

    async def departed(self) -> list[Sent]:
        sent, self._sent = self._sent, []
        return sent

    async def host_sends(self, *packets: bytes) -> None:
        self.give(*packets)

    async def host_got(self) -> list[bytes]:
        written, self._written = self._written, []
        return written

    async def events(self) -> list[actions.Event]:
        events: list[actions.Event] = []
        while more := self.drain():
            events += more
        return events


def sent_to(sent: Sequence[Sent], far: FarEnd) -> list[bytes]:
    """The transport messages among what left that are for this session, opened."""
    return [far.open(each.data) for each in sent if far.is_ours(each.data)]


def endpoint_of(bench: Bench, peer: PeerId) -> Endpoint | None:
    """Where `wg show` says a peer is."""
    return next(each.endpoint for each in bench.engine.snapshot() if each.peer == peer)


def bytes_of(bench: Bench, peer: PeerId) -> tuple[int, int]:
    """(received, sent)."""
    return next((each.rx_bytes, each.tx_bytes) for each in bench.engine.snapshot() if each.peer == peer)
