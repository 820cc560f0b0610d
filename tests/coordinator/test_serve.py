"""The real process: start, stop, kill, restart, and everything over TLS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.store.database import Database
from tests.coordinator.process import Connection, Coordinator, RemoteHost, wait_until
from wgpy.mesh.encoding import encode_b64u
from wgpy.mesh.wire import Identity


def test_nodes_join_hear_of_each_other_and_survive_a_kill(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    token = coordinator.token("home", "--uses", "3")
    first, second, third = (RemoteHost(number, token) for number in range(3))
    first.join()
    first.watch()
    wait_until(lambda: first.follower.held is not None, "the first map")
    started = time.monotonic()
    second.join()
    wait_until(lambda: first.follower.peer_names() == {"host-1"}, "the second node is seen", 1)
    assert time.monotonic() - started < 2
    assert second.check_in(1, "10.0.0.2:51820")[0] == 200
    wait_until(lambda: second.id in first.follower.presence, "its endpoints are told", 2)
    before = json.loads((coordinator.state_dir / "admin.json").read_text())
    assert not first.follower.refused

    assert coordinator.stop(signal.SIGKILL) == -signal.SIGKILL
    assert first.stream_ended.wait(10)
    coordinator.start()

    assert json.loads((coordinator.state_dir / "admin.json").read_text()) == before
    status, answer = second.check_in(2, "10.0.0.2:51820")  # the bearer of before the kill
    assert status == 200, answer
    first.follower.frames.clear()
    third.join()
    first.watch()
    wait_until(lambda: first.follower.peer_names() == {"host-1", "host-2"}, "the stream resumes")
    assert first.follower.kinds()[:2] == ["presence", "delta"]
    assert str(first.follower.presence[second.id].endpoints[0]) == "10.0.0.2:51820"
    again = RemoteHost(0, token)  # a join whose answer was lost in the crash
    assert again.join() == first.membership
    assert coordinator.json("token", "list", "home")[0]["uses"] == 3

    coordinator.run("node", "remove", "host-0", "--network", "home")
    wait_until(lambda: first.follower.removed is not None, "the removed node is told", 1)
    assert first.stream_ended.wait(1)
    assert first.check_in(9)[1]["frame"]["kind"] == "removed"
    [survivor] = [row for row in coordinator.json("node", "list") if row["name"] == "host-1"]
    assert survivor["wireguard_key"] == str(second.wireguard_key.public_key())


def test_sigterm_ends_streams_and_the_process_in_order(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    node = RemoteHost(1, coordinator.token())
    node.join()
    node.watch()
    wait_until(lambda: node.follower.held is not None, "the map")
    started = time.monotonic()
    assert coordinator.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 4
    assert node.stream_ended.wait(2)
    assert node.follower.removed is None
    assert "Traceback" not in coordinator.text()


def test_the_command_line_shows_what_it_does(coordinator: Coordinator) -> None:
    made = coordinator.json("network", "create", "lab", "--cidr", "10.55.0.0/24", "--cidr", "fd55::/64")
    assert made["ranges"] == ["10.55.0.0/24", "fd55::/64"]
    created = coordinator.run("token", "create", "--uses", "2", "--expires", "30m")
    text = created.stdout.strip()
    assert "\n" not in text
    assert f"wgpy up {text}" in created.stderr
    node = RemoteHost(1, coordinator.token("lab"))
    node.join()
    assert "10.55.0.1" in coordinator.run("node", "list").stdout
    assert "signed, seq 1" in coordinator.run("node", "show", "host-1").stdout
    assert "10.55.0.0/24" in coordinator.run("network", "list").stdout
    assert "lab.internal" in coordinator.run("network", "show", "lab").stdout
    [first, _second] = coordinator.json("token", "list")
    assert "revoked" in coordinator.run("token", "revoke", first["id"]).stdout
    listed = coordinator.run("token", "list").stdout
    assert "revoked" in listed
    assert text not in listed
    assert coordinator.json("node", "remove", "host-1")["removed"]["kind"] == "removed"
    assert "deleted lab" in coordinator.run("network", "delete", "lab", "--yes").stdout
    audited = coordinator.json("audit", "list", "--action", "network")
    assert [entry["action"] for entry in audited] == ["network.delete", "network.create"]
    assert "node.remove" in coordinator.run("audit", "list", "--since", "2020-01-01").stdout
    assert coordinator.json("audit", "list", "--until", "2020-01-01T00:00:00") == []
    exported = coordinator.run("audit", "export", "--format", "csv", "--subject", "lab").stdout
    assert len(exported.splitlines()) == 3
    assert coordinator.json("network", "list") == []


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("network", "create", "Home!"), 1, "a network's name is 1 to 40"),
        (("network", "create", "x", "--cidr", "10.0.0.0"), 1, "/8 to /30"),
        (("network", "create", "x", "--cidr", "nonsense"), 2, "a prefix is ADDRESS/LENGTH"),
        (("network", "create", "x", "--mtu", "12"), 1, "mtu"),
        (("network", "show", "none"), 1, "no network has the name 'none'"),
        (("token", "create"), 2, "there is no network yet"),
        (("token", "create", "none"), 1, "no network has the name 'none'"),
        (("token", "create", "--expires", "soon"), 2, "such as 24h"),
        (("token", "create", "--expires", "0h"), 2, "such as 24h"),
        (("node", "remove", "x"), 2, "there is no network yet"),
    ],
)
def test_a_mistake_is_one_clear_line(
    shared_coordinator: Coordinator, words: tuple[str, ...], code: int, line: str
) -> None:
    done = shared_coordinator.run(*words, check=False)
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.fixture(scope="module")
def shared_coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Coordinator(tmp_path_factory.mktemp("shared") / "state", port)
    server.start()
    yield server
    server.stop()


def test_a_second_coordinator_on_the_same_state_directory_says_so(shared_coordinator: Coordinator) -> None:
    done = shared_coordinator.run("serve", "--listen", "127.0.0.1:0", check=False)
    assert done.returncode == 1
    assert "another coordinator (process" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_said(shared_coordinator: Coordinator, tmp_path: Path) -> None:
    other = Coordinator(tmp_path / "other", shared_coordinator.port)
    done = other.run("serve", "--listen", f"127.0.0.1:{shared_coordinator.port}", check=False)
    assert done.returncode == 1
    assert "it is in use by another program" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("serve", "--url", "http://x"), "--url is https://HOST"),
        (("serve", "--url", "https://x/path"), "--url is https://HOST"),
        (("serve", "--listen", "example.com:1"), "--listen takes an IP address"),
        (("serve", "--listen", "127.0.0.1"), "--listen is ADDRESS:PORT"),
        (("serve", "--listen", "127.0.0.1:99999"), "a port is a number"),
        (("serve", "--database", "mysql://x/y"), "a database is sqlite:///PATH or postgresql://"),
        (("serve", "--tls-cert", "x"), "--tls-cert and --tls-key go together"),
        (
            ("serve", "--listen", "127.0.0.1:0", "--tls-cert", "x", "--tls-key", "y"),
            "cannot read the certificate",
        ),
        (("network", "list"), "no coordinator has run on"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    done = Coordinator(tmp_path / "state", 1).run(*words, check=False)
    assert done.returncode in (1, 2)
    assert line in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_nobody_answering_asks_whether_it_runs(tmp_path: Path, free_port: int) -> None:
    server = Coordinator(tmp_path / "state", free_port)
    server.start()
    server.stop()
    done = server.run("network", "list", check=False)
    assert done.returncode == 1
    assert "is the coordinator running?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_api_key_is_not_sent_to_another_coordinator(
    shared_coordinator: Coordinator, tmp_path: Path, free_port: int
) -> None:
    impostor = Coordinator(tmp_path / "impostor", free_port)
    impostor.start()
    try:
        known = json.loads((shared_coordinator.state_dir / "admin.json").read_text())
        confused = tmp_path / "confused"
        confused.mkdir(mode=0o700)
        (confused / "admin.json").write_text(json.dumps(known | {"url": impostor.url}))
        done = Coordinator(confused, free_port).run("network", "list", check=False)
        assert done.returncode == 1
        assert "is not the coordinator of this state directory" in done.stderr
    finally:
        impostor.stop()


def test_secrets_that_do_not_open_keep_it_from_starting(tmp_path: Path, free_port: int) -> None:
    server = Coordinator(tmp_path / "state", free_port)
    server.start()
    server.stop()
    key = (tmp_path / "state" / "secrets.key").read_bytes()
    (tmp_path / "state" / "secrets.key").write_bytes(os.urandom(32))
    done = server.run("serve", "--listen", f"127.0.0.1:{free_port}", check=False)
    assert done.returncode == 1
    assert "does not open the secrets" in done.stderr
    (tmp_path / "state" / "secrets.key").write_bytes(key)
    server.start()
    assert server.stop() == 0


def test_everything_in_the_state_directory_is_its_users_alone(shared_coordinator: Coordinator) -> None:
    assert shared_coordinator.state_dir.stat().st_mode & 0o777 == 0o700
    for path in shared_coordinator.state_dir.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_own_certificate_is_served_and_tokens_have_no_pin(tmp_path: Path, free_port: int) -> None:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=127.0.0.1", "-days", "2", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Coordinator(tmp_path / "state", free_port, "--tls-cert", str(certificate), "--tls-key", str(key))
    server.start()
    try:
        server.run("network", "create", "home")
        token = server.token()
        assert not token.pinned
        RemoteHost(1, token).join()
    finally:
        server.stop()


def test_a_new_epoch_means_a_full_map(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    node = RemoteHost(1, coordinator.token())
    node.join()
    node.watch()
    wait_until(lambda: node.follower.held is not None, "the map")
    coordinator.stop()
    coordinator.options = ("--new-epoch",)
    coordinator.start()
    node.follower.frames.clear()
    node.watch()
    wait_until(lambda: len(node.follower.frames) >= 2, "the stream")
    assert node.follower.kinds()[:2] == ["presence", "full"]
    node.hang_up()


def test_the_tls_key_changes_and_nodes_of_before_go_on(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    token = coordinator.token("home", "--uses", "2")
    node, late = RemoteHost(1, token), RemoteHost(2, token)
    node.join()
    leaves = []
    for turn in range(3):
        with Connection(coordinator.url) as connection:
            identity = Identity.from_json(connection.call("GET", "/v1/identity")[1])
            assert identity.verify()
            assert identity.identity.hash == token.identity_hash
            assert identity.leaves[0] == connection.leaf_hash
            leaves.append(identity.leaves)
            node.open_session(connection)
        coordinator.stop()
        coordinator.options = ("--new-leaf",) if turn == 0 else ()
        coordinator.start()
    assert leaves[1][0] == leaves[0][1]  # what was announced as the next
    assert leaves[1][1] not in leaves[0]
    assert leaves[2] == leaves[1]
    late.join()  # by a token of before
    assert coordinator.json("node", "list")[1]["name"] == "host-2"


def test_a_moved_coordinator_tells_its_nodes_the_new_address(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    node = RemoteHost(1, coordinator.token())
    node.join()
    node.watch()
    wait_until(lambda: node.follower.held is not None, "the map")
    coordinator.stop()
    coordinator.options = ("--url", "https://second.example")
    coordinator.start()
    node.watch()
    wait_until(
        lambda: node.follower.held is not None and len(node.follower.held.map.network.urls) == 2, "both URLs"
    )
    assert not node.follower.refused
    node.hang_up()


def test_who_connects_and_says_nothing_is_hung_up_on(shared_coordinator: Coordinator) -> None:
    with Connection(shared_coordinator.url) as connection:
        connection.http.sock.sendall(
            b"GET /v1/identity HTTP/1.1\r\nHost: x\r\n" + b"X-Filler: " + b"y" * 200_000
        )
        connection.http.sock.settimeout(10)
        with contextlib.suppress(OSError):
            while connection.http.sock.recv(4096):
                pass


@pytest.mark.slow
def test_a_head_that_comes_drop_by_drop_is_not_waited_for(shared_coordinator: Coordinator) -> None:
    with Connection(shared_coordinator.url) as connection:
        connection.http.sock.sendall(b"GET /v1/identity HTTP/1.1\r\n")
        connection.http.sock.settimeout(25)
        started = time.monotonic()
        assert connection.http.sock.recv(4096) == b""
        assert 10 < time.monotonic() - started < 20


def test_the_log_holds_no_secret_and_nothing_that_strangers_cause(
    shared_coordinator: Coordinator,
) -> None:
    shared_coordinator.run("network", "create", "quiet")
    token = shared_coordinator.token("quiet")
    node = RemoteHost(77, token)
    node.join()
    for junk in (b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n\r\n", b"GARBAGE\r\n\r\n"):
        with Connection(shared_coordinator.url) as connection:
            connection.http.sock.sendall(junk)
            connection.http.sock.recv(4096)
        with socket.create_connection(("127.0.0.1", shared_coordinator.port)) as plain:
            plain.sendall(junk)
            plain.settimeout(5)
            with contextlib.suppress(OSError):
                plain.recv(4096)
    text = shared_coordinator.text()
    admin = json.loads((shared_coordinator.state_dir / "admin.json").read_text())
    for secret in (token.encode(), encode_b64u(bytes(token.secret)), admin["key"], node.bearer):
        assert secret not in text
    lines = [line for line in text.splitlines() if " INFO coordinator.store.migrate" not in line]
    lines = [line for line in lines if not line.startswith("set up ")]  # for who watches it start
    assert len(lines) == 7, text  # what it said when it started, and nothing since


def test_help_does_not_wait_for_the_server_side() -> None:
    heavy = ("sqlalchemy", "starlette", "uvicorn", "alembic", "cryptography")
    code = f"import sys, coordinator.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.root
@pytest.mark.slow
def test_two_processes_over_one_postgresql_serve_one_network(
    tmp_path: Path, postgres_database: Database, free_port: int
) -> None:
    url = postgres_database.url.render_as_string(hide_password=False)
    first = Coordinator(tmp_path / "a" / "state", free_port, "--database", url)
    second = Coordinator(tmp_path / "b" / "state", free_port + 1, "--database", url)
    second.state_dir.mkdir(parents=True)
    first.state_dir.parent.mkdir()
    first.start()
    try:
        # The key file is what makes another process one of the same coordinator.
        refused = second.run("serve", "--listen", "127.0.0.1:0", "--database", url, check=False)
        assert "restore it from a backup" in refused.stderr
        shutil.copy(first.state_dir / "secrets.key", second.state_dir)
        second.options += ("--url", first.url)
        second.start()
        first.run("network", "create", "home")
        token = second.token("home", "--uses", "2")
        watching, joining = RemoteHost(1, token), RemoteHost(2, token)
        watching.url, joining.url = first.url, second.url
        watching.join()
        watching.watch()
        wait_until(lambda: watching.follower.held is not None, "the map")
        joining.join()
        wait_until(lambda: watching.follower.peer_names() == {"host-2"}, "heard from the other process", 4)
        joining.check_in(1, "10.0.0.9:51820")
        wait_until(lambda: joining.id in watching.follower.presence, "its endpoints are told", 4)
        assert watching.follower.presence[joining.id].online
        watching.hang_up()
        watching.url = second.url  # the stream is resumed, and the bearer taken, by the other process
        watching.follower.frames.clear()
        watching.watch()
        wait_until(lambda: len(watching.follower.frames) >= 2, "the stream")
        assert watching.follower.kinds()[:2] in (["presence", "keepalive"], ["presence", "delta"])
        watching.hang_up()
    finally:
        first.stop()
        second.stop()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None; from coordinator.cli import coordinator; coordinator()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--state-dir", str(tmp_path / "state")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'wgpy[coordinator]'" in done.stderr
