"""What both ends of a tunnel say, from their check-ins to whoever asks."""

from __future__ import annotations

import random

import pytest
import trio

from coordinator import tunnels
from coordinator.presence import LEASE as ONLINE_LEASE
from coordinator.tunnels import LEASE, MAX_HELD, Pair, TunnelBoard, report_interval
from tests.coordinator.asgi import Answer, Service, running_service
from tests.coordinator.hosts import Follower
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import make_home, wait_until
from tests.mesh.examples import node_id
from wgpy.mesh.tunnels import Tunnel, TunnelReport
from wgpy.mesh.wire import CheckinAnswer

UP, DOWN = Tunnel("direct", handshake_age=9, rtt_us=34_120), Tunnel("none", "no answer")
A, B, C = sorted(map(node_id, (1, 2, 3)))


def begin(**peers: Tunnel) -> TunnelReport:
    return TunnelReport(True, {{"a": A, "b": B, "c": C}[name]: tunnel for name, tunnel in peers.items()})


def further(peer: str, tunnel: Tunnel) -> TunnelReport:
    return TunnelReport(False, {peer: tunnel})


def pairs(board: TunnelBoard, offline: str = "", **options: object) -> list[Pair]:
    found = board.pairs(lambda _: True, lambda node_id: node_id != offline, **options)  # type: ignore[arg-type]
    return list(found)


def states(board: TunnelBoard, offline: str = "") -> dict[tuple[str, str], str]:
    return {(pair.a, pair.b): pair.state for pair in pairs(board, offline)}


# --- the board ---


def test_a_pair_has_what_each_end_says_and_where_they_differ() -> None:
    board = TunnelBoard()
    board.report(A, (1, 1), begin(b=UP, c=UP), 100.0)
    board.report(B, (1, 1), begin(a=UP, c=DOWN), 100.0)
    board.report(C, (1, 1), begin(a=DOWN), 100.0)
    assert states(board) == {(A, B): "up", (A, C): "disputed", (B, C): "down"}
    assert states(board, offline=C) == {(A, B): "up", (A, C): "up", (B, C): "down"}
    board.report(B, (1, 2), further(C, UP), 101.0)
    assert states(board)[B, C] == "up"
    assert states(board, offline=B)[B, C] == "unknown"


def test_ages_become_instants_of_the_coordinators_clock() -> None:
    board = TunnelBoard()
    board.report(A, (1, 1), begin(b=UP), 1000.0)
    ((pair),) = pairs(board)
    ends = pair.to_json()["ends"]
    assert ends == [
        {
            "from": A, "path": "direct", "reason": "", "endpoint": None, "rtt_ms": 34.12,
            "latest_handshake_at": 991.0, "rx_bytes": 0, "tx_bytes": 0, "tried": [], "next_try_at": None,
            "at": 1000.0, "stale": False,
        }
    ]  # fmt: skip


def test_what_was_tried_in_vain_and_when_it_is_tried_again_is_told() -> None:
    board = TunnelBoard()
    tried = ("relay paris: answered 2 s ago", "direct 192.0.2.7:51820: no answer 40 s ago")
    relayed = Tunnel("relayed", "relayed: it answers there", None, 9, tried=tried, next_try=20)
    board.report(A, (1, 1), begin(b=relayed), 1000.0)
    ((pair),) = pairs(board)
    (end,) = pair.to_json()["ends"]
    assert (end["tried"], end["next_try_at"]) == (list(tried), 1020.0)


def test_an_older_report_and_a_difference_to_nothing_are_passed_over() -> None:
    board = TunnelBoard()
    board.report(A, (1, 5), further(B, UP), 100.0)
    assert not board.knows(A)
    board.report(A, (1, 6), begin(b=UP), 100.0)
    board.report(A, (1, 5), further(B, DOWN), 101.0)
    assert states(board) == {(A, B): "up"}
    board.report(A, (2, 1), begin(c=DOWN), 102.0)
    assert states(board) == {(A, C): "down"}


