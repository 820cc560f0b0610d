from __future__ import annotations

import json
import socket
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from wgpy.agent.ask import NotRunning, ask, running_names
from wgpy.agent.control import MAX_REQUEST, Answer, open_control_socket, serve_control
from wgpy.errors import ConfigError, HostError
from wgpy.mesh.encoding import Fields


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("WGPY_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "run"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


@pytest.fixture
async def ended(directory: Path) -> AsyncIterator[trio.Event]:
    """A socket for "home" that echoes, refuses and ends."""
    ended = trio.Event()

    async def echo(fields: Fields) -> Answer:
        return Answer({"said": fields.text("text")})

    async def refuse(fields: Fields) -> Answer:
        raise ConfigError("expected something else")

    async def end(fields: Fields) -> Answer:
        return Answer({"name": "home"}, ended.set)

    async with trio.open_nursery() as nursery:
        listener = open_control_socket("home")
        nursery.start_soon(serve_control, listener, {"echo": echo, "refuse": refuse, "end": end})
        yield ended
        nursery.cancel_scope.cancel()
    assert names_in(directory) == []


async def in_thread(request: dict[str, object]) -> Fields:
    return await trio.to_thread.run_sync(partial(ask, "home", request))


async def test_a_request_is_answered_by_its_operation(ended: trio.Event) -> None:
    assert (await in_thread({"op": "echo", "text": "hello"})).text("said") == "hello"
    assert await trio.to_thread.run_sync(running_names) == ["home"]


async def test_what_follows_an_answer_is_done_after_it(ended: trio.Event) -> None:
    assert (await in_thread({"op": "end"})).text("name") == "home"
    with trio.fail_after(5):
        await ended.wait()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"op": "dance"}, "expected one of the operations echo, end, refuse; got dance"),
        ({"op": "echo"}, "text: expected text, got nothing"),
        ({"op": "refuse"}, "expected something else"),
        ({}, "op: expected a word"),
    ],
)
async def test_a_wrong_request_is_answered_with_one_line(
    ended: trio.Event, value: dict[str, object], text: str
) -> None:
    with pytest.raises(HostError, match=text):
        await in_thread(value)


async def test_nonsense_and_endless_lines_do_no_harm(ended: trio.Event, directory: Path) -> None:
    stream = await trio.open_unix_socket(directory / "home.sock")
    await stream.send_all(b"\xff\xfe\n[1]\n")
    answers = b""
    while answers.count(b"\n") < 2:
        answers += await stream.receive_some()
    assert all("error" in json.loads(line) for line in answers.splitlines())
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x" * 1000 * MAX_REQUEST)
    await stream.aclose()
    assert (await in_thread({"op": "echo", "text": "still here"})).text("said") == "still here"


async def test_only_its_owner_may_open_it(ended: trio.Event, directory: Path) -> None:
    assert mode_of(directory / "home.sock") == 0o600
    assert mode_of(directory) == 0o700


def test_a_network_that_does_not_run_says_how_to_start_it(directory: Path) -> None:
    with pytest.raises(NotRunning, match=r"home is not running on this host \(start it: wgpy up home\)"):
        ask("home", {"op": "status"})
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "home.sock"))
    with pytest.raises(NotRunning):
        ask("home", {"op": "status"})
    assert running_names() == []


def test_a_dead_socket_is_replaced(directory: Path) -> None:
    for _ in range(2):
        open_control_socket("home").close()
    assert (directory / "home.sock").exists()


def test_an_agent_that_does_not_answer_is_told(directory: Path) -> None:
    with open_control_socket("home"), pytest.raises(HostError, match="does not answer within 0 s"):
        ask("home", {"op": "status"}, timeout=0.1)
