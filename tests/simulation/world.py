"""Hosts, links between them and a clock, none of them real: WireGuard's minutes pass in no time.

A `Host` is an `Interface` of the core on a `PortableEngine`, run by the loop that `Interface` documents.
The clock moves by itself only to the next datagram's arrival and to deadlines that hosts have announced:
what a host does not announce does not happen, so the tests prove the announcements complete. Everything
drawn is drawn from one seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from tests.simulation.paper import KEEPALIVE_SIZE, TRANSPORT
from wgpy.addresses import Endpoint, host_prefix
from wgpy.engine.portable import PortableEngine
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.actions import Event, Origin
from wgpy.protocol.interface import Interface
from wgpy.protocol.peer import Peer

WALL_CLOCK_NS = 1_800_000_000 * 10**9
"""Unix time at which each world begins."""

BUSY = 10_000
"""Steps at one instant after which a host is taken to be spinning."""


@dataclass(frozen=True)
class Datagram:
    """One UDP datagram as it left its sender."""

    at: float
    sender: Host
    source: Endpoint
    to: Endpoint
    data: bytes
    tos: int
    sticky: Origin | None
    """The source that the engine had cached for it."""

    @property
    def kind(self) -> int:
        return int.from_bytes(self.data[:4], "little")

    @property
    def is_keepalive(self) -> bool:
        return self.kind == TRANSPORT and len(self.data) == KEEPALIVE_SIZE

    @property
    def is_data(self) -> bool:
        return self.kind == TRANSPORT and len(self.data) > KEEPALIVE_SIZE

    def __repr__(self) -> str:
        return f"<{self.at:.3f} {self.sender.name} → {self.to}: type {self.kind}, {len(self.data)} octets>"


@dataclass
class Link:
    """What becomes of datagrams on their way; the same for all, each way."""

    delay: float = 0.0
    jitter: float = 0.0
    """Up to this much is added to the delay, so that datagrams overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0
    is_cut: bool = False
    passes: Callable[[Datagram], bool] = field(default=lambda _: True)
    """Datagrams for which it says no are lost."""