def test_words_of_a_node_that_goes_on_are_kept_and_those_of_a_silent_one_dropped() -> None:
    board = TunnelBoard()
    board.report(A, (1, 1), begin(b=UP), 0.0)
    board.report(B, (1, 1), begin(a=UP), 0.0)
    board.hear(A, LEASE - 1)
    board.expire(LEASE)
    assert (board.knows(A), board.knows(B), len(board)) == (True, False, 1)
    board.forget(A)
    assert (pairs(board), len(board), board._partners) == ([], 0, {})


def test_a_node_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    board = TunnelBoard()
    for first in range(0, 1000, 100):
        peers = {node_id(number): UP for number in range(first, first + 100)}
        board.report(A, (1, first + 1), TunnelReport(first == 0, peers), 0.0)
    assert len(board) == MAX_HELD
    monkeypatch.setattr(tunnels, "MAX_HELD_IN_ALL", MAX_HELD + 1)
    board.report(B, (1, 1), begin(a=UP, c=UP), 0.0)
    assert len(board) == MAX_HELD + 1


def test_random_reports_leave_what_a_plain_table_would() -> None:
    rng, board = random.Random(5), TunnelBoard()
    plain: dict[str, dict[str, Tunnel]] = {}
    names = [node_id(number) for number in range(9)]
    for sequence in range(2000):
        node = rng.choice(names)
        others = [name for name in names if name != node]
        report = TunnelReport(rng.random() < 0.2, {rng.choice(others): rng.choice((UP, DOWN))})
        if rng.random() < 0.1:
            board.forget(node)
            plain.pop(node, None)
            continue
        board.report(node, (1, sequence), report, float(sequence))
        if report.begin:
            plain[node] = {}
        if node in plain:
            plain[node].update(report.peers)
    expected = sorted({(min(a, b), max(a, b)) for a, told in plain.items() for b in told})
    found = pairs(board)
    assert [(pair.a, pair.b) for pair in found] == expected
    for pair in found:
        for node, end, _ in pair.ends:
            assert end.tunnel == plain[node][pair.b if node == pair.a else pair.a]
    assert len(board) == sum(map(len, plain.values()))
    cursor, walked = ("", ""), []
    while page := pairs(board, after=cursor)[:4]:
        walked += page
        cursor = page[-1].a, page[-1].b
    assert walked == found
    assert pairs(board, of=names[4]) == [pair for pair in found if names[4] in (pair.a, pair.b)]


@pytest.mark.parametrize(
    ("nodes", "watched", "interval"),
    [(3, False, 600), (3, True, 10), (200, True, 10), (1000, True, 50), (100_000, True, 600)],
)
def test_the_more_nodes_the_rarer_each_reports(nodes: int, watched: bool, interval: int) -> None:
    assert report_interval(nodes, is_watched=watched) == interval


# --- by the wire ---


async def tell(service: Service, bearer: str, sequence: int, report: TunnelReport) -> CheckinAnswer:
    answer = await service.check_in(bearer, sequence, tunnels=report.to_json(), brief=True)
    assert answer.status == 200, answer.body
    return CheckinAnswer.from_json(answer.json)


async def asked(service: Service, query: str = "") -> Answer:
    return await service.admin("GET", f"networks/home/tunnels{query}")


