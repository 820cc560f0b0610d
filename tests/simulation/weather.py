"""Two peers in random weather, and what must hold of them all the time.

Spells of loss, delay, doubles, overtaking and cut lines follow each other; wall clocks jump, hosts reboot,
and both ends send now and then. Everything is drawn from one seed. With each datagram and packet is checked:

- a counter of a session is sent once, and nothing is sent or received with a session of 180 s;
- a packet comes out of the tunnel once;
- no deadline is announced in the past (`World` checks that, too);
- once the line is whole, and stays so, packets arrive within DELIVERY from RECOVERY seconds after the first
  one sent that way: WireGuard notices that a session is gone by the silence after what it sends.

Two kinds of packets may be lost all the same, by any WireGuard: those in flight while their receiver begins a
session (an initiator that has a responder's keypair waiting drops the current one, on which the other end may
still have sent), and those sent in a session's last moments, when it is older at the other end by the way
there and back.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable

from tests.simulation.paper import (
    JITTER,
    NEW_HANDSHAKE_TIMEOUT,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
    TRANSPORT,
)
from tests.simulation.world import Datagram, Host, World
from wgpy.protocol.interface import Interface

REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
SLOWEST = 0.7
"""Seconds one way: the longest delay and jitter of any spell."""
RETRY = REKEY_TIMEOUT + JITTER
ROUND_TRIPS = 6 * SLOWEST
"""A handshake, its confirmation, and what was on its way before."""
RECOVERY = NEW_HANDSHAKE_TIMEOUT + JITTER + 2 * RETRY + ROUND_TRIPS
"""Silence is noticed, the gate may be closed, and the other end's initiation may cross."""
DELIVERY = 2 * RETRY + ROUND_TRIPS
"""A packet that needs a new session, when the gate is closed and the other end's initiation crosses."""


