from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.states import make_keys, make_state
from wgpy.agent import state_file
from wgpy.errors import ConfigError, HostError, StateError


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WGPY_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_state_survives_the_file_and_only_we_may_read_it(directory: Path) -> None:
    state_file.save_state(make_state())
    assert state_file.load_state("home") == make_state()
    assert (directory / "home.json").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert state_file.known_names() == ["home"]


def test_a_state_without_map_timestamp_or_identity_survives_too() -> None:
    bare = dataclasses.replace(make_state(), held=None, timestamp=None, identity=None)
    state_file.save_state(bare)
    assert state_file.load_state("home") == bare


def test_a_state_shows_no_private_key(directory: Path) -> None:
    assert "PrivateKey(…)" in repr(make_state())
    assert "MachineKey(…)" in repr(make_state())
    damage(directory, lambda text: text.replace('"pinned":true', '"pinned":7'))
    with pytest.raises(StateError, match="pinned: expected true or false") as caught:
        state_file.load_state("home")
    assert make_keys().wireguard_key.to_base64()[:10] not in str(caught.value)


def damage(directory: Path, change: object) -> bytes:
    state_file.save_state(make_state())
    path = directory / "home.json"
    assert callable(change)
    path.write_text(change(path.read_text()))
    return path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "\0" * len(text),
        lambda text: text.replace('"version":1', '"version":99'),
        lambda text: text.replace('"machine_key"', '"machine_kex"', 1),
        lambda text: json.dumps([text]),
    ],
    ids=["cut", "empty", "zeros", "newer", "missing field", "a list"],
)
def test_a_damaged_file_is_reported_and_kept(directory: Path, change: object) -> None:
    before = damage(directory, change)
    with pytest.raises(StateError, match=r"home\.json is damaged .* left as it is: restore it") as caught:
        state_file.load_state("home")
    assert "\n" not in str(caught.value)
    assert (directory / "home.json").read_bytes() == before


def test_a_network_never_joined_is_told_with_those_that_were() -> None:
    with pytest.raises(ConfigError, match=r"no network 'office' was joined on this host$"):
        state_file.load_state("office")
    state_file.save_state(make_state())
    with pytest.raises(ConfigError, match=r"there is: home$"):
        state_file.load_state("office")


@pytest.mark.parametrize("name", ["../home", "a/b", "", ".joining-x", "Home", "x" * 64, "a\0b"])
def test_a_name_that_is_no_label_never_becomes_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="a network's name"):
        state_file.load_state(name)


def test_a_write_that_fails_leaves_the_old_file_whole(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_file.save_state(make_state())

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        state_file.save_state(dataclasses.replace(make_state(), boot=4))
    assert state_file.load_state("home").boot == 3
    assert sorted(path.name for path in directory.iterdir()) == ["home.json"]


def test_a_process_killed_while_it_writes_again_and_again_leaves_a_whole_file(directory: Path) -> None:
    state_file.save_state(make_state())
    code = """
import dataclasses, itertools
from wgpy.agent.state_file import load_state, save_state
state = load_state("home")
for boot in itertools.count(10):
    save_state(dataclasses.replace(state, boot=boot))
    print(boot, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert state_file.load_state("home").boot >= 29
    state_file.save_state(make_state())
    assert sorted(path.name for path in directory.iterdir()) == ["home.json"]


def test_keys_of_a_join_under_way_are_found_again_and_are_no_network(directory: Path) -> None:
    assert state_file.load_pending("0123456789abcdef") is None
    pending = state_file.Pending(make_keys())
    state_file.save_pending("0123456789abcdef", pending)
    assert state_file.load_pending("0123456789abcdef") == pending
    asked = state_file.Asked(bytes(32), True, bytes(range(32)))
    further = dataclasses.replace(
        asked, join="0" * 32, coordinator_nonce=bytes(32), leaf_hash=bytes(32), code="K7P-3XW"
    )
    for step in (asked, further):
        pending = state_file.Pending(make_keys(), step)
        state_file.save_pending("0123456789abcdef", pending)
        assert state_file.load_pending("0123456789abcdef") == pending
    assert state_file.known_names() == []
    assert next(directory.iterdir()).stat().st_mode & 0o777 == 0o600
    state_file.delete_pending("0123456789abcdef")
    assert list(directory.iterdir()) == []


def test_a_second_process_is_told_that_the_network_runs() -> None:
    with state_file.locked("home"):
        code = "from wgpy.agent.state_file import locked\nwith locked('home'): pass"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "home is already running on this host" in second.stderr
        with pytest.raises(HostError, match="already running"), state_file.locked("home"):
            pass
    with state_file.locked("home"):
        pass
