"""Two peers in random weather, and what must hold of them all the time.

Spells of loss, delay, doubles, overtaking and cut lines follow each other; wall clocks jump, hosts reboot,
and both ends send now and then. Everything is drawn from one seed. With each datagram and packet is checked:

- slots and timers are the paper's, as an `Observer` of each end tells: what is sent with which session, each
  handshake, retry, rekey and keepalive at its time, and none without a reason;
- a datagram is accepted exactly when it must be: its session is held and young, its counter is new; a packet
  comes out of the tunnel once;
- a packet leaves at once when there is a session for it;
- a counter of a session is sent once, and no deadline is announced in the past (`World` checks that, too);
- once the line is whole, and stays so, packets arrive within DELIVERY from RECOVERY seconds after the first
  one sent that way: WireGuard notices that a session is gone by the silence after what it sends.

Two kinds of packets are lost all the same, by any WireGuard: one that was under way while its receiver began
a session and let go the one it was sealed for (an initiator that has a responder's keypair waiting drops the
current one), and one that was sent in a session's last moments and arrives when that is over.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections import defaultdict
from collections.abc import Callable

from tests.simulation.observer import Observer, Session
from tests.simulation.paper import (
    INITIATION,
    JITTER,
    KEEPALIVE_SIZE,
    NEW_HANDSHAKE_TIMEOUT,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSE,
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
LENGTHS = 80
"""Packets take turns at so many lengths, by which their datagrams are known."""


class Weather:
    """A world of two hosts. `make_world` says with which engine."""

    def __init__(self, seed: int, make_world: Callable[[int], World] = World) -> None:
        self.rng = random.Random(f"{seed} weather")
        self.world = make_world(seed)
        self.world.on_transmit = self._sent
        self.world.on_arriving = self._arrives
        self.world.on_delivered = self._delivered
        self.ends = self.world.add_pair()
        self.reboots = 0
        self.arrivals = 0
        self.must_arrive = 0
        """Packets that arrived, and those of them that had to."""
        self.excused = 0
        """Packets that would have had to, but for one of the two reasons above."""
        self.longest_delivery = 0.0
        """Seconds that a packet sent when all was well was on its way."""
        self._observers: dict[Host, Observer] = {}
        self._counters: set[tuple[Session, int]] = set()
        self._data_sent = 0
        self._is_whole = True
        self._first_sent: dict[Host, float] = {}
        """When an end sent its first packet since all is well."""
        self._number = 0
        self._under_way: dict[bytes, tuple[float, Host]] = {}
        """Packets that must arrive: when they were sent, and to whom."""
        self._waiting: defaultdict[tuple[Host, int], list[bytes]] = defaultdict(list)
        """Packets of a length that a host was given and that have not left it."""
        self._inside: dict[tuple[Session, int], bytes] = {}
        """What is in the datagram of a session with this counter, of packets that must arrive."""
        self._must_accept = False
        self._arrived: set[bytes] = set()
        self._seen = dict.fromkeys(self.ends, 0)
        self._digest = hashlib.blake2s()
        for host in self.ends:
            self._observe(host)
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
        self._observe(host)
        host.add_peer(other)
        host.up()

    def _plan_traffic(self, host: Host) -> None:
        pause = self.rng.choice([0.3, 3.0, 20.0, 400.0]) * self.rng.random()
        self.world.at(self.world.now + pause, lambda: self._talk(host))

    def _talk(self, host: Host) -> None:
        [other] = [end for end in self.ends if end is not host]
        now = self.world.now
        self._check_observers()
        if self._is_whole:
            self._first_sent.setdefault(host, now)
        well = now - self._first_sent.get(host, now) >= RECOVERY
        for _ in range(self.rng.choice([1, 1, 3, 20])):
            self._number += 1
            length = self._number % LENGTHS
            payload = struct.pack(">Q", self._number)
            if well:
                self._under_way[payload] = (now, other)
            self._waiting[host, length].append(payload)
            may_leave = self._observers[host].may_send(now)
            if not may_leave:
                self._observers[host].packet_staged(now)
            before = self._data_sent
            host.send(other, payload + bytes(16 * length))
            assert self._data_sent - before == may_leave, (
                f"{host.name}: sent {self._data_sent - before} packets"
            )
        self._plan_traffic(host)

    # --- what must hold ---

    def _observe(self, host: Host) -> None:
        """From now on: it knows nothing yet."""
        observer = self._observers[host] = Observer(host.name)
        for waiting in [key for key in self._waiting if key[0] is host]:
            del self._waiting[waiting]
        begin = host.engine.begin_session

        def begin_session(peer: object, **arguments: object) -> None:
            session = Session(
                *(arguments[name] for name in ("local_index", "remote_index", "is_initiator", "created_at"))  # type: ignore[arg-type]
            )
            assert session.created_at <= self.world.now
            observer.session_begun(session, self.world.now)
            begin(peer, **arguments)  # type: ignore[arg-type]

        host.engine.begin_session = begin_session  # type: ignore[method-assign, assignment]

    def _sent(self, datagram: Datagram) -> None:
        shape = f"{datagram.at:.6f} {datagram.sender.name} {datagram.to} {datagram.kind} {len(datagram.data)}"
        self._digest.update(shape.encode())
        observer = self._observers[datagram.sender]
        if datagram.kind == INITIATION:
            observer.initiation_sent(datagram.at)
        elif datagram.kind == RESPONSE:
            observer.response_sent(datagram.at)
        elif datagram.kind == TRANSPORT:
            index, counter = struct.unpack_from("<IQ", datagram.data, 4)
            observer.transport_sent(index, counter, datagram.is_data, datagram.at)
            session = observer.current
            assert session is not None
            assert counter < REJECT_AFTER_MESSAGES
            assert (session, counter) not in self._counters, f"{datagram}: counter {counter} is used again"
            self._counters.add((session, counter))
            if datagram.is_data:
                self._data_sent += 1
                self._left(datagram)

    def _left(self, datagram: Datagram) -> None:
        waiting = self._waiting[datagram.sender, (len(datagram.data) - KEEPALIVE_SIZE - 32) // 16]
        payload = waiting.pop()
        if payload in self._under_way:
            self._inside[datagram.data[4:16]] = payload

    def _arrives(self, host: Host, datagram: Datagram) -> None:
        self._must_accept = False
        self._check_observers()
        if datagram.kind == TRANSPORT:
            index, counter = struct.unpack_from("<IQ", datagram.data, 4)
            observer, now = self._observers[host], self.world.now
            self._must_accept = observer.transport_arrives(index, counter, datagram.is_data, now)
            if not self._must_accept:
                self._excuse(observer.sessions.get(index), datagram)

    def _excuse(self, session: Session | None, datagram: Datagram) -> None:
        """A packet may be lost by its receiver's new session, or by the end of the one it was sent with."""
        if session is None:
            return
        was_under_way = session.dropped_at is not None and datagram.at <= session.dropped_at
        is_too_old = self.world.now - session.created_at >= REJECT_AFTER_TIME
        if was_under_way or is_too_old:
            payload = self._inside.pop(datagram.data[4:16], None)
            if payload is not None and self._under_way.pop(payload, None) is not None:
                self.excused += 1

    def _delivered(self, host: Host, datagram: Datagram) -> None:
        fresh = host.received[self._seen[host] :]
        self._seen[host] = len(host.received)
        must_come_out = self._must_accept and datagram.is_data
        assert len(fresh) == must_come_out, f"{host.name}: {datagram} brought {len(fresh)} packets"
        for packet in fresh:
            payload = packet[20:28]
            assert payload not in self._arrived, f"packet {payload.hex()} came out twice"
            self._arrived.add(payload)
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

    def _check_observers(self) -> None:
        for observer in self._observers.values():
            observer.check(self.world.now)

    def _check_under_way(self) -> None:
        for payload, (sent_at, _) in self._under_way.items():
            self._judge(self.world.now - sent_at, payload)

    def _trouble(self) -> None:
        """What is under way may be lost from now on, and sessions with it."""
        self._check_under_way()
        self._first_sent.clear()
        self._under_way.clear()
        self._inside.clear()
