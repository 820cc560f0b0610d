"""What a malicious member or relay can have others send to a victim, in octets for each that it sends itself.

Its own packets are authenticated and their source is forged: the worst it can do without the coordinator,
which tells of no public endpoint but where it saw the node (tests/coordinator/test_presence.py). Sizes are
whole IPv4 packets."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable

import pytest

from wgpy.addresses import Endpoint
from wgpy.mesh.paths import PathKind, PathMachine, SendControl, SendCopy, UsePath, kind_of
from wgpy.mesh.probe import encode_ping
from wgpy.mesh.relay import relay_number, relayed_endpoint
from wgpy.mesh.whereabouts import encode_where

PEERS = 50
MEMBER = "a" * 32
OWN = Endpoint.parse("203.0.113.5:4000")
VICTIM = ipaddress.ip_address("198.51.100.66")
HEADERS, TRANSPORT, INITIATION = 28, 32, 148


def size(data: bytes) -> int:
    """Of a control message on the wire."""
    return HEADERS + TRANSPORT + len(data) + -len(data) % 16


class Crowd:
    """Machines that have a session with the malicious member."""

    def __init__(self) -> None:
        counter = itertools.count()
        self.machines = [PathMachine(lambda: next(counter).to_bytes(8, "big")) for _ in range(PEERS)]
        self.now = 1000.0
        self.sent_to_victim = 0
        self.sent_by_member = 0
        for machine in self.machines:
            machine.set_mtu(1380, self.now)
            machine.set_candidates(MEMBER, [(OWN, PathKind.DIRECT)], self.now)
            machine.session_begun(MEMBER, self.now)
        self._take()

    def _take(self) -> None:
        for machine in self.machines:
            for action in machine.actions:
                match action:
                    case SendControl(_, to, data) if to.address == VICTIM:
                        self.sent_to_victim += size(data)
                    case SendCopy(_, to, _) if to.address == VICTIM:
                        self.sent_to_victim += HEADERS + INITIATION
                    case UsePath(_, endpoint, also):
                        assert VICTIM not in {one.address for one in (endpoint, *also)}
            machine.actions.clear()

    def run(self, seconds: float, act: Callable[[PathMachine, int, float], int]) -> None:
        """Each machine hears `act` every 50 ms; it returns the octets that the member sent."""
        for step in range(int(seconds * 20)):
            self.now += 0.05
            for machine in self.machines:
                self.sent_by_member += act(machine, step, self.now)
                machine.handle_timeout(self.now)
                machine.observe(MEMBER, 3.0 if step % 100 > 50 else 0.0, True, self.now)
                if step % 100 == 0:
                    machine.initiation_sent(MEMBER, bytes(INITIATION), self.now)
            self._take()


def keepalives(machine: PathMachine, step: int, now: float) -> int:
    machine.heard_from(MEMBER, Endpoint(VICTIM, 1 + step % 60000), now)
    return HEADERS + TRANSPORT


def pings(machine: PathMachine, step: int, now: float) -> int:
    source, data = Endpoint(VICTIM, 1 + step % 60000), encode_ping(step.to_bytes(8, "big"), is_urgent=True)
    machine.heard_from(MEMBER, source, now)
    machine.handle_control(MEMBER, source, data, now)
    return size(data)


def words(machine: PathMachine, step: int, now: float) -> int:
    """It says that it is at the victim's, at six ports."""
    data = encode_where([Endpoint(VICTIM, 1 + (6 * step + port) % 60000) for port in range(6)])
    machine.handle_control(MEMBER, OWN, data, now)
    return size(data)


def one_ping_for_all(machine: PathMachine, step: int, now: float) -> int:
    return pings(machine, 0, now) if step == 0 else 0


@pytest.mark.parametrize("act", [keepalives, pings, words, one_ping_for_all])
def test_less_reaches_a_victim_than_the_member_sends(act: Callable[[PathMachine, int, float], int]) -> None:
    crowd = Crowd()
    crowd.run(20.0, act)
    assert crowd.sent_by_member > 0
    assert crowd.sent_to_victim / crowd.sent_by_member < 0.9


def test_nothing_at_all_reaches_a_victim_for_keepalives() -> None:
    crowd = Crowd()
    crowd.run(20.0, keepalives)
    assert crowd.sent_to_victim == 0


# --- a relay that says it sees everybody at the victim's ---

HONEST, LIAR = 1, 2
ACK, DATA = HEADERS + 54, 20


class RelayedCrowd:
    """Machines that reach each other by relays alone, the first of them by `used`."""

    def __init__(self, used: int) -> None:
        counter = itertools.count()
        self.machines = [PathMachine(lambda: next(counter).to_bytes(8, "big")) for _ in range(PEERS)]
        self.now = 1000.0
        self.sent_to_victim = self.sent_by_liar = 0
        relays = [used, HONEST + LIAR - used]
        for machine in self.machines:
            machine.set_own([OWN], self.now)
            for other in range(PEERS):
                places = [relayed_endpoint(relay, other + 1) for relay in relays]
                machine.set_candidates(f"{other}", [(one, kind_of(one)) for one in places], self.now)
                machine.session_begun(f"{other}", self.now)
        self._carry()

    def _carry(self) -> None:
        """What the machines tell each other arrives, by the relay that it was given to."""
        while any(machine.actions for machine in self.machines):
            for name, machine in enumerate(self.machines):
                actions, machine.actions = machine.actions, []
                for action in actions:
                    if isinstance(action, SendControl):
                        self._send(name, action)

    def _send(self, name: int, action: SendControl) -> None:
        number = relay_number(action.to)
        if number is None:
            self.sent_to_victim += size(action.data) if action.to.address == VICTIM else 0
            return
        if number == LIAR:
            self.sent_by_liar += size(action.data) + DATA
        origin = relayed_endpoint(number, name + 1)
        self.machines[int(action.peer)].handle_control(f"{name}", origin, action.data, self.now)

    def run(self, seconds: int) -> None:
        """It sees each of them at another port of the victim's whenever it is asked, each 20 s."""
        for step in range(seconds):
            self.now += 1.0
            for machine in self.machines:
                if step % 20 == 0:
                    self.sent_by_liar += ACK
                    machine.set_own([OWN], self.now, {HONEST: OWN, LIAR: Endpoint(VICTIM, 1 + step)})
                machine.handle_timeout(self.now)
            self._carry()


def test_a_relay_that_lies_about_where_nodes_are_carries_more_than_it_makes_them_send() -> None:
    crowd = RelayedCrowd(LIAR)
    crowd.run(200)
    print(crowd.sent_to_victim, crowd.sent_by_liar)
    assert crowd.sent_to_victim > 0
    assert crowd.sent_to_victim / crowd.sent_by_liar < 0.9


def test_what_it_says_is_told_by_no_other_relay() -> None:
    crowd = RelayedCrowd(HONEST)
    crowd.run(200)
    assert crowd.sent_to_victim / crowd.sent_by_liar < 0.9
