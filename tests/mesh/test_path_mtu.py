"""The search for a path's size, in a net that drops what is longer and says nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.clockwork import Clockwork
from wgpy.addresses import Endpoint
from wgpy.mesh.path_mtu import CHECK_INTERVAL, RETRY_INTERVAL, SEARCH_INTERVAL, SIZES
from wgpy.mesh.paths import (
    PACKETS_A_SECOND,
    PACKETS_AT_ONCE,
    ROUND_INTERVAL,
    SendControl,
    SetPathMtu,
    UsePath,
    kind_of,
)
from wgpy.mesh.probe import PING_SIZE, encode_pong, parse_probe_untrusted

FULL = 1380
LAN = Endpoint.parse("192.168.7.2:51820")
PUBLIC = Endpoint.parse("198.51.100.7:51820")
BOB = "b" * 32
LOOK = 0.5
"""Seconds between two times that the agent tells what became of data."""


class Net(Clockwork):
    """One machine. `room` is what each endpoint's path takes, `passes` the fate of a packet that fits."""

    def __init__(self, mtu: int | None = FULL, **rooms: int) -> None:
        super().__init__(first_id=1)
        self.rtt = 0.05
        self.room: dict[Endpoint, int] = {}
        self.passes: Callable[[], bool] = lambda: True
        self.sent: list[tuple[float, int]] = []
        """When, and how long: PINGs of more than the usual size, or together with such."""
        self.set: list[tuple[float, int | None]] = []
        self.used: Endpoint | None = None
        if mtu is not None:
            self.machine.set_mtu(mtu, self.now)

    def know(self, *endpoints: Endpoint, peer: str = BOB) -> None:
        self.machine.set_candidates(peer, [(each, kind_of(each)) for each in endpoints], self.now)
        self.machine.session_begun(peer, self.now)
        self._take()

    def _take(self) -> None:
        actions, self.machine.actions = self.machine.actions, []
        for action in actions:
            match action:
                case UsePath(_, endpoint):
                    self.used = endpoint
                case SetPathMtu(_, mtu):
                    self.set.append((self.now, mtu))
                case SendControl(peer, to, data):
                    probe = parse_probe_untrusted(data)
                    assert probe is not None
                    self.sent.append((self.now, len(data)))
                    if len(data) <= self.room.get(to, 0) and self.passes():
                        self._answers.append((self.now + self.rtt, peer, to, encode_pong(probe.id)))

    def exchange(self, seconds: float, unanswered: Callable[[], float] = lambda: 0.0) -> None:
        """Data goes to and fro, and for so long it has gone unanswered."""
        for _ in range(round(seconds / LOOK)):
            self.machine.observe(BOB, unanswered(), True, self.now)
            self._take()
            self.run(LOOK)

    @property
    def mtu(self) -> int | None:
        """What the engine knows."""
        return self.set[-1][1] if self.set else None

    def tried(self, since: float = 0.0) -> list[int]:
        """Lengths of all PINGs but the usual."""
        return [size for at, size in self.sent if at >= since and size != PING_SIZE]


def net_with(room: int, *, full: int = FULL) -> Net:
    net = Net(full)
    net.room[PUBLIC] = room
    net.know(PUBLIC)
    return net


def test_a_path_that_takes_all_costs_one_packet_in_ten_minutes() -> None:
    net = net_with(FULL)
    net.run(SEARCH_INTERVAL - 1)
    assert net.tried() == [FULL]
    net.run(ROUND_INTERVAL + 2)
    assert net.tried() == [FULL, FULL]
    assert net.set == []


@pytest.mark.parametrize("room", [1379, 1344, 1343, 1300, 1280, 1216, 1200, 1170, 1168])
def test_the_longest_size_that_passes_is_found_in_two_seconds(room: int) -> None:
    net = net_with(room)
    net.run(2.2)
    assert net.mtu == max(size for size in SIZES if size <= room)
    net.run(SEARCH_INTERVAL - 10)
    assert len(net.set) == 1
    assert net.machine.report(BOB, net.now).mtu == net.mtu  # type: ignore[union-attr]


