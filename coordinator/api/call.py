"""One request to a declared route: opened (who, on which network, with what body), changed and answered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from coordinator.api.caller import authorise, is_same_origin
from coordinator.api.context import Context, context_of
from coordinator.api.edge import answer, answer_reading, limit_stranger, observed_address, read_octets
from coordinator.api.table import Endpoint, Needs
from coordinator.change import Change
from coordinator.errors import Refusal
from coordinator.preview import what_changes
from coordinator.rights import Caller
from coordinator.store.audit import Actor, write_audit
from coordinator.store.networks import find_network_id
from coordinator.store.previews import read_state
from coordinator.store.replies import Reply, claim_reply, fill_reply
from coordinator.vault import WrappingKey
from wgpy.mesh.encoding import JsonObject, MalformedMessage, canonical_json, decode_json, encode_b64u
from wgpy.mesh.wire import MAX_BODY_SIZE

B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")

MAX_PAGE = 1000


class Previewed(Exception):
    """A change was tried and undone: raised where it was made, so that nothing of it stays."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self.changes = changes


@dataclass(slots=True)
class Call(Generic[B]):
    """What a handler works with. `network_id` is "" for routes outside of networks; `caller` None where the
    route needs nothing. `etag` is that of the subject, as the answer will carry it.
    """

    request: Request
    context: Context
    endpoint: Endpoint
    caller: Caller | None
    network_id: str
    body: B
    raw_body: bytes
    now: float
    etag: str | None = None

    @property
    def by(self) -> Caller:
        assert self.caller is not None
        return self.caller

    @property
    def address(self) -> str:
        """Where the request came from."""
        return str(observed_address(self.request) or "")

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """Raises MalformedMessage."""
        text = self.request.query_params.get(name)
        if text is not None and (not text.isprintable() or len(text) > 256):
            raise MalformedMessage(f"{name}: expected at most 256 printable characters, got others")
        return text

    def number(
        self, name: str, default: int | None = None, low: int = 0, high: int = 2**53 - 1
    ) -> int | None:
        """Raises MalformedMessage."""
        text = self.query(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 16 or not low <= int(text) <= high:
            raise MalformedMessage(f"{name}: expected an integer from {low} to {high}, got something else")
        return int(text)

    @property
    def is_dry_run(self) -> bool:
        """Raises MalformedMessage."""
        return bool(self.number("dry_run", 0, 0, 1))

    def limit(self) -> int:
        return self.number("limit", 100, 1, MAX_PAGE) or 100

    async def is_still_allowed(self) -> bool:
        """Whether the caller could ask the same again at this moment: for answers that take long."""
        try:
            caller = await authorise(self.request, touch=False)
            found = await _authorise_network(self.endpoint.needs, self.request, caller)
        except (Refusal, SQLAlchemyError):
            return False
        return found == self.network_id

    async def read(
        self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self.context.store.read(query, *args, **kwargs)

    async def change(
        self,
        change: Callable[Concatenate[Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Make the change, with its entry in the audit log, in one transaction; If-Match is checked in it.

        In a dry run it raises Previewed.
        """
        if self.is_dry_run:
            await self.context.store.write(self._preview, change, *args, **kwargs)
        return await self.context.store.write(self._audited, change, *args, **kwargs)

    async def create(
        self,
        show: Callable[[R], object],
        change: Callable[Concatenate[Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Response:
        """As `change`, and once alone under one Idempotency-Key; `show` makes the answer of the result."""
        key = self.request.headers.get("idempotency-key")
        if key is None or self.is_dry_run:
            return self._created(msgspec.json.encode(show(await self.change(change, *args, **kwargs))))
        if not 1 <= len(key) <= 255:
            raise Refusal("malformed", "an Idempotency-Key has 1 to 255 characters")
        seal = WrappingKey(self.context.sessions.sealing_key(f"reply {self.by.id} {key}"))
        reply_id = hashlib.sha256(f"{self.by.kind} {self.by.id} {key}".encode()).hexdigest()
        asked = hashlib.sha256(f"{self.request.url.path}\0".encode() + self.raw_body).digest()

        def once(connection: Connection) -> tuple[bytes, bool]:
            known = claim_reply(connection, reply_id, asked, self.now)
            if known is not None:
                return seal.unwrap("reply", known.sealed) or b"{}", True
            shown = msgspec.json.encode(show(self._audited(connection, change, *args, **kwargs)))
            fill_reply(connection, reply_id, Reply(self.endpoint.status, seal.wrap("reply", shown)))
            return shown, False

        body, again = await self.context.store.write(once)
        return self._created(body, {"idempotency-replayed": "true"} if again else {})

    def _created(self, body: bytes, headers: dict[str, str] | None = None) -> Response:
        response = answer(body, self.endpoint.status)
        response.headers.update(headers or {})
        return response

    def _audited(
        self,
        connection: Connection,
        change: Callable[Concatenate[Connection, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        subject = self.endpoint.subject
        assert subject is not None, "a route that changes something says what"
        named = self.path(subject.parameter) if subject.parameter else None
        before = None if named is None else subject.read(connection, self.network_id, named)
        self._check_match(before)
        result = change(connection, *args, **kwargs)
        found = str(before["id"]) if before is not None else subject.made(result)
        after = subject.read(connection, self.network_id, found)
        if before != after:
            actor = Actor(self.by.kind, self.by.id, self.by.name, self.address)
            network_id = self.network_id or None
            action = self.endpoint.action
            write_audit(connection, actor, action, network_id, self.now, before=before, after=after)
        self.etag = None if after is None else etag_of(after)
        return result

    def _preview(
        self,
        connection: Connection,
        change: Callable[Concatenate[Connection, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> NoReturn:
        before = read_state(connection, self.network_id)
        self._audited(connection, change, *args, **kwargs)
        self.etag = None
        raise Previewed(what_changes(before, read_state(connection, self.network_id)))

    def _check_match(self, before: JsonObject | None) -> None:
        """Raises Refusal `changed`."""
        wanted = self.request.headers.get("if-match")
        if wanted is None:
            return
        tags = {tag.strip() for tag in wanted.split(",")}
        if "*" not in tags and (before is None or etag_of(before) not in tags):
            raise Refusal(
                "changed", "somebody else has changed this since you read it: look again, then edit"
            )


def etag_of(value: JsonObject) -> str:
    return f'"{encode_b64u(hashlib.sha256(canonical_json(value)).digest()[:16])}"'


async def serve_endpoint(endpoint: Endpoint, request: Request) -> ASGIApp:
    """Authorise, parse, call, answer."""
    call = await _open(endpoint, request)
    subject = endpoint.subject
    if endpoint.method == "GET" and subject is not None and subject.parameter:
        # Before the body is read: a change in between costs a needless refusal, never a lost one.
        value = await call.read(subject.read, call.network_id, call.path(subject.parameter))
        call.etag = None if value is None else etag_of(value)
    try:
        result = await endpoint.handler(call)
    except Previewed as preview:
        found = {"changes": [change.to_json() for change in preview.changes]}
        return answer(msgspec.json.encode(found), 200)
    if result is None:
        response = Response(status_code=204, headers={"cache-control": "no-store"})
    elif isinstance(result, (msgspec.Struct, dict)):
        body = msgspec.json.encode(result)
        is_reading = endpoint.method == "GET"
        response = await answer_reading(request, body) if is_reading else answer(body, endpoint.status)
    else:
        response = result
    if call.etag is not None and isinstance(response, Response):
        response.headers["etag"] = call.etag
    return response


async def _open(endpoint: Endpoint, request: Request) -> Call[Any]:
    context = context_of(request)
    caller = None
    network_id = ""
    if endpoint.needs is Needs.NOTHING:
        limit_stranger(request)
        if not is_same_origin(request, without_word=True):
            raise Refusal("cross_site", "this request does not come from the coordinator's own page")
    else:
        caller = await authorise(request)
        network_id = await _authorise_network(endpoint.needs, request, caller)
    if endpoint.edits and "if-match" not in request.headers:
        raise Refusal("needs_if_match", "send the ETag of what you saw as If-Match, or `*` to overwrite")
    if "dry_run" in request.query_params and not endpoint.previews:
        raise MalformedMessage("dry_run: this cannot be tried without doing it; nothing was done")
    raw_body = b""
    body: Any = None
    if endpoint.takes is not None:
        raw_body = await read_octets(request)
        body = convert(decode_json(raw_body, MAX_BODY_SIZE), endpoint.takes)
    return Call(request, context, endpoint, caller, network_id, body, raw_body, context.clock())


async def _authorise_network(needs: Needs, request: Request, caller: Caller) -> str:
    """The id of the network that the path names, "" without. Raises Refusal `not_found`, `forbidden`."""
    named = request.path_params.get("network")
    network_id = None
    if named is not None:
        network_id = await context_of(request).store.read(find_network_id, named, caller.sees)
    right = needs.right
    if right is not None and not caller.may(right, network_id):
        where = "this coordinator" if named is None else "this network"
        raise Refusal("forbidden", f"{caller.name} has not {needs.value} on {where}: ask an admin of it")
    return network_id or ""


def convert(value: object, into: type[B]) -> B:
    """Raises MalformedMessage, in the words of docs/wire.md §1."""
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        where = place.strip("`").removeprefix("$").removeprefix(".") or "the body"
        raise MalformedMessage(f"{where}: {text[:1].lower()}{text[1:]}") from None