async def test_what_two_nodes_report_is_one_entry_with_both_ends(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        (first, one), (second, two) = await service.member(1), await service.member(2)
        nothing = {"tunnels": [], "every": 10, "at": int(sqlite_rows.now), "next": None}
        assert (await asked(service)).json == nothing
        said = await tell(service, one, 1, TunnelReport(True, {second.id: UP}))
        assert (said.frame, said.presence.nodes) == (None, {})
        assert said.reports is not None
        assert said.reports.known
        await tell(service, two, 1, TunnelReport(True, {first.id: DOWN}))
        (pair,) = (await asked(service)).json["tunnels"]
        assert (pair["a"], pair["b"]) == tuple(sorted((first.id, second.id)))
        assert pair["state"] == "disputed"
        assert {end["from"]: end["path"] for end in pair["ends"]} == {first.id: "direct", second.id: "none"}
        sqlite_rows.now += ONLINE_LEASE + 1
        assert first.membership is not None
        network_id = first.membership.network.id
        service.context.hub._channels[network_id].lane.expire(sqlite_rows.now)
        assert (await asked(service)).json["tunnels"][0]["state"] == "unknown"
        await service.admin("DELETE", f"networks/{network_id}/nodes/{second.id}")
        assert (await asked(service)).json["tunnels"] == []


async def test_who_asks_since_an_answer_gets_what_was_told_after_it(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        (first, one), (second, two), (third, _) = [await service.member(number) for number in (1, 2, 3)]
        await tell(service, one, 1, TunnelReport(True, {second.id: UP, third.id: UP}))
        at = (await asked(service)).json["at"]
        assert len((await asked(service, f"?since={at}")).json["tunnels"]) == 2  # of the same second: again
        sqlite_rows.now += 5
        at = (await asked(service)).json["at"]
        assert (await asked(service, f"?since={at}")).json["tunnels"] == []
        await tell(service, two, 1, TunnelReport(True, {first.id: DOWN}))
        (pair,) = (await asked(service, f"?since={at}")).json["tunnels"]
        assert {pair["a"], pair["b"]} == {first.id, second.id}
        assert len(pair["ends"]) == 2  # whole, not the end alone that spoke
        assert (await asked(service, "?since=soon")).code == "malformed"


async def test_a_coordinator_that_starts_anew_asks_for_everything_again(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        said = await tell(service, bearer, 7, TunnelReport(False, {B: UP}))
        assert said.reports is not None
        assert not said.reports.known
        full = CheckinAnswer.from_json((await service.check_in(bearer, 8)).json)
        assert full.frame is not None
        assert full.reports is not None
        assert not full.reports.known


async def test_a_list_comes_in_pages_and_of_one_node_alone(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        members = [await service.member(number) for number in range(1, 6)]
        for host, bearer in members:
            peers = {other.id: UP for other, _ in members if other is not host}
            await tell(service, bearer, 1, TunnelReport(True, peers))
        whole = (await asked(service)).json["tunnels"]
        assert len(whole) == 10
        walked, after = [], ""
        while True:
            page = (await asked(service, f"?limit=3{after}")).json
            walked += page["tunnels"]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert walked == whole
        of = (await asked(service, "?node=host-2")).json["tunnels"]
        assert of == [pair for pair in whole if members[1][0].id in (pair["a"], pair["b"])]
        assert (await asked(service, "?node=nobody")).code == "not_found"
        assert (await asked(service, "?after=x")).code == "malformed"


async def test_nodes_report_more_often_while_somebody_looks(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, bearer = await service.member(1)
        assert host.membership is not None
        follower, hub = Follower(), service.context.hub
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            listener = await hub.listen(host.membership.network.id)
            await wait_until(lambda: follower.report_every == 10)
            with trio.fail_after(10):
                await tell(service, bearer, 1, TunnelReport(True, {B: UP}))
                while listener.seen[2] == 0:
                    assert await hub.next_change(listener) is True
            hub.unlisten(listener)
            await wait_until(lambda: follower.report_every == 600)
        assert not follower.refused


async def test_a_report_that_is_no_report_is_refused_and_changes_nothing(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        bad = {"begin": True, "peers": {B: UP.to_json() | {"path": "by pigeon"}}}
        answer = await service.check_in(bearer, tunnels=bad, brief=True)
        assert (answer.status, answer.code) == (400, "malformed")
        assert "pigeon" not in answer.json["detail"]
        assert (await asked(service)).json["tunnels"] == []