class Weather:
    """A world of two hosts. `make_world` says with which engine."""

    def __init__(self, seed: int, make_world: Callable[[int], World] = World) -> None:
        self.rng = random.Random(f"{seed} weather")
        self.world = make_world(seed)
        self.world.on_transmit = self._sent
        self.world.on_delivered = self._delivered
        self.ends = self.world.add_pair()
        self.reboots = 0
        self.arrivals = 0
        self.must_arrive = 0
        """Packets that arrived, and those of them that had to."""
        self.longest_delivery = 0.0
        """Seconds that a packet sent when all was well was on its way."""
        self._began: dict[tuple[Host, int], float] = {}
        """When the session whose messages a host sends to this index, or receives by it, began."""
        self._counters: set[tuple[Host, int, int]] = set()
        self._is_whole = True
        self._first_sent: dict[Host, float] = {}
        """When an end sent its first packet since all is well."""
        self._number = 0
        self._under_way: dict[bytes, tuple[float, Host]] = {}
        """Packets that must arrive: when they were sent, and to whom."""
        self._arrived: set[bytes] = set()
        self._seen = dict.fromkeys(self.ends, 0)
        self._digest = hashlib.blake2s()
        for host in self.ends:
            self._note_sessions(host)
        self._next_spell()
        for host in self.ends:
            self._plan_traffic(host)

    def run(self, hours: float) -> None:
        end = self.world.now + 3600 * hours
        while self.world.now < end:
            self.world.run_to(min(end, self.world.now + 60))
            self._check_under_way()
            self.world.log.clear()
            for host in self.ends:
                host.events.clear()

    @property
    def schedule(self) -> str:
        """A hash of what was sent, when, by whom and how long."""
        return self._digest.hexdigest()

    # --- what happens ---

    def _next_spell(self) -> None:
        rng, link = self.rng, self.world.link
        is_fair = rng.random() < 0.4
        link.is_cut = not is_fair and rng.random() < 0.3
        link.loss = 0.0 if is_fair else rng.choice([0.0, 0.02, 0.2, 0.7])
        link.delay = rng.choice([0.001, 0.02, 0.1, 0.3])
        link.jitter = rng.choice([0.0, 0.01, 0.4])
        link.duplication = rng.choice([0.0, 0.0, 0.3])
        self._is_whole = not link.is_cut and not link.loss
        if not self._is_whole:
            self._trouble()
        self.world.at(self.world.now + rng.choice([5, 60, 200]) * rng.random() + 1, self._next_spell)
        if rng.random() < 0.2:
            rng.choice(self.ends).wall_offset_ns = rng.randrange(-(10**15), 10**15)
        if rng.random() < 0.05:
            self._reboot(rng.choice(self.ends))

    def _reboot(self, host: Host) -> None:
        """It forgets everything but its configuration and the highest timestamp it has sent."""
        self.reboots += 1
        self._trouble()
        [other] = [end for end in self.ends if end is not host]
        highest = host.interface.highest_timestamp
        host.make_engine()
        host.interface = Interface(host.engine, host.rng, host.wall_clock_ns, highest_timestamp=highest)
        host.interface.set_private_key(host.private_key, self.world.now)
        self._note_sessions(host)
        host.add_peer(other)
        host.up()

    def _plan_traffic(self, host: Host) -> None:
        pause = self.rng.choice([0.3, 3.0, 20.0, 400.0]) * self.rng.random()
        self.world.at(self.world.now + pause, lambda: self._talk(host))

    def _talk(self, host: Host) -> None:
        [other] = [end for end in self.ends if end is not host]
        now = self.world.now
        if self._is_whole:
            self._first_sent.setdefault(host, now)
        well = now - self._first_sent.get(host, now) >= RECOVERY
        for _ in range(self.rng.choice([1, 1, 3, 20])):
            self._number += 1
            payload = struct.pack(">Q", self._number)
            if well:
                self._under_way[payload] = (now, other)
            host.send(other, payload)
        self._plan_traffic(host)

    # --- what must hold ---

    def _note_sessions(self, host: Host) -> None:
        begin = host.engine.begin_session

        def begin_session(peer: object, **arguments: object) -> None:
            created_at = arguments["created_at"]
            assert isinstance(created_at, float)
            assert created_at <= self.world.now
            for index in (arguments["remote_index"], arguments["local_index"]):
                assert isinstance(index, int)
                self._began[host, index] = created_at
            begin(peer, **arguments)  # type: ignore[arg-type]
            now = self.world.now
            self._excuse(lambda sent_at, to: to is host and now - sent_at <= SLOWEST)

        host.engine.begin_session = begin_session  # type: ignore[method-assign, assignment]

    def _sent(self, datagram: Datagram) -> None:
        shape = f"{datagram.at:.6f} {datagram.sender.name} {datagram.to} {datagram.kind} {len(datagram.data)}"
        self._digest.update(shape.encode())
        if datagram.kind != TRANSPORT:
            return
        index, counter = struct.unpack_from("<IQ", datagram.data, 4)
        age = datagram.at - self._began[datagram.sender, index]
        assert age < REJECT_AFTER_TIME, f"{datagram} is sent with a session of {age} s"
        if age > REJECT_AFTER_TIME - 3 * SLOWEST:
            self._excuse(lambda sent_at, to: sent_at == datagram.at and to is not datagram.sender)
        assert counter < REJECT_AFTER_MESSAGES
        key = (datagram.sender, index, counter)
        assert key not in self._counters, f"{datagram}: counter {counter} is used again"
        self._counters.add(key)

    def _delivered(self, host: Host, datagram: Datagram) -> None:
        fresh = host.received[self._seen[host] :]
        self._seen[host] = len(host.received)
        for packet in fresh:
            payload = packet[20:28]
            assert payload not in self._arrived, f"packet {payload.hex()} came out twice"
            self._arrived.add(payload)
            age = self.world.now - self._began[host, struct.unpack_from("<I", datagram.data, 4)[0]]
            assert age < REJECT_AFTER_TIME, f"{host.name} receives with a session of {age} s"
            self.arrivals += 1
            if payload in self._under_way:
                self.must_arrive += 1
                self._judge(self.world.now - self._under_way.pop(payload)[0], payload)
        deadline = host.deadline
        assert deadline is None or deadline > self.world.now

    def _judge(self, took: float, payload: bytes) -> None:
        self.longest_delivery = max(self.longest_delivery, took)
        assert took <= DELIVERY, (
            f"{self.world.now:.3f}: packet {payload.hex()} was or is {took:.3f} s on its way"
        )

    def _excuse(self, may_be_lost: Callable[[float, Host], bool]) -> None:
        for payload in [key for key, value in self._under_way.items() if may_be_lost(*value)]:
            del self._under_way[payload]

    def _check_under_way(self) -> None:
        for payload, (sent_at, _) in self._under_way.items():
            self._judge(self.world.now - sent_at, payload)

    def _trouble(self) -> None:
        """What is under way may be lost from now on, and sessions with it."""
        self._check_under_way()
        self._first_sent.clear()
        self._under_way.clear()
