"""The application driven in-process, on trio: requests, endless streams, and nodes that use them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from starlette.applications import Starlette

from coordinator.api.context import Context
from coordinator.app import build_app
from coordinator.auth import SessionKeys
from coordinator.hub import Hub
from coordinator.identity import CoordinatorIdentity
from coordinator.ratelimit import RateLimit
from coordinator.store.api_keys import add_api_key, encode_api_key
from coordinator.store.store import Store
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import EPOCH, Rows
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.keyless import CommitAnswer, CommitRequest, encode_code, join_code
from wgpy.mesh.receipt import ReceiptKey
from wgpy.mesh.signing import BearerSecret, IdentityKey
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Challenge, Membership

LEAF = bytes(range(32, 64))
NEXT_LEAF = bytes(range(96, 128))
IDENTITY_SEED = bytes(range(100, 132))
SESSION_KEY = bytes(range(200, 232))
RECEIPTS = ReceiptKey(bytes(range(140, 172)))
ADMIN_SECRET = bytes(range(60, 92))


async def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.005)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem, which is then a whole one."""
        if self.headers.get("content-type") != "application/problem+json":
            return None
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["detail"]
        return str(self.json["code"])


class Service:
    """The application with its lifespan running; `address` is where requests come from."""

    def __init__(self, app: Starlette, context: Context, rows: Rows) -> None:
        self.app, self.context, self.rows = app, context, rows
        self.address = "192.0.2.77"
        self.admin_key = encode_api_key(BearerSecret(ADMIN_SECRET))

    def _scope(
        self, method: str, target: str, bearer: str | None, more: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        path, _, query = target.partition("?")
        headers = [(b"host", b"coordinator.example")]
        headers += [(name.encode(), value.encode()) for name, value in more.items()]
        if bearer is not None:
            headers.append((b"authorization", b"Bearer " + bearer.encode()))
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "root_path": "", "scheme": "https", "headers": headers, "server": ("coordinator.example", 443),
            "client": (self.address, 4711),
        }  # fmt: skip

    async def request(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        bearer: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else encode_json(body)
        send, receive = trio.open_memory_channel[dict[str, Any]](1000)
        sent = False

        async def give() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await trio.sleep_forever()
            sent = True
            return {"type": "http.request", "body": data, "more_body": False}

        with trio.fail_after(20):
            try:
                await self.app(self._scope(method, target, bearer, headers), give, send.send)
            except Exception:  # Starlette raises it again for the server's log, after the answer
                if not receive.statistics().current_buffer_used:
                    raise
        start = receive.receive_nowait()
        found = b""
        while receive.statistics().current_buffer_used:
            found += receive.receive_nowait().get("body", b"")
        answered: dict[str, str] = {}
        for name, value in start["headers"]:  # of several cookies each has a line
            before = answered.get(name.decode())
            answered[name.decode()] = value.decode() if before is None else f"{before}\n{value.decode()}"
        return Answer(start["status"], answered, found)

    async def admin(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        return await self.request(method, f"/v1/admin/{path}", body, bearer=self.admin_key, headers=headers)

    @asynccontextmanager
    async def watch(
        self, bearer: str, follower: Follower, since: str | None = None
    ) -> AsyncIterator[trio.Event]:
        """The stream, applied to the follower while the block runs → set when the coordinator ended it."""
        target = "/v1/watch" if since is None else f"/v1/watch?since={since}"
        ended = trio.Event()
        hung_up = trio.Event()
        asked = False
        held = bytearray()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await hung_up.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200, message
                assert (b"x-accel-buffering", b"no") in message["headers"]
                return
            held.extend(message["body"])
            while (end := held.find(b"\n")) >= 0:
                follower.take(bytes(held[: end + 1]))
                del held[: end + 1]
            if not message.get("more_body"):
                assert not held
                ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.app, self._scope("GET", target, bearer), receive, send)
            yield ended
            hung_up.set()

    @asynccontextmanager
    async def events(self, network: str, headers: Mapping[str, str]) -> AsyncIterator[list[bytes]]:
        """What an admin's page hears while the block runs, piece by piece; the last one is empty."""
        heard: list[bytes] = []
        hung_up = trio.Event()

        async def receive() -> dict[str, Any]:
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200, message
            else:
                heard.append(message["body"])

        async with trio.open_nursery() as nursery:
            scope = self._scope("GET", f"/v1/admin/networks/{network}/events", None, headers)
            nursery.start_soon(self.app, scope, receive, send)
            yield heard
            hung_up.set()

    # --- what a node does ---

    async def token(self, network: str, **terms: object) -> Token:
        answer = await self.admin("POST", f"networks/{network}/tokens", terms)
        assert answer.status == 201, answer.body
        return Token.decode(answer.json["token"])

    async def challenge(self) -> Challenge:
        return Challenge.from_json((await self.request("POST", "/v1/challenge", {})).json)

    async def try_join(self, host: Host, token: Token, leaf: bytes = LEAF) -> Answer:
        asked = host.join_request(token.secret, await self.challenge(), token.identity_hash, leaf)
        return await self.request("POST", "/v1/join", asked.to_json())

    async def join(self, host: Host, token: Token) -> Membership:
        answer = await self.try_join(host, token)
        assert answer.status == 200, answer.body
        host.membership = Membership.from_json(answer.json)
        return host.membership

    async def commit(self, host: Host, network: str = "home") -> Answer:
        body = CommitRequest(network, host.commitment).to_json()
        return await self.request("POST", "/v1/join/commit", body)

    async def open(self, host: Host, made: CommitAnswer, leaf: bytes = LEAF) -> tuple[Answer, str]:
        """The answer, and the code that the host shows."""
        identity_hash = self.context.identity.hash
        asked = host.open_request(made.join, await self.challenge(), identity_hash, leaf)
        code = join_code(asked, identity_hash=identity_hash, leaf_hash=leaf, coordinator_nonce=made.nonce)
        return await self.request("POST", "/v1/join/open", asked.to_json()), encode_code(code)

    async def ask_keyless(self, host: Host, network: str = "home") -> tuple[CommitAnswer, str]:
        """A join without a token that waits now: what was committed, and the code."""
        answer = await self.commit(host, network)
        assert answer.status == 200, answer.body
        made = CommitAnswer.from_json(answer.json)
        answer, code = await self.open(host, made)
        assert answer.status == 202, answer.body
        return made, code

    async def edit(self, path: str, body: object, if_match: str = "*") -> Answer:
        headers = {"if-match": if_match}
        return await self.request("PATCH", f"/v1/admin/{path}", body, bearer=self.admin_key, headers=headers)

    async def try_session(self, host: Host, leaf: bytes = LEAF) -> Answer:
        assert host.membership is not None
        identity_hash = self.context.identity.hash
        asked = host.session_request(host.membership, await self.challenge(), identity_hash, leaf)
        return await self.request("POST", "/v1/session", asked.to_json())

    async def session(self, host: Host) -> str:
        answer = await self.try_session(host)
        assert answer.status == 200, answer.body
        return str(answer.json["bearer"])

    async def member(self, number: int, network: str = "home") -> tuple[Host, str]:
        """A host that joined and signed its record, and its bearer."""
        host = Host(number)
        membership = await self.join(host, await self.token(network))
        bearer = await self.session(host)
        answer = await self.request(
            "PUT", "/v1/node/record", host.record(membership).to_json(), bearer=bearer
        )
        assert answer.status == 200, answer.body
        return host, bearer

    async def check_in(
        self,
        bearer: str,
        sequence: int = 1,
        since: object = None,
        endpoints: tuple[str, ...] = (),
        **more: object,
    ) -> Answer:
        body = {"since": since, "boot": 1, "sequence": sequence, "listen_port": 51820}
        body |= {"endpoints": list(endpoints)} | more
        return await self.request("POST", "/v1/checkin", body, bearer=bearer)


@asynccontextmanager
async def running_service(
    rows: Rows, *, pinned: bool = True, limit: RateLimit | None = None
) -> AsyncIterator[Service]:
    """The whole application over these rows, with an admin key and no network."""
    store = Store(rows.database)
    identity = CoordinatorIdentity(IdentityKey(IDENTITY_SEED), (LEAF, NEXT_LEAF), pinned=pinned)
    hub = Hub(store, identity, EPOCH, "process", lambda: rows.now)
    rows.write(add_api_key, BearerSecret(ADMIN_SECRET), "tests", rows.now)
    context = Context(
        store,
        hub,
        identity,
        SessionKeys(SESSION_KEY),
        random.Random(11),
        lambda: rows.now,
        RECEIPTS,
        limit=limit or RateLimit(1e6, 1e6, 1e6, 1e6),
        page_limit=limit or RateLimit(1e6, 1e6, 1e6, 1e6),
    )
    app = build_app(context)
    async with app.router.lifespan_context(app):
        yield Service(app, context, rows)
