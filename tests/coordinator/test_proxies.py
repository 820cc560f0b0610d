"""Behind proxies: whose word about an address counts, and a port without TLS for them alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.api.proxies import BehindProxies
from coordinator.client import AdminClient
from coordinator.state_dir import AdminFile
from tests.coordinator.process import Coordinator
from wgpy.addresses import parse_prefix
from wgpy.errors import CoordinatorError
from wgpy.mesh.token import Token

TRUSTED = tuple(parse_prefix(text) for text in ("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("nearest", "header", "seen"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # no proxy: its word does not count
        ("10.1.1.1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.1.1.1", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("10.1.1.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),  # the first was written by who knows whom
        ("10.1.1.1", "198.51.100.7, 10.2.2.2", "198.51.100.7"),  # two of ours, one behind the other
        ("10.1.1.1", "203.0.113.9,198.51.100.7 ,10.2.2.2,fd00::2", "198.51.100.7"),
        ("10.1.1.1", "10.2.2.2", "10.2.2.2"),
        ("10.1.1.1", "203.0.113.9, nonsense", "10.1.1.1"),
        ("10.1.1.1", "203.0.113.9, nonsense, 10.2.2.2", "10.2.2.2"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", None, "10.1.1.1"),
        ("10.1.1.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.1.1.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.1.1.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.1.1.1", "1.1.1.1," * 5000 + "198.51.100.7", "198.51.100.7"),
        ("10.1.1.1", ",".join(["10.9.9.9"] * 5000), "10.9.9.9"),
    ],
)
async def test_whose_word_about_an_address_counts(nearest: str, header: str | None, seen: str) -> None:
    found = []

    async def app(scope: object, _receive: object, _send: object) -> None:
        found.append(scope["client"][0])  # type: ignore[index]

    headers = [] if header is None else [(b"x-forwarded-for", header.encode())]
    scope = {"type": "http", "client": (nearest, 5), "headers": headers}
    await BehindProxies(app, TRUSTED, only=False)(scope, None, None)  # type: ignore[arg-type]
    assert found == [seen]


@pytest.fixture
def behind(tmp_path: Path, free_port: int) -> Iterator[Coordinator]:
    """A coordinator without TLS of its own, and a proxy that would come from 127.0.0.2."""
    options = ("--tls-by-proxy", "--trusted-proxy", "127.0.0.2/32", "--url", "https://mesh.example")
    coordinator = Coordinator(tmp_path / "state", free_port, *options)
    coordinator.start()
    yield coordinator
    coordinator.stop()


def set_up(port: int, body: object, headers: dict[str, str]) -> tuple[int, str]:
    """Status and cookie, asked for by the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=("127.0.0.2", 0))
    connection.request("POST", "/v1/setup", json.dumps(body), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers["set-cookie"]


def test_tls_may_end_at_a_trusted_proxy(behind: Coordinator) -> None:
    setup = next(line for line in behind.text().splitlines() if line.startswith("set up")).split()[2]
    body = {"secret": setup.partition("#")[2], "name": "ada", "password": "correct horse battery"}
    forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    status, cookie = set_up(behind.port, body, forwarded)
    assert status == 201
    assert "secure" in cookie.lower()
    [entry] = behind.json("audit", "list", "--action", "setup")  # the command line of this host gets in
    assert entry["address"] == "198.51.100.7"
    behind.run("network", "create", "home")
    token = Token.decode(behind.run("token", "create").stdout)
    assert not token.pinned
    assert "https://mesh.example" in token.urls
    with pytest.raises(CoordinatorError, match="has no TLS and is not on this host"):
        AdminClient(AdminFile("http://192.0.2.1:80", "x", "y")).__enter__()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--tls-by-proxy",), "needs --trusted-proxy"),
        (("--tls-by-proxy", "--trusted-proxy", "10.0.0.0/8"), "needs --url"),
        (("--trusted-proxy", "nonsense"), "a prefix is ADDRESS/LENGTH"),
    ],
)
def test_what_a_proxy_needs_is_said(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    done = Coordinator(tmp_path / "state", 0).run("serve", "--listen", "127.0.0.1:0", *words, check=False)
    assert done.returncode != 0
    assert line in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_tls_nobody_but_the_proxies_and_this_host_is_answered() -> None:
    sent: list[dict[str, object]] = []

    async def app(_scope: object, _receive: object, _send: object) -> None:
        sent.append({"status": 200})

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    behind = BehindProxies(app, TRUSTED, only=True)
    for client, status in (("10.0.0.1", 200), ("127.0.0.1", 200), ("192.0.2.1", 403), (None, 403)):
        sent.clear()
        scope = {"type": "http", "client": client and (client, 1), "headers": [], "method": "GET"}
        await behind(scope, receive, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == status, client