def test_three_of_the_full_size_go_before_others_half_a_second_apart() -> None:
    net = net_with(1200)
    net.run(10.0)
    began = next(at for at, size in net.sent if size == FULL)
    by_instant = {
        round(at - began, 3): [size for when, size in net.sent if when == at]
        for at, _ in net.sent
        if at >= began
    }
    for at in (0.0, 0.5, 1.0):
        assert by_instant[at] == [FULL]
    assert by_instant[1.5] == [FULL, *(size for size in SIZES if size < FULL), PING_SIZE]
    assert by_instant[2.0] == by_instant[2.5] == [FULL, 1344, 1312, 1280], "what passed is not tried again"
    assert max(by_instant) == 2.5


def test_a_path_for_less_than_the_smallest_size_has_that() -> None:
    net = net_with(1000)
    net.run(4.0)
    assert net.mtu == SIZES[-1]


def test_a_device_of_a_small_mtu_is_not_told_of_a_greater_one() -> None:
    net = net_with(600, full=1100)
    net.run(4.0)
    assert net.set == []
    assert net.tried() == [1100] * 6


def test_where_nothing_is_answered_nothing_is_said_and_it_is_tried_again_later() -> None:
    net = net_with(FULL)
    net.passes = lambda: not net.sent or (net.sent[-1][1] == PING_SIZE and net.sent[-1][0] == 100.0)
    net.run(20.0)
    assert net.set == []
    net.passes, net.room[PUBLIC] = lambda: True, 1200
    net.run(RETRY_INTERVAL + ROUND_INTERVAL + 3)
    assert net.mtu == 1200


def test_a_path_that_grew_is_found_by_the_next_search() -> None:
    net = net_with(1200)
    net.run(5.0)
    net.room[PUBLIC] = FULL
    net.run(SEARCH_INTERVAL + ROUND_INTERVAL + 3)
    assert [mtu for _, mtu in net.set] == [1200, None]


def test_a_path_that_shrank_is_found_by_the_next_search() -> None:
    net = net_with(FULL)
    net.run(5.0)
    net.room[PUBLIC] = 1280
    net.run(SEARCH_INTERVAL + ROUND_INTERVAL + 3)
    assert [mtu for _, mtu in net.set] == [1280]


@pytest.mark.parametrize(("before", "after"), [(FULL, 1280), (1344, 1200)])
def test_a_path_that_shrinks_while_data_goes_unanswered_is_found_in_seconds(before: int, after: int) -> None:
    net = net_with(before)
    net.run(30.0)
    net.room[PUBLIC] = after
    began = net.now

    def unanswered() -> float:
        """PONGs come, and each is an answer."""
        heard = net.machine.report(BOB, net.now).candidates[0].state  # type: ignore[union-attr]
        return min(net.now - began, float(heard.split()[1]))

    net.exchange(6.0, unanswered)
    assert net.mtu == after
    assert net.set[-1][0] - began < 5.0


@pytest.mark.parametrize(("before", "after"), [(FULL, 1280), (1344, 1200)])
def test_so_is_one_whose_short_packets_are_still_answered(before: int, after: int) -> None:
    net = net_with(before)
    net.exchange(31.0)
    net.room[PUBLIC] = after
    began = net.now
    net.exchange(CHECK_INTERVAL + 5.0)
    assert net.mtu == after
    assert net.set[-1][0] - began < CHECK_INTERVAL + 4.0


@pytest.mark.parametrize(("room", "found"), [(FULL, FULL), (1300, 1280)])
def test_while_data_goes_a_size_that_holds_costs_one_packet_in_ten_seconds(room: int, found: int) -> None:
    net = net_with(room)
    net.run(10.0)
    before, known = net.now, len(net.set)
    net.exchange(SEARCH_INTERVAL - 60.0)
    tried = net.tried(before)
    assert set(tried) == {found}
    assert len(tried) == pytest.approx((SEARCH_INTERVAL - 60.0) / CHECK_INTERVAL, abs=2)
    assert len(net.set) == known
    if room != FULL:
        net.room[PUBLIC] = FULL
        net.exchange(2 * ROUND_INTERVAL + 5.0)
        assert net.mtu is None, "that it is checked does not keep it from being searched"


