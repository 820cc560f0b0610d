"""A node's session at a relay: the node's machine against the relay's judge, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.mesh.examples import NETWORK_ID, identity_key, machine_key, node_id, seed
from wgpy.addresses import Endpoint
from wgpy.mesh import relay
from wgpy.mesh.relay_link import (
    ACK_TIMES,
    HELLO_TIMES,
    KEEPALIVE_INTERVAL,
    REFUSED_WAIT,
    LinkState,
    RelayLink,
)
from wgpy.mesh.relay_ticket import Ticket, sign_ticket
from wgpy.mesh.signing import IdentityKey, RelayKey, relay_register_input
from wgpy.relay.admission import Admission, Node

RELAY_KEY = RelayKey(seed("relay"))
HERE = Endpoint.parse("192.0.2.7:51820")
THERE = Endpoint.parse("192.0.2.8:51820")
WALL_CLOCK = 1_800_000_000


def make_ticket(
    number: int = 1, *, identity: IdentityKey | None = None, not_after: int = WALL_CLOCK + 1000
) -> Ticket:
    return sign_ticket(
        identity or identity_key(),
        network=NETWORK_ID,
        node=node_id(number),
        machine_key=machine_key(number).public_key(),
        relay=RELAY_KEY.public_key().id,
        not_after=not_after,
    )


def random_octets(number: int) -> Callable[[int], bytes]:
    return random.Random(number).randbytes


def make_admission() -> Admission:
    return Admission(RELAY_KEY, identity_key().public_key(), random_octets(2))


class World:
    """A node, a relay, and the wire between them; `is_cut`: nothing comes through."""

    def __init__(self, number: int = 1, admission: Admission | None = None) -> None:
        self.admission = admission or make_admission()
        self.link = RelayLink(
            self.admission.id, RELAY_KEY.public_key(), machine_key(number), random_octets(number)
        )
        self.now = 100.0
        self.is_cut = False
        self.sessions: dict[int, tuple[bytes, Endpoint]] = {}
        self.origin = HERE
        self.is_draining = False
        self.sent: list[bytes] = []
        self.last_counter = 0

    def admit(self, network: bytes, peer: int, key: bytes) -> int | None:
        session = 1000 + len(self.sessions)
        self.sessions[session] = (key, self.origin)
        return session

    def answer(self, data: bytes) -> bytes | None:
        match data[1]:
            case relay.Kind.HELLO:
                return relay.encode_cookie(data[4:20], b"c" * 16)
            case relay.Kind.REGISTER:
                return self.admission.judge(data, self.origin, self.admit, self.now, WALL_CLOCK)
            case _:
                return self.answer_keepalive(data)

    def answer_keepalive(self, data: bytes) -> bytes | None:
        session = int.from_bytes(data[4:12], "big")
        if session not in self.sessions:
            return bytes((relay.MAGIC, relay.Kind.NOTICE, 1, 1)) + data[4:12] + bytes(16)
        key, origin = self.sessions[session]
        signed, mac, cookie = data[:36], data[36:52], data[20:36]
        hashed = self._mac(key, signed)
        counter = int.from_bytes(data[12:20], "big")
        if mac != hashed or counter <= self.last_counter:
            return None
        self.last_counter = counter
        if origin != self.origin and cookie != b"m" * 16:
            return bytes((relay.MAGIC, relay.Kind.NOTICE, 2, 1)) + data[4:12] + b"m" * 16
        self.sessions[session] = (key, self.origin)
        ack = bytes((relay.MAGIC, relay.Kind.ACK, int(self.is_draining), 1)) + data[4:20]
        ack += relay.encode_observed(self.origin)
        return ack + self._mac(key, ack)

    @staticmethod
    def _mac(key: bytes, data: bytes) -> bytes:
        import hashlib  # noqa: PLC0415

        return hashlib.blake2s(data, key=key, digest_size=16).digest()

    def exchange(self) -> None:
        """Carry all that is to be said, a hundredth of a second each way."""
        while self.link.outbox:
            data = self.link.outbox.pop(0)
            self.sent.append(data)
            answer = None if self.is_cut else self.answer(data)
            self.now += 0.02
            if answer is not None:
                self.link.handle_datagram(answer, self.now)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.link.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.link.handle_timeout(self.now)
            self.exchange()
        self.now = max(self.now, end)

    def start(self, ticket: Ticket | None = None) -> None:
        self.link.start(ticket or make_ticket(), self.now)
        self.exchange()


def kinds(sent: list[bytes]) -> list[int]:
    return [data[1] for data in sent]


def test_a_session_is_had_in_two_round_trips_and_kept_with_one_packet_in_twenty_seconds() -> None:
    world = World()
    world.start()
    assert (world.link.state, world.link.session) == (LinkState.UP, 1000)
    assert world.link.observed == HERE
    assert world.link.rtt == pytest.approx(0.02)
    assert kinds(world.sent) == [relay.Kind.HELLO, relay.Kind.REGISTER]
    world.sent.clear()
    world.pass_time(100)
    assert kinds(world.sent) == [relay.Kind.KEEPALIVE] * 4 or kinds(world.sent) == [relay.Kind.KEEPALIVE] * 5
    assert world.link.state is LinkState.UP


def test_a_relay_that_stops_answering_is_noticed_and_asked_for_ever() -> None:
    world = World()
    world.start()
    world.is_cut = True
    world.pass_time(KEEPALIVE_INTERVAL + 5)
    assert world.link.state is LinkState.CONNECTING
    assert world.link.session is None
    world.pass_time(20)
    assert world.link.is_silent
    assert world.link.reason == "it does not answer"
    world.sent.clear()
    world.pass_time(10 * HELLO_TIMES[-1])
    assert 9 <= len(world.sent) <= 11
    world.is_cut = False
    world.pass_time(HELLO_TIMES[-1] + 1)
    assert world.link.state is LinkState.UP
    assert not world.link.is_silent


def test_a_way_that_is_blocked_is_known_in_a_third_of_a_second_before_and_in_a_session() -> None:
    world = World()
    world.is_cut = True
    world.start()
    world.pass_time(0.25)
    assert not world.link.is_silent
    world.pass_time(0.1)
    assert world.link.is_silent
    world.is_cut = False
    world.pass_time(1)
    assert (world.link.state, world.link.is_silent) == (LinkState.UP, False)
    world.is_cut = True
    world.link.check(world.now)
    world.exchange()
    world.pass_time(0.35)
    assert (world.link.state, world.link.is_silent) == (LinkState.UP, True)
    world.is_cut = False
    world.pass_time(1)
    assert (world.link.state, world.link.is_silent) == (LinkState.UP, False)
    world.is_cut = True
    world.link.check(world.now)
    world.exchange()
    world.pass_time(sum(ACK_TIMES) + 0.1)
    assert world.link.state is LinkState.CONNECTING


def test_of_several_places_that_are_asked_the_first_that_answers_gets_the_ticket() -> None:
    world = World()
    world.link.start(make_ticket(), world.now)
    (hello,) = world.link.outbox
    world.link.outbox.clear()
    cookie = relay.encode_cookie(hello[4:20], b"c" * 16)
    assert world.link.handle_datagram(cookie, world.now)
    assert kinds(world.link.outbox) == [relay.Kind.REGISTER]
    assert not world.link.handle_datagram(cookie, world.now)
    assert kinds(world.link.outbox) == [relay.Kind.REGISTER]
    world.exchange()
    assert world.link.state is LinkState.UP


def test_a_relay_that_was_started_anew_has_the_node_back_at_once() -> None:
    world = World()
    world.start()
    world.sessions.clear()
    world.admission = make_admission()
    world.link.check(world.now)
    before = world.now
    world.exchange()
    assert world.link.state is LinkState.UP
    assert world.now - before < 0.1


def test_a_session_moves_with_the_node_within_two_round_trips() -> None:
    world = World()
    world.start()
    world.origin = THERE
    world.link.check(world.now)
    world.exchange()
    assert world.sessions[1000][1] == THERE
    assert world.link.observed == THERE
    assert kinds(world.sent[2:]) == [relay.Kind.KEEPALIVE] * 2


def test_a_draining_relay_is_known_to_be_one() -> None:
    world = World()
    world.start()
    world.is_draining = True
    world.pass_time(KEEPALIVE_INTERVAL + 1)
    assert world.link.is_draining
    assert world.link.state is LinkState.UP


def test_who_is_refused_says_why_waits_and_gets_in_with_another_ticket() -> None:
    other = IdentityKey(seed("another coordinator"))
    for ticket, words in (
        (make_ticket(identity=other), "not one of this relay's coordinator"),
        (make_ticket(not_after=WALL_CLOCK - 1000), "its ticket is over"),
    ):
        world = World()
        world.start(ticket)
        assert world.link.state is LinkState.REFUSED
        assert words in world.link.reason
        assert world.link.needs_ticket
        world.sent.clear()
        world.pass_time(REFUSED_WAIT - 1)
        assert world.sent == []
        world.start(make_ticket(not_after=WALL_CLOCK + 5000))
        assert world.link.state is LinkState.UP
        assert not world.link.needs_ticket


def test_a_removed_node_is_refused_though_its_ticket_is_good() -> None:
    world = World()
    gone = Node(NETWORK_ID, node_id(1))
    assert world.admission.remove([gone]) == [gone]
    assert world.admission.remove([gone]) == []
    world.start()
    assert world.link.reason == "the node was removed"


def test_another_nodes_ticket_does_not_let_one_in_and_a_repeated_register_makes_no_second_session() -> None:
    world = World(number=2)
    world.start(make_ticket(1))
    assert world.link.state is LinkState.REFUSED
    assert world.sessions == {}
    world = World()
    world.start()
    register = world.sent[1]
    again = world.admission.judge(register, HERE, world.admit, world.now, WALL_CLOCK)
    assert again is not None
    assert again[1] == relay.Kind.REGISTERED
    assert len(world.sessions) == 1


def test_a_relay_that_is_not_the_one_of_the_map_gets_no_session() -> None:
    impostor = RelayKey(seed("impostor"))
    admission = Admission(impostor, identity_key().public_key(), random_octets(2))
    admission.id = RELAY_KEY.public_key().id
    world = World(admission=admission)
    world.start()
    assert world.link.state is LinkState.CONNECTING


def test_forged_acks_and_notices_of_other_sessions_change_nothing() -> None:
    world = World()
    world.start()
    notice = bytes((relay.MAGIC, relay.Kind.NOTICE, 1, 1)) + (77).to_bytes(8, "big") + bytes(16)
    world.link.handle_datagram(notice, world.now)
    ack = bytes((relay.MAGIC, relay.Kind.ACK, 1, 1)) + (1000).to_bytes(8, "big") + bytes(8 + 18 + 16)
    world.link.handle_datagram(ack, world.now)
    assert world.link.state is LinkState.UP
    assert not world.link.is_draining


def test_two_hosts_with_one_state_file_are_told() -> None:
    admission = make_admission()
    ticket = make_ticket()
    for number in range(6):
        ephemeral = machine_key(50 + number)
        client = relay.PublicKey(bytes(ephemeral.public_key()))
        octets = (bytes([number]) * 16, b"c" * 16)
        signed = relay_register_input(admission.id, *octets, client, ticket.encode())
        message = relay.Register(*octets, client, ticket.encode(), machine_key(1).sign(signed))
        origin = (HERE, THERE)[number % 2]
        answer = admission.judge(
            relay.encode_register(message), origin, lambda *_: 5, 100.0 + number, WALL_CLOCK
        )
        assert answer is not None
    assert list(admission.fights) == [Node(NETWORK_ID, node_id(1))]
    admission.tidy(100_000.0)
    assert admission.fights == {}
