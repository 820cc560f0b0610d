"""The path machine alone: time is a number, the net is a set of endpoints that answer."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.clockwork import Clockwork
from wgpy.addresses import Endpoint
from wgpy.mesh.paths import (
    LOST_PINGS,
    MAX_CANDIDATES,
    ROUND_INTERVAL,
    Initiate,
    PathKind,
    Rediscover,
    SendControl,
    SendCopy,
    UsePath,
    kind_of,
)
from wgpy.mesh.probe import encode_ping, encode_pong, parse_probe_untrusted
from wgpy.mesh.relay import relayed_endpoint
from wgpy.mesh.whereabouts import encode_where, parse_where_untrusted

LAN = Endpoint.parse("192.168.7.2:51820")
PUBLIC = Endpoint.parse("198.51.100.7:51820")
OTHER = Endpoint.parse("198.51.100.8:40000")
REBOUND = Endpoint.parse("198.51.100.7:40000")
"""Where a NAT that was restarted has the peer of PUBLIC."""
RELAY = Endpoint.parse("127.0.0.1:40001")
RELAYED = relayed_endpoint(1, 7)
BOB = "b" * 32


class World(Clockwork):
    """One machine, and peers that answer a PING at some endpoints after a round trip."""

    def __init__(self) -> None:
        super().__init__()
        self.rtt: dict[Endpoint, float] = {}
        """Where a PING is answered, and how fast."""
        self.sent: list[tuple[float, object]] = []
        self.path: UsePath | None = None

    def know(self, *endpoints: Endpoint, peer: str = BOB, is_offline: bool = False) -> None:
        told = [(e, PathKind.RELAYED if e == RELAY else kind_of(e)) for e in endpoints]
        self.machine.set_candidates(peer, told, self.now, is_offline=is_offline)
        self._take()

    def begin_session(self, peer: str = BOB) -> None:
        self.machine.session_begun(peer, self.now)
        self._take()

    def initiate(self) -> None:
        self.machine.initiation_sent(BOB, b"initiation", self.now)
        self._take()

    def observe(self, unanswered: float, has_session: bool = True) -> None:
        self.machine.observe(BOB, unanswered, has_session, self.now)
        self._take()

    def _take(self) -> None:
        actions, self.machine.actions = self.machine.actions, []
        for action in actions:
            self.sent.append((self.now, action))
            if isinstance(action, UsePath):
                self.path = action
            if isinstance(action, SendControl) and action.to in self.rtt:
                probe = parse_probe_untrusted(action.data)
                if probe is not None and not probe.is_pong:
                    pong = encode_pong(probe.id)
                    self._answers.append((self.now + self.rtt[action.to], action.peer, action.to, pong))

    def pings(self, to: Endpoint | None = None, since: float = 0.0) -> list[float]:
        return [
            at
            for at, action in self.sent
            if isinstance(action, SendControl) and at >= since and (to is None or action.to == to)
        ]

    def copies(self) -> list[tuple[float, Endpoint]]:
        return [(at - 100.0, action.to) for at, action in self.sent if isinstance(action, SendCopy)]

    @property
    def used(self) -> Endpoint:
        assert self.path is not None
        return self.path.endpoint


@pytest.fixture
def world() -> World:
    return World()


def test_without_a_session_the_first_candidate_is_used_and_a_handshake_wanted(world: World) -> None:
    world.know(PUBLIC, LAN)
    assert world.used == PUBLIC
    assert [action for _, action in world.sent if isinstance(action, Initiate)] == [Initiate(BOB)]
    assert world.pings() == []


def test_an_initiation_goes_to_all_candidates_again_and_again_for_two_seconds(world: World) -> None:
    world.know(PUBLIC, LAN)
    world.initiate()
    world.run(5.0)
    assert world.copies() == [(0.0, LAN)] + [(at, e) for at in (0.25, 0.5, 1.0, 2.0) for e in (PUBLIC, LAN)]


def test_a_session_ends_the_copies(world: World) -> None:
    world.know(PUBLIC, LAN)
    world.initiate()
    world.run(0.3)
    world.begin_session()
    world.run(5.0)
    assert [at for at, _ in world.copies()] == [0.0, 0.25, 0.25]


def test_nobody_initiates_everywhere_to_a_node_that_is_away_until_it_is_back(world: World) -> None:
    world.know(PUBLIC, LAN, is_offline=True)
    world.initiate()
    world.run(1.0)
    assert world.copies() == []
    world.know(PUBLIC, LAN)
    assert world.copies() == [(1.0, PUBLIC), (1.0, LAN)]


def test_the_rekey_of_a_path_that_works_goes_nowhere_else(world: World) -> None:
    world.rtt = {PUBLIC: 0.03}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(10.0)
    world.initiate()
    world.run(4.0)
    assert world.copies() == []
    world.initiate()
    world.run(0.1)
    assert [to for _, to in world.copies()] == [OTHER]


def test_the_lan_is_used_as_soon_as_it_answers_and_the_reason_says_so(world: World) -> None:
    world.rtt = {PUBLIC: 0.001, LAN: 0.04}
    world.know(PUBLIC, LAN)
    world.begin_session()
    world.run(0.02)
    assert world.used == PUBLIC
    world.run(0.1)
    assert world.used == LAN
    report = world.machine.report(BOB, world.now)
    assert report is not None
    assert report.is_proven
    assert report.reason == f"lan: it answers there in 40 ms, better than direct by {PUBLIC}"
    assert [candidate.state for candidate in report.candidates] == ["answered 0 s ago"] * 2


def test_a_relay_carries_on_until_a_direct_path_answers_and_again_when_that_dies(world: World) -> None:
    world.rtt = {RELAY: 0.05}
    world.know(RELAY, PUBLIC)
    world.begin_session()
    world.run(5.0)
    assert world.used == RELAY
    world.rtt[PUBLIC] = 0.09
    world.run(ROUND_INTERVAL)
    assert world.used == PUBLIC
    del world.rtt[PUBLIC]
    for tenth in range(10, 40):
        world.observe(tenth / 10)
        world.run(0.1)
        if world.used == RELAY:
            break
    assert world.used == RELAY
    assert tenth / 10 <= 2.0, "a path that died is left within two seconds of data unanswered"
    report = world.machine.report(BOB, world.now)
    assert report is not None
    assert report.reason.endswith(f"{PUBLIC} (direct) stopped answering")


def test_data_goes_by_two_ways_while_nothing_answers_and_by_one_afterwards(world: World) -> None:
    world.rtt = {PUBLIC: 0.03, OTHER: 0.02}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(1.0)
    first = world.used
    world.rtt = {}
    world.observe(1.0)
    assert any(isinstance(action, Rediscover) for _, action in world.sent)
    world.run(1.0)
    world.observe(2.0)
    assert world.path == UsePath(BOB, first, tuple({PUBLIC, OTHER} - {first}))
    world.observe(0.0)
    assert world.path == UsePath(BOB, first)


def test_a_pong_from_elsewhere_proves_nothing(world: World) -> None:
    world.know(PUBLIC, OTHER)
    world.begin_session()
    ping = next(a for _, a in world.sent if isinstance(a, SendControl) and a.to == OTHER)
    probe = parse_probe_untrusted(ping.data)
    assert probe is not None
    for peer, origin in ((BOB, PUBLIC), (BOB, LAN), ("c" * 32, OTHER)):
        world.machine.handle_control(peer, origin, encode_pong(probe.id), world.now)
    assert world.machine.proven(BOB) is None
    world.machine.handle_control(BOB, OTHER, encode_pong(probe.id), world.now)
    assert world.machine.proven(BOB) == OTHER


def test_a_ping_is_answered_where_it_came_from_but_never_a_stranger_s(world: World) -> None:
    world.know(PUBLIC)
    world.begin_session()
    world.machine.handle_control(BOB, PUBLIC, encode_ping(b"12345678") + bytes(100), world.now)
    assert world.machine.actions == [SendControl(BOB, PUBLIC, encode_pong(b"12345678"))]
    world.machine.actions.clear()
    world.machine.handle_control("c" * 32, PUBLIC, encode_ping(b"12345678"), world.now)
    assert world.machine.actions == []


def test_another_port_of_a_known_address_is_used_at_once_when_nothing_else_is_known_to_work(
    world: World,
) -> None:
    world.rtt = {REBOUND: 0.05}
    world.know(PUBLIC)
    world.begin_session()
    world.machine.heard_from(BOB, REBOUND, world.now)
    world._take()
    assert world.used == REBOUND
    world.run(1.0)
    assert world.machine.proven(BOB) == REBOUND


def test_an_unknown_address_is_used_once_it_answered_the_ping_in_return(world: World) -> None:
    world.know(PUBLIC)
    world.begin_session()
    world.machine.heard_from(BOB, OTHER, world.now)
    world.run(3.0)
    assert world.pings(OTHER) == []
    assert world.used == PUBLIC
    world.machine.handle_control(BOB, OTHER, encode_ping(b"12345678"), world.now)
    (action,) = world.machine.actions
    assert isinstance(action, SendControl)
    probe = parse_probe_untrusted(action.data)
    assert probe is not None
    assert (action.to, probe.id, probe.is_pong) == (OTHER, b"12345678", True)
    assert probe.return_id is not None
    world.machine.handle_control(BOB, OTHER, encode_pong(probe.return_id), world.now)
    world._take()
    assert world.used == OTHER
    assert world.machine.proven(BOB) == OTHER


def test_a_ping_in_return_is_answered_and_proves_our_own_path_too(world: World) -> None:
    world.know(PUBLIC)
    world.begin_session()
    ((at, ping),) = [(at, action) for at, action in world.sent if isinstance(action, SendControl)]
    probe = parse_probe_untrusted(ping.data)
    assert probe is not None
    world.machine.handle_control(BOB, PUBLIC, encode_pong(probe.id, b"theirown"), at)
    assert world.machine.actions[0] == SendControl(BOB, PUBLIC, encode_pong(b"theirown"))
    assert world.machine.proven(BOB) == PUBLIC


def test_a_path_that_works_is_not_left_for_a_word_from_elsewhere(world: World) -> None:
    world.rtt = {PUBLIC: 0.03}
    world.know(PUBLIC)
    world.begin_session()
    world.run(1.0)
    world.machine.heard_from(BOB, REBOUND, world.now)
    world.run(10.0)
    assert world.used == PUBLIC
    assert len(world.pings(REBOUND)) == 5


def test_paths_of_one_kind_do_not_flap_by_a_hair(world: World) -> None:
    world.rtt = {PUBLIC: 0.030, OTHER: 0.028}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(600.0)
    switches = [at for at, action in world.sent if isinstance(action, UsePath)]
    assert len(switches) <= 2, "the first answer may win once"


def test_a_clearly_faster_path_of_the_same_kind_is_taken(world: World) -> None:
    world.rtt = {PUBLIC: 0.080}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(5.0)
    world.rtt[OTHER] = 0.010
    world.run(ROUND_INTERVAL)
    assert world.used == OTHER


def test_a_path_that_dies_while_nothing_is_sent_is_found_out_within_the_next_round(world: World) -> None:
    world.rtt = {LAN: 0.001, RELAY: 0.03}
    world.know(RELAY, LAN)
    world.begin_session()
    world.run(5.0)
    assert world.used == LAN
    del world.rtt[LAN]
    world.run(2 * ROUND_INTERVAL + 5)
    assert world.used == RELAY


def test_a_path_that_is_dead_one_way_alone_is_left_on_the_peer_s_word(world: World) -> None:
    world.know(LAN, PUBLIC)
    world.rtt = {LAN: 0.001, PUBLIC: 0.02}
    world.begin_session()
    world.run(20)
    assert world.used == LAN
    del world.rtt[LAN]  # the peer is heard by PUBLIC all the time: nothing is unanswered here
    world.machine.handle_control(BOB, PUBLIC, encode_ping(b"whatever"), world.now)
    world.run(5)
    assert world.used == LAN
    began = world.now
    world.machine.handle_control(BOB, PUBLIC, encode_ping(b"whatever", is_urgent=True), world.now)
    world._take()
    world.run(1)
    assert world.used == PUBLIC
    assert next(at for at, action in world.sent if action == world.path and at > began) - began < 0.5


def test_an_urgent_peer_cannot_make_us_leave_a_path_that_answers_nor_probe_without_end(world: World) -> None:
    world.know(LAN, PUBLIC)
    world.rtt = {LAN: 0.001, PUBLIC: 0.02}
    world.begin_session()
    world.run(20)
    sent = len(world.pings())
    for _ in range(1000):
        world.machine.handle_control(BOB, PUBLIC, encode_ping(b"whatever", is_urgent=True), world.now)
        world._take()
        world.run(0.01)
    assert world.used == LAN
    asked = [
        action
        for _, action in world.sent[sent:]
        if isinstance(action, SendControl)
        and (probe := parse_probe_untrusted(action.data))
        and not probe.is_pong
    ]
    assert len(asked) <= 10 * 5 * 2


def test_pings_say_when_data_goes_unanswered(world: World) -> None:
    world.know(LAN, PUBLIC)
    world.rtt = {LAN: 0.001}
    world.begin_session()
    world.run(20)
    world.rtt = {}
    world.observe(1.2)
    world.run(1)
    *_, (_, last) = world.sent
    assert isinstance(last, SendControl)
    probe = parse_probe_untrusted(last.data)
    assert probe is not None
    assert probe.is_urgent


def test_own_new_addresses_have_every_path_looked_at(world: World) -> None:
    world.rtt = {PUBLIC: 0.03}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(10.0)
    before = world.now
    world.machine.network_changed(world.now)
    world._take()
    assert len(world.pings(since=before)) == 2


def test_a_candidate_that_never_answers_gets_five_packets_a_round(world: World) -> None:
    world.rtt = {PUBLIC: 0.03}
    world.know(PUBLIC, OTHER)
    world.begin_session()
    world.run(ROUND_INTERVAL - 1)
    assert [round(at - 100.0, 2) for at in world.pings(OTHER)] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert max(len(a.data) for _, a in world.sent if isinstance(a, SendControl)) <= 64


def test_a_thousand_peers_that_never_answer_cost_twenty_packets_a_second(world: World) -> None:
    for number in range(1000):
        peer = f"{number:032x}"
        world.know(PUBLIC, OTHER, LAN, peer=peer)
        world.begin_session(peer)
    world.run(30.0)
    before = world.now
    world.run(300.0)
    a_second = Counter(int(at) for at in world.pings(since=before))
    assert sum(a_second.values()) / 300 <= 20.5


def test_candidates_are_bounded_and_those_told_or_used_stay(world: World) -> None:
    world.know(PUBLIC)
    world.begin_session()
    for port in range(1, 200):
        world.machine.heard_from(BOB, Endpoint.parse(f"198.51.100.9:{port}"), world.now)
    report = world.machine.report(BOB, world.now)
    assert report is not None
    assert len(report.candidates) <= MAX_CANDIDATES
    assert PUBLIC in {candidate.endpoint for candidate in report.candidates}
    assert report.endpoint in {candidate.endpoint for candidate in report.candidates}


def test_who_is_forgotten_is_sent_nothing(world: World) -> None:
    world.know(PUBLIC)
    world.begin_session()
    world.machine.keep_only([])
    before = len(world.sent)
    world.run(300.0)
    world.machine.observe(BOB, 5.0, True, world.now)
    world.machine.initiation_sent(BOB, b"initiation", world.now)
    assert len(world.sent) == before
    assert world.machine.report(BOB, world.now) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["know", "session", "heard", "observe", "initiation", "network", "run", "answer"]
            ),
            st.integers(0, 3),
            st.floats(0, 70),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_path_in_use_is_a_candidate_and_deadlines_move_on(
    steps: list[tuple[str, int, float]],
) -> None:
    world, endpoints = World(), (PUBLIC, OTHER, LAN, RELAY)
    for what, which, amount in steps:
        endpoint = endpoints[which]
        match what:
            case "know":
                world.know(*endpoints[which:], is_offline=amount < 10)
            case "session":
                world.begin_session()
            case "heard":
                world.machine.heard_from(BOB, endpoint, world.now)
            case "observe":
                world.observe(amount / 20, has_session=which > 0)
            case "initiation":
                world.machine.initiation_sent(BOB, b"initiation", world.now)
            case "network":
                world.machine.network_changed(world.now)
            case "answer":
                world.rtt = {endpoint: amount / 100}
            case _:
                world.run(amount)
        world._take()
        report = world.machine.report(BOB, world.now)
        if report is not None:
            assert report.candidates[0].endpoint == report.endpoint
            assert report.candidates[0].is_used
        world.machine.handle_timeout(world.now)
        deadline = world.machine.next_deadline()
        assert deadline is None or deadline > world.now
    assert LOST_PINGS < 5


def test_a_relay_that_is_about_to_stop_is_left_while_it_still_answers() -> None:
    near, far = relayed_endpoint(1, 5), relayed_endpoint(2, 5)
    assert kind_of(near) is PathKind.RELAYED
    world = World()
    world.rtt = {near: 0.01, far: 0.05}
    world.know(near, far)
    world.begin_session()
    world.run(1)
    assert world.used == near
    told = [(near, PathKind.RELAYED), (far, PathKind.RELAYED)]
    world.machine.set_candidates(BOB, told, world.now, leaving=(near,))
    world._take()
    world.run(0.2)
    assert world.used == far
    report = world.machine.report(BOB, world.now)
    assert report is not None
    assert "is about to stop" in report.reason
    world.machine.set_candidates(BOB, told, world.now)
    world.run(61)
    assert world.used == near, "it came back"


def told(world: World, since: float = 0.0) -> list[tuple[Endpoint, tuple[Endpoint, ...]]]:
    """By which way the peer was told where we are, and where."""
    return [
        (action.to, where)
        for at, action in world.sent
        if isinstance(action, SendControl) and at >= since and (where := parse_where_untrusted(action.data))
    ]


@pytest.fixture
def relayed(world: World) -> World:
    """By a relay, with nothing better known."""
    world.rtt[RELAYED] = 0.05
    world.machine.set_own([LAN, PUBLIC], world.now)
    world.know(RELAYED)
    world.begin_session()
    world.run(10)
    assert world.used == RELAYED
    return world


def test_by_a_relay_a_peer_hears_where_we_are_and_again_when_that_changes(relayed: World) -> None:
    assert told(relayed)[0] == (RELAYED, (LAN, PUBLIC))
    before = relayed.now
    relayed.machine.set_own([OTHER], relayed.now)
    relayed._take()
    assert told(relayed, before) == [(RELAYED, (OTHER,))]
    relayed.machine.set_own([OTHER], relayed.now)
    relayed._take()
    assert len(told(relayed, before)) == 1
    relayed.run(10 * ROUND_INTERVAL)
    assert len(told(relayed, before)) <= 11


def test_a_peer_that_says_where_it_is_gets_one_ping_there_and_our_own_word(relayed: World) -> None:
    before = relayed.now
    relayed.machine.handle_control(BOB, RELAYED, encode_where([OTHER, REBOUND]), relayed.now)
    relayed._take()
    assert (len(relayed.pings(OTHER)), len(relayed.pings(REBOUND))) == (1, 1)
    assert told(relayed, before) == [(RELAYED, (LAN, PUBLIC))]
    relayed.run(3 * ROUND_INTERVAL)
    assert (len(relayed.pings(OTHER)), len(relayed.pings(REBOUND))) == (1, 1), "neither answered"
    relayed.rtt[OTHER] = 0.01
    relayed.machine.handle_control(BOB, RELAYED, encode_where([OTHER, REBOUND]), relayed.now)
    relayed._take()
    relayed.run(1)
    assert relayed.used == OTHER


def test_nobody_is_told_or_asked_while_a_direct_path_answers(world: World) -> None:
    world.rtt |= {RELAYED: 0.05, PUBLIC: 0.02}
    world.machine.set_own([LAN], world.now)
    world.know(RELAYED, PUBLIC)
    world.begin_session()
    world.run(5)
    assert world.used == PUBLIC
    since = world.now
    world.run(10 * ROUND_INTERVAL)
    world.machine.set_own([OTHER], world.now)
    world._take()
    assert told(world, since) == []


def test_what_is_no_word_of_where_a_peer_is_says_nothing() -> None:
    good = encode_where([LAN, PUBLIC, OTHER])
    assert parse_where_untrusted(good) == (LAN, PUBLIC, OTHER)
    assert len(encode_where([PUBLIC] * 50)) == 6 * 112
    useless = [Endpoint.parse(text) for text in ("127.0.0.1:1", "224.0.0.1:1", "0.0.0.0:1", "[fe80::1]:1")]
    assert parse_where_untrusted(encode_where([*useless, RELAYED, OTHER])) == (OTHER,)
    for bad in (b"", good[:-1], good[:3], b"\x70\x03\x00\x00", b"\x70\x03\xff" + good[3:], b"E" + good[1:]):
        assert parse_where_untrusted(bad) == ()


def test_a_peer_of_which_enough_is_known_may_still_say_where_it_is(world: World) -> None:
    known = [Endpoint(PUBLIC.address, port) for port in range(1, MAX_CANDIDATES)]
    world.know(RELAYED, *known)
    world.begin_session()
    world.machine.handle_control(BOB, RELAYED, encode_where([OTHER]), world.now)
    world._take()
    assert len(world.pings(OTHER)) == 1