def test_of_a_path_on_which_nothing_is_answered_no_size_is_asked() -> None:
    net = net_with(FULL)
    net.run(30.0)
    net.room[PUBLIC] = 0
    before = net.now
    net.exchange(60.0, lambda: net.now - before + 1.0)
    assert net.tried(before) == []


def test_a_change_of_network_is_followed_by_a_search_at_once() -> None:
    net = net_with(FULL)
    net.run(5.0)
    net.room[PUBLIC] = 1280
    net.machine.network_changed(net.now)
    net.run(2.5)
    assert [mtu for _, mtu in net.set] == [1280]


def test_another_path_has_its_own_size_and_what_was_known_of_the_first_is_not_forgotten() -> None:
    net = net_with(1200)
    net.run(5.0)
    assert net.mtu == 1200
    net.room[LAN] = FULL
    net.know(PUBLIC, LAN)
    net.run(2.0)
    assert net.used == LAN
    assert net.mtu is None
    net.room[LAN] = 0
    net.machine.observe(BOB, 1.0, True, net.now)
    before = net.now
    net.run(3.0)
    assert net.used == PUBLIC
    assert net.mtu == 1200
    assert FULL in net.tried(before), "it is searched anew"


def test_another_mtu_of_the_device_is_searched_for_at_once() -> None:
    net = net_with(1200)
    net.run(5.0)
    net.machine.set_mtu(1190, net.now)
    net._take()
    assert net.mtu is None
    net.run(ROUND_INTERVAL + 5.0)
    assert net.tried()[-1] == 1190
    assert net.mtu is None


def test_an_answer_that_comes_late_counts() -> None:
    net = net_with(1200)
    net.rtt = 1.7
    net.run(8.0)
    assert net.mtu == 1200


def test_the_answer_to_another_path_s_ping_says_nothing() -> None:
    net = net_with(1200)
    ids: list[bytes] = []
    net.run(0.1)
    net.machine.handle_timeout(net.now)
    for at in range(1, 40):
        ids.append(at.to_bytes(8, "big"))
    for each in ids:
        net.machine.handle_control(BOB, LAN, encode_pong(each), net.now)
    net.run(3.0)
    assert net.mtu == 1200


def test_nothing_is_searched_for_a_device_whose_mtu_nobody_told() -> None:
    net = Net(None)
    net.room[PUBLIC] = 1200
    net.know(PUBLIC)
    net.run(SEARCH_INTERVAL)
    assert net.tried() == []


def test_a_quiet_peer_is_left_in_peace() -> None:
    net = net_with(1200)
    net.run(5.0)
    net.machine.set_quiet(BOB, True, net.now)
    before = net.now
    net.run(2 * SEARCH_INTERVAL)
    assert net.tried(before) == []


def test_many_narrow_paths_together_are_found_within_the_budget() -> None:
    net = Net(FULL)
    peers = [f"{number:032x}" for number in range(64)]
    for number, peer in enumerate(peers):
        endpoint = Endpoint.parse(f"203.0.113.{number + 1}:1")
        net.room[endpoint] = 1200
        net.know(endpoint, peer=peer)
    net.run(SEARCH_INTERVAL)
    for start in range(100, int(net.now), 10):
        count = sum(start <= at < start + 10 for at, _ in net.sent)
        allowed = PACKETS_A_SECOND * 10 + (PACKETS_AT_ONCE if start == 100 else 64)
        assert count <= allowed, f"{count} packets from second {start} on"
    assert len(net.sent) <= PACKETS_AT_ONCE + PACKETS_A_SECOND * SEARCH_INTERVAL
    assert [net.machine.report(peer, net.now).mtu for peer in peers] == [1200] * 64  # type: ignore[union-attr]


@given(st.integers(SIZES[-1], FULL), st.floats(0.0, 0.4), st.integers())
def test_a_path_that_loses_packets_is_never_found_larger_than_it_is(
    room: int, loss: float, seed: int
) -> None:
    net = net_with(room)
    chance = random.Random(seed)
    net.passes = lambda: chance.random() >= loss
    net.run(2 * SEARCH_INTERVAL)
    assert room >= FULL or all(mtu is None or mtu <= room for _, mtu in net.set)
    net.passes = lambda: True
    net.run(2 * SEARCH_INTERVAL)
    assert net.mtu == (None if room >= FULL else max(size for size in SIZES if size <= room))
