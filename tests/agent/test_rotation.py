"""For how long a node answers for the WireGuard key that it had before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.agent.states import make_state
from tests.mesh.examples import wireguard_key
from wgpy.agent import state_file
from wgpy.agent.rotation import PREVIOUS_AGE, Rotation
from wgpy.agent.state_file import State
from wgpy.keys import PrivateKey
from wgpy.mesh.netmap import Node


class Interface:
    """What the device is told."""

    def __init__(self) -> None:
        self.previous: PrivateKey | None = None
        self.key: PrivateKey | None = None

    def rotate_private_key(self, key: PrivateKey, _now: float) -> None:
        self.key = key

    def set_previous_key(self, key: PrivateKey | None) -> None:
        self.previous = key


class Owner:
    def __init__(self, state: State) -> None:
        self.state = state

    def keep(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)


def make(state: State, now: list[float]) -> tuple[Rotation, Owner, Interface]:
    owner, interface = Owner(state), Interface()
    device = SimpleNamespace(interface=interface, changed=lambda: None)
    nobody = cast("Any", None)
    rotation = Rotation(nobody, nobody, cast("Any", device), cast("Any", owner), lambda: now[0])
    return rotation, owner, interface


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WGPY_STATE_DIR", str(tmp_path / "state"))


def test_the_key_of_before_is_on_disk_for_a_week_and_then_nowhere() -> None:
    now = [1_700_000_000.0]
    old, new = make_state().keys.wireguard_key, wireguard_key(9)
    rotation, owner, interface = make(dataclasses.replace(make_state(), next_key=new), now)
    assert owner.state.held is not None
    mine = owner.state.held.map.self_node
    assert isinstance(mine, Node)
    record = dataclasses.replace(mine.record, wireguard_key=new.public_key())
    rotation.handle_map(dataclasses.replace(mine, record=record))  # it was taken, and the answer lost
    assert interface.key == new
    saved = state_file.load_state("home")
    assert (saved.keys.wireguard_key, saved.previous_key, saved.next_key) == (new, old, None)

    rotation, owner, interface = make(saved, now)  # after a restart
    now[0] += PREVIOUS_AGE - 1
    rotation.settle_previous_key()
    assert interface.previous == old
    now[0] += 1
    rotation.settle_previous_key()
    assert interface.previous is None
    assert state_file.load_state("home").previous_key is None
    assert old.to_base64() not in repr(owner.state)
