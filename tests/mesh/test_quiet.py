"""Peers that are left in peace: with thousands of them, silence is what an idle one costs."""

from __future__ import annotations

import itertools

from wgpy.addresses import Endpoint
from wgpy.mesh.paths import Initiate, PathKind, PathMachine, SendControl, SendCopy

PUBLIC = Endpoint.parse("198.51.100.7:51820")
OTHER = Endpoint.parse("198.51.100.8:51820")


def machine_with(peers: int, *, is_quiet: bool) -> PathMachine:
    counter = itertools.count()
    machine = PathMachine(lambda: next(counter).to_bytes(8, "big"))
    for number in range(peers):
        machine.set_quiet(f"{number:032x}", is_quiet, 0.0)
        machine.set_candidates(f"{number:032x}", [(PUBLIC, PathKind.DIRECT)], 0.0)
    return machine


def sent(machine: PathMachine, until: float) -> list[object]:
    found: list[object] = []
    while True:
        actions, machine.actions = machine.actions, []
        found += [action for action in actions if isinstance(action, SendControl | SendCopy | Initiate)]
        if (at := machine.next_deadline()) is None or at > until:
            return found
        machine.handle_timeout(at)


def test_a_thousand_quiet_peers_are_sent_nothing_in_an_hour_whatever_is_told_of_them() -> None:
    machine = machine_with(1000, is_quiet=True)
    for number in range(1000):
        machine.set_candidates(f"{number:032x}", [(PUBLIC, PathKind.DIRECT), (OTHER, PathKind.DIRECT)], 1.0)
    machine.network_changed(2.0)
    assert sent(machine, 3600.0) == []


def test_data_for_a_quiet_peer_goes_everywhere_and_its_session_is_looked_at() -> None:
    machine = machine_with(1, is_quiet=True)
    peer = f"{0:032x}"
    machine.set_candidates(peer, [(PUBLIC, PathKind.DIRECT), (OTHER, PathKind.DIRECT)], 1.0)
    machine.initiation_sent(peer, b"initiation", 10.0)
    assert SendCopy(peer, OTHER, b"initiation") in machine.actions
    machine.session_begun(peer, 10.1)
    assert {action.to for action in machine.actions if isinstance(action, SendControl)} == {PUBLIC, OTHER}
    sent(machine, 20.0)
    assert sent(machine, 3600.0) == []


def test_one_that_is_no_longer_quiet_is_looked_for() -> None:
    machine = machine_with(2, is_quiet=True)
    machine.actions.clear()
    machine.set_quiet(f"{0:032x}", False, 5.0)
    assert machine.actions == [Initiate(f"{0:032x}")]
    machine.actions.clear()
    machine.session_begun(f"{1:032x}", 6.0)
    machine.actions.clear()
    machine.set_quiet(f"{1:032x}", False, 70.0)
    assert any(isinstance(action, SendControl) for action in machine.actions)
