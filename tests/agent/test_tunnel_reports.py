from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from coordinator.tunnels import TunnelBoard
from tests.mesh.examples import node_id
from wgpy.addresses import Endpoint
from wgpy.agent.report import PeerReport, TriedEndpoint
from wgpy.agent.tunnel_reports import (
    BATCH,
    FIRST_REPORT,
    MAX_REPORTED,
    NEWS_DELAY,
    PACE,
    TRAFFIC,
    TunnelReporter,
    tunnels_of,
)
from wgpy.mesh.tunnels import MAX_REASON, MAX_TRIED, ReportTerms, Tunnel, TunnelReport

WHERE, ELSEWHERE = Endpoint.parse("192.0.2.7:51820"), Endpoint.parse("192.0.2.8:51820")
PEER = node_id(2)
UP = Tunnel("direct", "", WHERE, 10, 34_000, 5000, 5000)
KNOWN = ReportTerms(600, True)


def make_reporter() -> TunnelReporter:
    return TunnelReporter(lambda: 0.5)


def told(reporter: TunnelReporter, tunnels: dict[str, Tunnel], now: float) -> TunnelReport:
    """One report that is due, and was answered."""
    report = reporter.make_report(tunnels, now)
    assert report is not None
    reporter.handle_terms(KNOWN, now)
    return report


def test_the_first_report_waits_for_handshakes_and_tells_everything() -> None:
    reporter = make_reporter()
    assert reporter.wait(100.0) == FIRST_REPORT * 1.5
    assert reporter.make_report({PEER: UP}, 100.0) is None
    assert told(reporter, {PEER: UP}, 104.5) == TunnelReport(True, {PEER: UP})
    assert reporter.wait(104.5) == 600


@pytest.mark.parametrize(
    ("changes", "is_news"),
    [
        ({}, False),
        ({"path": "none"}, True),
        ({"endpoint": ELSEWHERE}, True),
        ({"reason": "idle since 700 s"}, True),
        ({"rx_bytes": 5000 + TRAFFIC - 1}, False),
        ({"tx_bytes": 5000 + TRAFFIC}, True),
        ({"handshake_age": 610}, False),
        ({"handshake_age": 30}, True),
        ({"handshake_age": None}, True),
        ({"rtt_us": 9}, False),
    ],
)
def test_only_what_changed_is_told(changes: dict[str, object], is_news: bool) -> None:
    reporter = make_reporter()
    reporter.wait(0.0)
    told(reporter, {PEER: UP}, 10.0)
    later = dataclasses.replace(UP, **{"handshake_age": 610} | changes)  # type: ignore[arg-type]
    assert told(reporter, {PEER: later}, 610.0) == TunnelReport(False, {PEER: later} if is_news else {})


def test_figures_in_a_reason_are_no_news_of_themselves() -> None:
    reporter = make_reporter()
    reporter.wait(0.0)
    down = Tunnel("none", "no answer for 9 s; last handshake 4 min ago")
    told(reporter, {PEER: down}, 10.0)
    later = Tunnel("none", "no answer for 13 s; last handshake 5 min ago")
    assert told(reporter, {PEER: later}, 610.0).peers == {}


def test_what_was_not_answered_is_told_again() -> None:
    reporter = make_reporter()
    reporter.wait(0.0)
    assert reporter.make_report({PEER: UP}, 10.0) == TunnelReport(True, {PEER: UP})
    assert told(reporter, {PEER: UP}, 610.0) == TunnelReport(True, {PEER: UP})


def test_a_coordinator_that_lost_it_hears_everything_again_soon() -> None:
    reporter = make_reporter()
    reporter.wait(0.0)
    told(reporter, {PEER: UP}, 10.0)
    assert reporter.handle_terms(ReportTerms(600, False), 50.0)
    assert reporter.wait(50.0) == PACE
    assert told(reporter, {PEER: UP}, 51.0) == TunnelReport(True, {PEER: UP})


def test_an_older_coordinator_is_told_nothing_more() -> None:
    reporter = make_reporter()
    reporter.handle_terms(None, 0.0)
    assert reporter.wait(10_000.0) > 0
    assert reporter.make_report({PEER: UP}, 10_000.0) is None
    assert not reporter.note_news(10_000.0)


def test_somebody_who_looks_and_a_tunnel_that_goes_down_bring_the_next_report_forward() -> None:
    reporter = make_reporter()
    reporter.wait(0.0)
    told(reporter, {PEER: UP}, 10.0)
    assert reporter.note_news(20.0)
    assert reporter.wait(20.0) == pytest.approx(NEWS_DELAY, abs=0.1)
    assert reporter.handle_interval(10, 20.0)
    assert reporter.wait(20.0) < 0.1
    told(reporter, {PEER: UP}, 20.1)
    assert reporter.handle_interval(600, 25.0) is False


