from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.agent.server import STREAM, Handler, Request, Send, Server, answer, chunk, problem, serving
from tests.mesh.examples import NETWORK_ID, machine_key, make_node, node_id
from tests.mesh.messages import make_challenge, make_held, make_presence, make_removed
from wgpy.addresses import Endpoint
from wgpy.agent.client import CoordinatorClient, Credentials
from wgpy.agent.follow import Backoff, Follower, Removed
from wgpy.mesh.delta import HeldMap, make_delta, make_full
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.forward import Offer
from wgpy.mesh.frames import Frame, KeepaliveFrame, PresenceFrame, ReportsFrame
from wgpy.mesh.record import Record
from wgpy.mesh.tunnels import ReportTerms, Tunnel, TunnelReport
from wgpy.mesh.wire import CheckinAnswer, CheckinRequest, Session

WHO = Credentials(NETWORK_ID, node_id(1), machine_key(1))
OLD, NEW = make_held(7), make_held(8)
NOBODY = PresenceFrame(True, {})


class Node:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.held: HeldMap | None = None
        self.record: Record | None = None
        self.offer: Offer | None = None
        self.offered: list[Offer] = []
        self.tunnels: TunnelReport | None = None
        self.terms: list[ReportTerms | None] = []
        self.intervals: list[float] = []
        self.presences: list[PresenceFrame] = []
        self.states: list[tuple[str, str]] = []
        self.changed = trio.Event()

    def current_map(self) -> HeldMap | None:
        return self.held

    def make_checkin(self, *, brief: bool) -> CheckinRequest:
        tunnels, self.tunnels = self.tunnels, None
        since = None if self.held is None else self.held.since
        return CheckinRequest(since, 1, 1, 51820, tunnels=tunnels, brief=brief)

    def report_wait(self) -> float:
        return math.inf if self.tunnels is None else 0.0

    def handle_unproven(self, endpoints: tuple[Endpoint, ...]) -> None: ...

    def handle_report_terms(self, terms: ReportTerms | None) -> None:
        self.terms.append(terms)
        self._tell()

    def handle_report_interval(self, every: float) -> None:
        self.intervals.append(every)
        self._tell()

    def make_record(self) -> Record | None:
        record, self.record = self.record, None
        return record

    def make_offer(self) -> Offer | None:
        offer, self.offer = self.offer, None
        return offer

    def handle_offered(self, offer: Offer) -> None:
        self.offered.append(offer)

    def handle_map(self, held: HeldMap) -> None:
        self.held = held
        self._tell()

    def handle_presence(self, frame: PresenceFrame) -> None:
        self.presences.append(frame)
        self._tell()

    def handle_state(self, state: str, reason: str) -> None:
        if not self.states or self.states[-1] != (state, reason):
            self.states.append((state, reason))
        self._tell()

    def _tell(self) -> None:
        event, self.changed = self.changed, trio.Event()
        event.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps over any wait in which nothing at all happens, sockets included."""
    return MockClock(autojump_threshold=0.3)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as server:
        server.routes["POST /v1/challenge"] = answer(make_challenge().to_json())
        server.routes["POST /v1/session"] = answer(Session("bearer-1", 900).to_json())
        server.routes["PUT /v1/node/record"] = answer({"revision": 7})
        yield server


def checkin(frame: Frame) -> bytes:
    return answer({"frame": frame.to_json(), "presence": NOBODY.to_json()})


def stream(*frames: Frame, ends: bool = False) -> Handler:
    async def send_frames(request: Request, send: Send) -> None:
        await send(STREAM + b"".join(chunk(encode_json(frame.to_json()) + b"\n") for frame in frames))
        if ends:
            await send(b"0\r\n\r\n")
        else:
            await trio.sleep_forever()

    return send_frames


def keepalive(held: HeldMap) -> KeepaliveFrame:
    return KeepaliveFrame(held.epoch, held.revision, held.map.hash)


def paths(server: Server) -> list[str]:
    return [request.path for request in server.seen]


async def follow(server: Server, node: Node, until: Callable[[], bool]) -> None:
    """Run a follower until the condition holds; what it raises comes out."""
    follower = Follower(CoordinatorClient([server.url], server.trust), WHO, node)
    with trio.fail_after(3000):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follower.run)
                await node.wait(until)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


async def test_what_a_node_would_forward_is_offered_before_it_is_signed(server: Server) -> None:
    server.routes["PUT /v1/node/offer"] = answer({"changed": True})
    server.routes["POST /v1/checkin"] = checkin(make_full(OLD))
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), make_delta(OLD, NEW))
    node = Node()
    node.record, node.offer = make_node(1).record, Offer((ipaddress.ip_network("192.168.1.0/24"),))
    offer = node.offer
    await follow(server, node, lambda: node.held == NEW)
    assert node.offered == [offer]
    asked = [path for path in paths(server) if path.startswith("/v1/node")]
    assert asked == ["/v1/node/offer", "/v1/node/record"]


async def test_a_record_that_is_refused_does_not_keep_the_newer_map_away(server: Server) -> None:
    server.routes["PUT /v1/node/record"] = problem("record_mismatch", 409)
    server.routes["POST /v1/checkin"] = checkin(make_full(NEW))
    server.routes["GET /v1/watch"] = stream(keepalive(NEW))
    node = Node()
    node.record = make_node(1).record
    await follow(server, node, lambda: node.held == NEW)


async def test_a_new_node_hands_in_its_record_then_checks_in_then_listens(server: Server) -> None:
    server.routes["POST /v1/checkin"] = checkin(make_full(OLD))
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), make_presence(), make_delta(OLD, NEW))
    node = Node()
    node.record = make_node(1).record
    await follow(server, node, lambda: node.held == NEW)
    wanted = ["/v1/node/record", "/v1/checkin", "/v1/watch?since=e0a1:7"]
    assert [
        path for path in paths(server) if path.startswith(("/v1/node", "/v1/check", "/v1/watch"))
    ] == wanted
    assert node.presences == [NOBODY, make_presence()]
    assert node.states == [("connected", "")]


async def test_a_gap_makes_it_ask_for_a_whole_map(server: Server) -> None:
    server.routes["POST /v1/checkin"] = checkin(keepalive(OLD))
    server.routes["GET /v1/watch"] = stream(make_delta(OLD, NEW))
    node = Node()
    node.held = dataclasses.replace(OLD, epoch="another")

    async def full(request: Request, send: Send) -> None:
        if request.json["since"] is None:
            await send(checkin(make_full(OLD)))
        else:
            await send(checkin(keepalive(OLD)))

    server.routes["POST /v1/checkin"] = full
    await follow(server, node, lambda: node.held == NEW)
    assert [request.json["since"] for request in server.seen if request.path == "/v1/checkin"] == [
        "another:7",
        None,
    ]


async def test_a_map_whose_hash_never_fits_is_asked_for_with_patience(
    server: Server, patient_clock: MockClock
) -> None:
    wrong = dataclasses.replace(make_full(OLD), hash=NEW.map.hash)
    server.routes["POST /v1/checkin"] = checkin(wrong)
    node = Node()
    started = trio.current_time()
    with trio.move_on_after(300):
        await follow(server, node, lambda: False)
    assert trio.current_time() - started >= 300
    assert 10 <= paths(server).count("/v1/checkin") <= 40
    assert node.held is None


async def test_only_a_removal_that_is_signed_makes_it_go(server: Server, patient_clock: MockClock) -> None:
    forged = dataclasses.replace(make_removed(), signature=bytes(64))
    someone_elses = dataclasses.replace(make_removed(), node=node_id(2))
    server.routes["POST /v1/checkin"] = checkin(make_full(OLD))
    server.routes["GET /v1/watch"] = stream(forged, someone_elses, make_delta(OLD, NEW))
    node = Node()
    await follow(server, node, lambda: node.held == NEW)
    server.routes["GET /v1/watch"] = stream(make_removed())
    with pytest.raises(Removed):
        await follow(server, node, lambda: False)


async def test_a_node_removed_while_it_was_away_learns_it_from_the_refusal(server: Server) -> None:
    body = {"title": "x", "status": 404, "detail": "This node was removed.", "code": "node_unknown"}
    signed = {**body, "removed": make_removed().to_json()}
    server.routes["POST /v1/session"] = answer(signed, 404, "application/problem+json")
    with pytest.raises(Removed):
        await follow(server, Node(), lambda: False)


@pytest.mark.parametrize(("code", "status"), [("node_unknown", 404), ("bad_signature", 401)])
async def test_a_coordinator_that_does_not_know_the_node_changes_nothing_but_the_state(
    server: Server, patient_clock: MockClock, code: str, status: int
) -> None:
    server.routes["POST /v1/session"] = problem(code, status, "No such node.")
    node = Node()
    node.held = OLD
    with trio.move_on_after(600):
        await follow(server, node, lambda: False)
    assert node.held == OLD
    assert [state for state, _ in node.states] == ["refused"]
    assert node.states[0][1].endswith("; the tunnels are kept")
    assert paths(server).count("/v1/session") <= 25


async def test_a_stream_that_never_comes_through_is_replaced_by_polling_and_tried_again(
    server: Server, patient_clock: MockClock
) -> None:
    server.routes["POST /v1/checkin"] = checkin(make_full(OLD))

    async def buffered(request: Request, send: Send) -> None:
        await send(STREAM)
        await trio.sleep_forever()

    server.routes["GET /v1/watch"] = buffered
    node = Node()
    with trio.move_on_after(100):
        await follow(server, node, lambda: False)
    assert node.states[-1][0] == "polling"
    assert "buffering proxy" in node.states[-1][1]
    polls = paths(server).count("/v1/checkin")
    assert polls >= 4
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), make_delta(OLD, NEW))
    await follow(server, node, lambda: node.held == NEW)
    assert node.states[-1] == ("connected", "")


async def test_a_coordinator_that_comes_back_is_found_again(server: Server, patient_clock: MockClock) -> None:
    server.routes["POST /v1/checkin"] = checkin(make_full(OLD))
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), ends=True)
    node = Node()
    with trio.move_on_after(20):
        await follow(server, node, lambda: False)
    assert paths(server).count("/v1/watch?since=e0a1:7") >= 3
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), make_delta(OLD, NEW))
    await follow(server, node, lambda: node.held == NEW)


def test_waits_double_to_their_limit_and_no_two_nodes_wait_alike() -> None:
    lowest, highest = Backoff(), Backoff()
    low = [lowest.next_wait(lambda: 0.0) for _ in range(9)]
    high = [highest.next_wait(lambda: 1.0) for _ in range(9)]
    assert high == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert low == [wait / 2 for wait in high]
    lowest.reset()
    assert lowest.next_wait(lambda: 1.0) == 0.5


async def test_what_changed_here_is_reported_at_once(server: Server) -> None:
    server.routes["POST /v1/checkin"] = answer(CheckinAnswer(make_full(OLD), NOBODY).to_json())
    server.routes["GET /v1/watch"] = stream(keepalive(OLD))
    node = Node()
    follower = Follower(CoordinatorClient([server.url], server.trust), WHO, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await node.wait(lambda: ("connected", "") in node.states)
        follower.report_now()
        await node.wait(lambda: len(node.presences) == 2)
        nursery.cancel_scope.cancel()


async def test_tunnels_are_reported_beside_the_stream_in_brief(server: Server) -> None:
    terms = ReportTerms(10, True)
    server.routes["POST /v1/checkin"] = answer(CheckinAnswer(None, NOBODY, terms).to_json())
    server.routes["GET /v1/watch"] = stream(keepalive(OLD), ReportsFrame(10))
    node = Node()
    node.held = OLD
    follower = Follower(CoordinatorClient([server.url], server.trust), WHO, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await node.wait(lambda: node.intervals == [10])
        node.tunnels = TunnelReport(True, {node_id(2): Tunnel("direct")})
        follower.stir()
        await node.wait(lambda: len(node.terms) == 2)
        nursery.cancel_scope.cancel()
    first, second = [request.json for request in server.seen if request.path == "/v1/checkin"]
    assert "brief" not in first
    assert second["brief"] is True
    assert list(second["tunnels"]["peers"]) == [node_id(2)]
    assert node.terms == [terms, terms]


async def test_a_report_that_fails_does_not_end_the_stream(server: Server) -> None:
    server.routes["POST /v1/checkin"] = answer(CheckinAnswer(None, NOBODY).to_json())
    served = 0

    async def once(request: Request, send: Send) -> None:
        nonlocal served
        served += 1
        await send(STREAM + chunk(encode_json(keepalive(OLD).to_json()) + b"\n"))
        await trio.sleep_forever()

    server.routes["GET /v1/watch"] = once
    node = Node()
    node.held = OLD
    follower = Follower(CoordinatorClient([server.url], server.trust), WHO, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await node.wait(lambda: ("connected", "") in node.states)
        refused = trio.Event()

        async def refuse(request: Request, send: Send) -> None:
            await send(problem("rate_limited", 429, "Too many."))
            refused.set()

        server.routes["POST /v1/checkin"] = refuse
        node.tunnels = TunnelReport(True)
        follower.stir()
        await refused.wait()
        server.routes["POST /v1/checkin"] = answer(
            CheckinAnswer(None, NOBODY, ReportTerms(9, True)).to_json()
        )
        node.tunnels = TunnelReport(True)
        follower.stir()
        await node.wait(lambda: node.terms == [None, ReportTerms(9, True)])
        nursery.cancel_scope.cancel()
    assert served == 1