class World:
    """The clock, the links, the log of all datagrams."""

    def __init__(self, seed: int = 0, delay: float = 0.0) -> None:
        self.now = 1000.0
        self.link = Link(delay=delay)
        self.log: list[Datagram] = []
        self.hosts: list[Host] = []
        self.rng = random.Random(seed)
        self.on_transmit: Callable[[Datagram], object] = lambda _: None
        """Called with each datagram that leaves a host."""
        self.on_arriving: Callable[[Host, Datagram], object] = lambda _host, _datagram: None
        """Called when a datagram is about to be given to a host."""
        self.on_delivered: Callable[[Host, Datagram], object] = lambda _host, _datagram: None
        """Called when a host has dealt with a datagram."""
        self._pending: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # --- building ---

    def add_host(self, name: str) -> Host:
        return Host(self, name, len(self.hosts) + 1)

    def add_pair(self, *, endpoints: bool = True) -> tuple[Host, Host]:
        """Two hosts up and known to each other; without `endpoints` only the first knows where the other
        is.
        """
        alice, bob = self.add_host("alice"), self.add_host("bob")
        alice.add_peer(bob)
        bob.add_peer(alice, endpoint=endpoints)
        alice.up()
        bob.up()
        return alice, bob

    # --- time ---

    def at(self, instant: float, action: Callable[[], None]) -> None:
        """Do something at an instant from now on."""
        assert instant >= self.now
        heapq.heappush(self._pending, (instant, next(self._order), action))

    def run_for(self, seconds: float) -> None:
        self.run_to(self.now + seconds)

    def run_to(self, end: float) -> None:
        """Let everything happen that is due by then; the clock stands there afterwards."""
        while (instant := self._next_instant()) is not None and instant <= end:
            self._advance(instant)
        self.now = end

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Run until it holds, and say how long that took; an error after `within` seconds."""
        begin = self.now
        while not condition():
            instant = self._next_instant()
            if instant is None or instant > begin + within:
                raise AssertionError(f"not within {within} s; {self.log[-10:]}")
            self._advance(instant)
        return self.now - begin

    def _next_instant(self) -> float | None:
        instants = [host.deadline for host in self.hosts if host.deadline is not None]
        if self._pending:
            instants.append(self._pending[0][0])
        return min(instants, default=None)

    def _advance(self, instant: float) -> None:
        assert instant >= self.now, "a deadline was announced in the past"
        self.now = instant
        while self._pending and self._pending[0][0] <= self.now:
            heapq.heappop(self._pending)[2]()
        for host in self.hosts:
            host.step()

    # --- the net ---

    def transmit(self, datagram: Datagram) -> None:
        self.log.append(datagram)
        self.on_transmit(datagram)
        link = self.link
        copies = 1 + (link.duplication > 0 and self.rng.random() < link.duplication)
        if link.is_cut or not link.passes(datagram) or (link.loss and self.rng.random() < link.loss):
            return
        for _ in range(copies):
            delay = link.delay + (self.rng.random() * link.jitter if link.jitter else 0.0)
            self.at(self.now + delay, lambda: self.deliver(datagram))

    def deliver(self, datagram: Datagram) -> None:
        """Give a datagram to whoever is at its destination now; also for replaying one."""
        for host in self.hosts:
            if host.endpoint == datagram.to and not host.is_deaf:
                origin = Origin(datagram.source, host.endpoint.address, 1)
                self.on_arriving(host, datagram)
                host.engine.receive_datagram(datagram.data, origin, datagram.tos)
                host.step()
                self.on_delivered(host, datagram)

    def sent(self, kind: int | None = None, by: Host | None = None, since: float = 0.0) -> list[Datagram]:
        """What was sent, oldest first."""
        return [
            datagram
            for datagram in self.log
            if (kind is None or datagram.kind == kind)
            and (by is None or datagram.sender is by)
            and datagram.at >= since
        ]


class Host:
    """A host with one interface."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.endpoint = Endpoint(IPv4Address(f"192.0.2.{number}"), 51820)
        self.address = IPv4Address(f"10.0.0.{number}")
        self.wall_offset_ns = 0
        self.is_paused = False
        """Its loop does not run: events wait, deadlines pass."""
        self.is_deaf = False
        """What is sent to it is lost."""
        self.shuffles_events = False
        """Its loop handles the events of one drain in any order."""
        self.received: list[bytes] = []
        """Packets written to the TUN."""
        self.events: list[Event] = []
        """All the engine told, in order."""
        self.make_engine()
        self.rng = random.Random(f"{world.rng.random()} core")
        self.interface = Interface(self.engine, self.rng, self.wall_clock_ns)
        self.private_key = PrivateKey(self.rng.randbytes(32))
        self.interface.set_private_key(self.private_key, world.now)
        self._steps_at = (world.now, 0)
        world.hosts.append(self)

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    def wall_clock_ns(self) -> int:
        return WALL_CLOCK_NS + int(self.world.now * 1e9) + self.wall_offset_ns

    def make_engine(self) -> None:
        """Another engine, which knows nothing, as after a reboot."""
        world = self.world
        self.engine = PortableEngine(self, lambda: world.now, random.Random(f"{world.rng.random()} engine"))

    @property
    def index_count(self) -> int:
        """Of handshakes and keypairs, in the engine."""
        return len(self.engine._indices)

    # --- configuration ---

    @property
    def public_key(self) -> PublicKey:
        public_key = self.interface.public_key
        assert public_key is not None
        return public_key

    def add_peer(self, other: Host, *, endpoint: bool = True) -> Peer:
        peer = self.interface.add_peer(other.public_key, self.world.now)
        assert peer is not None
        self.interface.add_allowed_ips(peer, [host_prefix(other.address)], self.world.now)
        if endpoint:
            self.interface.set_endpoint(peer, other.endpoint, self.world.now)
        return peer

    def peer(self, other: Host) -> Peer:
        return self.interface.peers[other.public_key]

    def up(self) -> None:
        self.interface.up(self.world.now)
        self.step()

    def down(self) -> None:
        self.interface.down(self.world.now)
        self.step()

    # --- packets ---

    def send(self, other: Host, payload: bytes = b"ping") -> bytes:
        """Have an application send a packet, which is returned."""
        packet = make_packet(self.address, other.address, payload)
        self.engine.receive_packet(packet)
        self.step()
        return packet

    def send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        self.world.transmit(Datagram(self.world.now, self, self.endpoint, to, data, tos, source))
        return True

    def write_tun(self, packet: bytes) -> None:
        self.received.append(packet)

    # --- the loop that `Interface` documents ---

    @property
    def deadline(self) -> float | None:
        return None if self.is_paused else self.interface.next_deadline()

    def step(self) -> None:
        """Run until there is nothing left to do at this instant."""
        now = self.world.now
        while not self.is_paused:
            at, steps = self._steps_at
            self._steps_at = (now, steps + 1 if at == now else 0)
            assert steps < BUSY, f"{self.name} is spinning"
            events = self.engine.drain_events()
            if self.shuffles_events:
                self.world.rng.shuffle(events)
            self.events += events
            for event in events:
                self.interface.handle_event(event, now)
            deadline = self.interface.next_deadline()
            if deadline is not None and deadline <= now:
                self.interface.handle_timeout(now)
            elif not events:
                break


def make_packet(source: IPv4Address, destination: IPv4Address, payload: bytes) -> bytes:
    """An IPv4 packet of protocol 253 (for experiments)."""
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 253, 0, source.packed, destination.packed
    )
    checksum = 0xFFFF - (sum(struct.unpack(">10H", header)) % 0xFFFF)
    return header[:10] + struct.pack(">H", checksum) + header[12:] + payload