def test_a_thousand_peers_are_told_a_few_at_a_time_and_the_choice_is_steady() -> None:
    reporter, now = make_reporter(), 10.0
    reporter.wait(0.0)
    peers = {node_id(n): dataclasses.replace(UP, rx_bytes=5000 + n) for n in range(1000)}
    sizes, seen = [], set()
    for _ in range(6):
        aged = {id_: dataclasses.replace(tunnel, handshake_age=int(now)) for id_, tunnel in peers.items()}
        report = told(reporter, aged, now)
        sizes.append(len(report.peers))
        seen |= report.peers.keys()
        now += reporter.wait(now)
    assert sizes == [BATCH] * 5 + [MAX_REPORTED - 5 * BATCH]
    assert seen == {node_id(n) for n in range(1000 - MAX_REPORTED, 1000)}
    assert now == pytest.approx(10 + 5 * PACE + 600)
    peers[node_id(1)] = dataclasses.replace(UP, rx_bytes=10**9)
    later = {id_: dataclasses.replace(tunnel, handshake_age=615) for id_, tunnel in peers.items()}
    assert told(reporter, later, now).peers == {}


@pytest.mark.parametrize("seed", range(20))
def test_however_answers_are_lost_the_coordinator_ends_up_with_what_is(seed: int) -> None:
    rng, board, now = random.Random(seed), TunnelBoard(), 0.0
    reporter = TunnelReporter(rng.random)
    tunnels: dict[str, Tunnel] = {}
    reporter.wait(now)

    def exchange(sequence: int, *, is_lossy: bool) -> None:
        report = reporter.make_report(tunnels, now)
        assert report is not None
        if is_lossy and rng.random() < 0.2:
            return
        board.report("me", (1, sequence), report, now)
        if is_lossy and rng.random() < 0.1:
            board.forget("me")
        if not is_lossy or rng.random() < 0.8:
            reporter.handle_terms(ReportTerms(10, board.knows("me")), now)

    change: Callable[[str], object] = lambda id_: tunnels.pop(id_, None)  # noqa: E731
    for sequence in range(200):
        for _ in range(rng.randrange(40)):
            id_ = node_id(rng.randrange(230))
            if rng.random() < 0.1:
                change(id_)
            else:
                tunnels[id_] = dataclasses.replace(UP, path=rng.choice(("direct", "none")))
        now += reporter.wait(now)
        exchange(sequence, is_lossy=True)
    for sequence in range(200, 212):
        now += reporter.wait(now)
        exchange(sequence, is_lossy=False)
    found = board.pairs(lambda _: True, lambda _: True)
    held = {pair.b if pair.a == "me" else pair.a: pair.ends[0][1].tunnel for pair in found}
    assert held == tunnels


def test_ages_leave_the_host_and_no_clock() -> None:
    peer = PeerReport(
        PEER, "bob", ("10.1.0.2",), "k", "none", "é" * 400, str(WHERE), 1000, 5, 6, True, rtt_ms=1.5
    )
    (tunnel,) = tunnels_of([peer], 1060.4).values()
    assert (tunnel.handshake_age, tunnel.rtt_us, tunnel.rx_bytes, tunnel.tx_bytes) == (60, 1500, 5, 6)
    assert len(tunnel.reason) == MAX_REASON
    assert tunnel.reason.isascii()
    assert Tunnel.from_json(tunnel.to_json(), "") == tunnel


def test_why_there_is_no_direct_path_is_told_with_what_was_tried_and_relays_by_name() -> None:
    tried = tuple(
        TriedEndpoint(where, path, "no answer 9 s ago", None)
        for where, path in (("relay paris", "relayed"), *[(f"192.0.2.{n}:7", "direct") for n in range(9)])
    )
    relayed = PeerReport(
        PEER, "bob", ("10.1.0.2",), "k", "relayed", "relayed: none of its 9 own endpoints answers",
        "relay paris", 1000, 5, 6, True, tried=tried, next_try=41,
    )  # fmt: skip
    (tunnel,) = tunnels_of([relayed], 1060.4).values()
    assert (tunnel.reason, tunnel.endpoint, tunnel.next_try) == (relayed.reason, None, 41)
    assert tunnel.tried[:2] == (
        "relay paris: no answer 9 s ago",
        "direct 192.0.2.0:7: no answer 9 s ago",
    )
    assert len(tunnel.tried) == MAX_TRIED
    assert Tunnel.from_json(tunnel.to_json(), "") == tunnel
    direct = dataclasses.replace(relayed, path="direct", endpoint="192.0.2.7:51820")
    (tunnel,) = tunnels_of([direct], 1060.4).values()
    assert (tunnel.reason, tunnel.tried, tunnel.next_try) == ("", (), None)
    reporter = make_reporter()
    reporter.wait(0.0)
    one = Tunnel("relayed", "it answers", tried=("direct 192.0.2.7:1: no answer 9 s ago",))
    told(reporter, {PEER: one}, 10.0)
    later = dataclasses.replace(one, tried=("direct 192.0.2.7:1: no answer 55 s ago",))
    assert told(reporter, {PEER: later}, 610.0).peers == {}
    now = dataclasses.replace(one, tried=("direct 192.0.2.7:1: being tried",))
    assert told(reporter, {PEER: now}, 1210.0).peers == {PEER: now}
