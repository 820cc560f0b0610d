"""The coordinator's own host as a node: one token, one node, whatever is started how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.identity import CoordinatorIdentity
from coordinator.own_node import OwnNode, prepare_own_node, start_own_node
from coordinator.state_dir import StateDir
from coordinator.store import networks, tokens
from tests.coordinator.asgi import IDENTITY_SEED, LEAF, NEXT_LEAF
from tests.coordinator.hosts import Host
from tests.coordinator.rows import Rows
from wgpy.mesh.signing import IdentityKey
from wgpy.mesh.token import Token


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "state")
    found.prepare()
    return found


def prepare(rows: Rows, state: StateDir, name: str = "home") -> OwnNode:
    identity = CoordinatorIdentity(IdentityKey(IDENTITY_SEED), (LEAF, NEXT_LEAF), pinned=True)
    return prepare_own_node(rows.database, identity, state, name, rows.rng, rows.now)


def test_the_network_is_made_once_and_the_token_is_the_same_at_each_start(
    sqlite_rows: Rows, state: StateDir
) -> None:
    node = prepare(sqlite_rows, state)
    text = node.token_file.read_text()
    assert node.token_file.stat().st_mode & 0o777 == 0o600
    assert prepare(sqlite_rows, state) == node
    assert node.token_file.read_text() == text
    assert [row.network.name for row in sqlite_rows.read(networks.list_networks)] == ["home"]
    sqlite_rows.join(Host(1), Token.decode(text).secret)
    sqlite_rows.now += 1000
    prepare(sqlite_rows, state)
    assert node.token_file.read_text() == text  # used: by this very host


def test_a_token_that_admits_nobody_any_more_is_replaced(sqlite_rows: Rows, state: StateDir) -> None:
    node = prepare(sqlite_rows, state)
    old = Token.decode(node.token_file.read_text())
    network_id = sqlite_rows.read(networks.find_network, "home").network.id
    sqlite_rows.write(tokens.revoke_token, network_id, old.id, sqlite_rows.now)
    prepare(sqlite_rows, state)
    second = Token.decode(node.token_file.read_text())
    assert second.id != old.id
    node.token_file.write_text("damaged")
    prepare(sqlite_rows, state)
    assert Token.decode(node.token_file.read_text()).id not in (old.id, second.id)


def test_without_root_it_says_what_to_run(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    said: list[str] = []
    start_own_node(OwnNode("home", state.path / "own-node.token"), said.append)
    assert said == [
        f"this host     joins home by: sudo wgpy up --detach --token-file {state.path}/own-node.token"
    ]
