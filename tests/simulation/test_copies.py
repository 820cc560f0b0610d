"""Copies of one initiation, sent to several candidates: answered as the first was, never believed anew."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.paper import INITIATION, RESPONSE
from tests.simulation.world import Datagram, Host, World
from wgpy.addresses import Endpoint
from wgpy.protocol.peer import MAX_REPEATS, Peer

ELSEWHERE = Endpoint.parse("203.0.113.9:4000")


class Control:
    """Takes note of what it is told."""

    def __init__(self) -> None:
        self.initiations: list[bytes] = []
        self.heard: list[Endpoint] = []
        self.sessions = 0

    def initiation_sent(self, peer: Peer, data: bytes, now: float) -> None:
        self.initiations.append(data)

    def session_begun(self, peer: Peer, now: float) -> None:
        self.sessions += 1

    def heard_from(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        self.heard.append(endpoint)


def controlled_pair(world: World) -> tuple[Host, Host, Control, Control]:
    alice, bob = world.add_pair()
    controls = Control(), Control()
    for host, other, control in ((alice, bob, controls[0]), (bob, alice, controls[1])):
        host.interface.set_agent(host.peer(other), True, world.now)
        host.interface.set_path_control(host.peer(other), control, world.now)
    return alice, bob, *controls


def initiation_of(world: World, host: Host) -> Datagram:
    return world.sent(INITIATION, by=host)[0]


def test_a_copy_is_answered_with_the_same_response_where_it_came_from(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.01)
    alice, bob, _, control = controlled_pair(world)
    world.link.passes = lambda datagram: datagram.kind != RESPONSE
    alice.send(bob, b"ping")
    world.run_for(0.05)
    world.deliver(replace(initiation_of(world, alice), source=ELSEWHERE))
    first, second = world.sent(RESPONSE, by=bob)
    assert (first.to, second.to) == (alice.endpoint, ELSEWHERE)
    assert first.data == second.data
    assert len(second.data) < len(initiation_of(world, alice).data)
    assert control.sessions == 1
    assert control.heard == [], "a copy proves nothing of who sent it"


def test_copies_are_answered_a_few_times_and_for_five_seconds(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.01)
    alice, bob, _, _ = controlled_pair(world)
    world.link.passes = lambda datagram: datagram.kind != RESPONSE
    alice.send(bob, b"ping")
    world.run_for(0.05)
    copy = replace(initiation_of(world, alice), source=ELSEWHERE)
    for _ in range(5 * MAX_REPEATS):
        world.deliver(copy)
    assert len(world.sent(RESPONSE, by=bob)) == 1 + MAX_REPEATS


def test_nothing_is_answered_again_once_the_session_stands(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.01)
    alice, bob, _, _ = controlled_pair(world)
    alice.send(bob, b"ping")
    world.run_for(0.1)
    before = len(world.sent(RESPONSE))
    world.deliver(replace(initiation_of(world, alice), source=ELSEWHERE))
    assert len(world.sent(RESPONSE)) == before
    assert bob.received


def test_copies_of_an_initiation_that_ours_goes_before_are_ignored_as_it_was(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.2)
    alice, bob, _, _ = controlled_pair(world)
    alice.send(bob, b"ping")
    bob.send(alice, b"ping")
    world.run_for(0.25)
    smaller, larger = sorted((alice, bob), key=lambda host: bytes(host.public_key))
    for _ in range(3):
        world.deliver(replace(initiation_of(world, larger), source=ELSEWHERE))
    world.run_for(0.7)
    assert world.sent(RESPONSE, by=smaller) == []
    assert alice.received
    assert bob.received
    assert len(world.sent(INITIATION)) == 2


def test_endpoints_stay_and_news_is_told_while_someone_controls_the_paths(make_world: type[World]) -> None:
    world = make_world(seed=1, delay=0.01)
    alice, bob, control, _ = controlled_pair(world)
    alice.send(bob, b"ping")
    world.run_for(0.1)
    assert len(control.initiations) == 1
    assert control.initiations[0] == initiation_of(world, alice).data
    world.link.is_cut = True
    bob.send(alice, b"from elsewhere")
    [packet] = [d for d in world.sent(by=bob) if d.is_data][-1:]
    world.deliver(replace(packet, source=ELSEWHERE))
    assert control.heard == [ELSEWHERE]
    assert alice.peer(bob).endpoint == bob.endpoint
