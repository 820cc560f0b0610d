"""What a node asks of its coordinator: identity and pin check, join, sessions, record, check-in, watch,
leave.

Every method raises CoordinatorError with one line for a person; `code` is the coordinator's own word, or
one of `unreachable`, `identity_mismatch`, `leaf_mismatch`, `wire_version`, `malformed`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import trio

from wgpy.addresses import IPAddress
from wgpy.agent.connection import MAX_ANSWER_SIZE, Connection, Response
from wgpy.errors import CoordinatorError
from wgpy.keys import PrivateKey
from wgpy.mesh.encoding import Fields, MalformedMessage, decode_json, encode_b64u, encode_json
from wgpy.mesh.forward import Offer
from wgpy.mesh.frames import (
    DEAD_STREAM_TIMEOUT,
    MAX_FRAME_SIZE,
    Frame,
    RemovedFrame,
    Since,
    decode_frame,
    read_frame,
)
from wgpy.mesh.ingress import Group, KeyHandover
from wgpy.mesh.keyless import CommitAnswer, CommitRequest, OpenRequest, Waiting
from wgpy.mesh.record import Record
from wgpy.mesh.relay_ticket import Ticket
from wgpy.mesh.relays import RelayCheckin, RelayNews, RelayTickets
from wgpy.mesh.rotation import KeyRequest
from wgpy.mesh.signing import (
    NO_LEAF,
    IdentityPublicKey,
    MachineKey,
    RelayKey,
    join_input,
    relay_checkin_input,
    session_input,
    wireguard_proof,
)
from wgpy.mesh.token import Token
from wgpy.mesh.wire import (
    WIRE_VERSION,
    Challenge,
    CheckinAnswer,
    CheckinRequest,
    Identity,
    JoinRequest,
    Membership,
    Problem,
    Session,
    SessionRequest,
)

_RENEW_BEFORE: Final = 60.0
"""Seconds before its end at which a bearer is no longer used."""

_CAPABILITIES: Final = ("approval",)
"""What we say that we can do when we join: wait for an admin's word."""

_HINTS: Final = {
    "token_unknown": "this token is unknown (deleted, or another coordinator's): ask for a new one",
    "token_used": "this token was used up by another host: ask for a new one",
    "token_expired": "this token has expired: ask for a new one",
    "token_revoked": "this token was revoked: ask for a new one",
    "key_in_use": "another node has this WireGuard key: was the state copied from another host?",
    "join_refused": "an admin of the network refused this host",
    "network_full": "the network has no free address: ask its administrator for a larger range",
    "node_unknown": "this node is not known there (any more)",
    "rate_limited": "too many requests from this address: wait a minute",
}
"""Our own words where we know what to do next; else the coordinator's `detail` is shown."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Trust:
    """Which coordinator is ours: its identity hash; and whether TLS is pinned to it or left to the system's
    CAs.
    """

    identity_hash: bytes
    pinned: bool


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the coordinator, once joined."""

    network: str
    node: str
    machine_key: MachineKey


class _Proof(NamedTuple):
    challenge: bytes
    signature: bytes
    wireguard_proof: bytes


class Refused(CoordinatorError):
    """A refusal that came as a problem. `removed`: the signed frame that may come with it, not yet
    verified.
    """

    def __init__(self, message: str, *, code: str, status: int, removed: RemovedFrame | None) -> None:
        super().__init__(message, code=code, status=status)
        self.removed = removed


class CoordinatorClient:
    """Talks to one coordinator, whose URLs are tried in order. A bearer is kept and renewed as needed.

    `identity` is the coordinator's identity key, once a connection was made.
    """

    def __init__(self, urls: Sequence[str], trust: Trust) -> None:
        self.urls = tuple(urls)
        self.trust = trust
        self.identity: IdentityPublicKey | None = None
        self.last_url: str | None = None
        """The URL of the last connection that proved to be our coordinator's."""
        self.remote_address: IPAddress | None = None
        """The address at the other end of it."""
        self._leaves: frozenset[bytes] = frozenset()
        self._session: Session | None = None
        self._session_ends_at = 0.0

    # --- connecting -----------------------------------------------------------------------------------------

    async def connect(self) -> Connection:
        """A connection to the first URL that answers and proves to be ours."""
        failures: list[CoordinatorError] = []
        for url in self.urls:
            try:
                connection = await Connection.open(url, pinned=self.trust.pinned)
            except CoordinatorError as error:
                failures.append(error)
                continue
            try:
                await self._check_identity(connection)
            except BaseException as error:
                await connection.aclose()
                if not isinstance(error, CoordinatorError):
                    raise
                failures.append(error)
                continue
            self.last_url, self.remote_address = url, connection.remote_address
            return connection
        codes = {error.code for error in failures}
        if codes == {"unreachable"}:
            reasons = "; ".join(str(error) for error in failures)
            raise CoordinatorError(f"cannot reach the coordinator at {reasons}", code="unreachable")
        worst = next(error for error in failures if error.code != "unreachable")
        raise worst

    async def _check_identity(self, connection: Connection) -> None:
        if self.identity is not None and (not self.trust.pinned or connection.leaf_hash in self._leaves):
            return
        response = await connection.request("GET", "/v1/identity")
        identity = _read(connection, response, Identity.from_json)
        if identity.identity.hash != self.trust.identity_hash or not identity.verify():
            raise CoordinatorError(
                f"{connection.url} is not the coordinator that was named to this host (its identity is "
                f"{encode_b64u(identity.identity.hash)}): is the address right, or who answers there?",
                code="identity_mismatch",
            )
        if self.trust.pinned and connection.leaf_hash not in identity.leaves:
            raise CoordinatorError(
                f"{connection.url}: its certificate is not one that the coordinator vouches for "
                "(pin mismatch): something in between opens the encryption",
                code="leaf_mismatch",
            )
        if identity.wire != WIRE_VERSION:
            older = "wgpy" if identity.wire > WIRE_VERSION else "the coordinator"
            raise CoordinatorError(
                f"{connection.url} speaks version {identity.wire} of the mesh's wire, "
                f"this wgpy {WIRE_VERSION}: upgrade {older}",
                code="wire_version",
            )
        self.identity, self._leaves = identity.identity, frozenset(identity.leaves)

    async def _challenge(self, connection: Connection) -> Challenge:
        response = await connection.request("POST", "/v1/challenge", body=b"{}")
        return _read(connection, response, Challenge.from_json)

    # --- joining --------------------------------------------------------------------------------------------

    async def join(
        self,
        token: Token,
        *,
        machine_key: MachineKey,
        wireguard_key: PrivateKey,
        name: str,
        before: Callable[[], None],
    ) -> Membership | Waiting:
        """Join, or hear that an admin has to approve. `before` is called when all is ready and nothing was
        spent: the keys have to be on disk when it returns.
        """
        async with await self.connect() as connection:
            proof = await self._prove(connection, token.id, machine_key, wireguard_key, name)
            request = JoinRequest(
                token=token.secret,
                name=name,
                machine_key=machine_key.public_key(),
                wireguard_key=wireguard_key.public_key(),
                challenge=proof.challenge,
                signature=proof.signature,
                wireguard_proof=proof.wireguard_proof,
                capabilities=_CAPABILITIES,
            )
            before()
            response = await connection.request("POST", "/v1/join", body=encode_json(request.to_json()))
            return _read(connection, response, _read_join)

    async def commit_join(self, network: str, commitment: bytes) -> CommitAnswer:
        """Begin a join without a token."""
        body = encode_json(CommitRequest(network, commitment).to_json())
        async with await self.connect() as connection:
            response = await connection.request("POST", "/v1/join/commit", body=body)
            return _read(connection, response, CommitAnswer.from_json)

    async def open_join(
        self,
        join: str,
        nonce: bytes,
        *,
        machine_key: MachineKey,
        wireguard_key: PrivateKey,
        name: str,
        before: Callable[[OpenRequest, bytes], None],
    ) -> Membership | Waiting:
        """Show what was committed to, or see how the join stands. `before` is called with what is about to be
        sent and the leaf hash of the connection.
        """
        async with await self.connect() as connection:
            proof = await self._prove(connection, join, machine_key, wireguard_key, name)
            request = OpenRequest(
                join=join,
                nonce=nonce,
                name=name,
                machine_key=machine_key.public_key(),
                wireguard_key=wireguard_key.public_key(),
                challenge=proof.challenge,
                signature=proof.signature,
                wireguard_proof=proof.wireguard_proof,
                capabilities=_CAPABILITIES,
            )
            before(request, connection.leaf_hash)
            response = await connection.request("POST", "/v1/join/open", body=encode_json(request.to_json()))
            return _read(connection, response, _read_join)

    async def _prove(
        self,
        connection: Connection,
        asks_by: str,
        machine_key: MachineKey,
        wireguard_key: PrivateKey,
        name: str,
    ) -> _Proof:
        """That we hold both keys; `asks_by` is the id of a token or of a join."""
        challenge = await self._challenge(connection)
        signed = join_input(
            identity_hash=self.trust.identity_hash,
            leaf_hash=connection.leaf_hash,
            challenge=challenge.challenge,
            token_id=asks_by,
            wireguard_key=wireguard_key.public_key(),
            name=name,
        )
        try:
            shared = wireguard_key.exchange(challenge.ephemeral)
        except ValueError:
            raise CoordinatorError(f"{connection.url}: its ephemeral key is of low order") from None
        proof = wireguard_proof(shared, challenge.challenge, machine_key.public_key())
        return _Proof(challenge.challenge, machine_key.sign(signed), proof)

    async def relay_checkin(
        self, key: RelayKey, checkin: Callable[[bytes, bytes], RelayCheckin]
    ) -> RelayNews:
        """A relay's question. `checkin` makes it of challenge and signature."""
        async with await self.connect() as connection:
            challenge = (await self._challenge(connection)).challenge
            signed = relay_checkin_input(
                self.trust.identity_hash, connection.leaf_hash, challenge, key.public_key().id
            )
            body = encode_json(checkin(challenge, key.sign(signed)).to_json())
            response = await connection.request("POST", "/v1/relay/checkin", body=body)
            return _read(connection, response, RelayNews.from_json)

    # --- with a session -------------------------------------------------------------------------------------

    def forget_session(self) -> None:
        """Ask for a new bearer next time."""
        self._session = None

    async def _bearer(self, connection: Connection, who: Credentials) -> str:
        if self._session is None or trio.current_time() >= self._session_ends_at:
            challenge = await self._challenge(connection)
            leaf = connection.leaf_hash
            signed = session_input(self.trust.identity_hash, leaf, who.network, who.node, challenge.challenge)
            signature = who.machine_key.sign(signed)
            request = SessionRequest(who.network, who.node, challenge.challenge, signature)
            response = await connection.request("POST", "/v1/session", body=encode_json(request.to_json()))
            self._session = _read(connection, response, Session.from_json)
            useful = max(self._session.expires_in - _RENEW_BEFORE, self._session.expires_in / 2)
            self._session_ends_at = trio.current_time() + useful
        return self._session.bearer

    async def _authorized(
        self, who: Credentials, method: str, path: str, value: object, read: Callable[[object], _Read]
    ) -> _Read:
        """One request with the bearer; a bearer that was ended early is renewed once."""
        body = None if value is None else encode_json(value)
        async with await self.connect() as connection:
            for attempt in (1, 2):
                bearer = await self._bearer(connection, who)
                response = await connection.request(method, path, bearer=bearer, body=body)
                if response.status == 401:
                    self.forget_session()
                    if attempt == 1:
                        continue
                return _read(connection, response, read)
        raise AssertionError("unreachable")

    async def put_record(self, who: Credentials, record: Record) -> None:
        """Give the coordinator our signed record."""
        await self._authorized(who, "PUT", "/v1/node/record", record.to_json(), lambda value: None)

    async def relay_tickets(self, who: Credentials) -> tuple[Ticket, ...]:
        """One for each relay of the map."""
        answer = await self._authorized(who, "POST", "/v1/relay/tickets", {}, RelayTickets.from_json)
        return answer.tickets

    async def put_offer(self, who: Credentials, offer: Offer) -> None:
        """Say what we would forward."""
        await self._authorized(who, "PUT", "/v1/node/offer", offer.to_json(), lambda value: None)

    async def ingress_group(self, who: Credentials) -> Group:
        """What we have to know as a gateway of external clients."""
        return await self._authorized(who, "GET", "/v1/node/ingress", None, Group.from_json)

    async def hand_over_key(self, who: Credentials, handover: KeyHandover) -> None:
        """Give the group's key to its gateways, sealed."""
        await self._authorized(who, "PUT", "/v1/node/ingress/key", handover.to_json(), lambda value: None)

    async def rename(self, who: Credentials, name: str) -> str:
        """Ask for another name → what it became."""
        return await self._authorized(
            who, "PUT", "/v1/node/name", {"name": name}, lambda value: Fields(value).label("name")
        )

    async def change_key(self, who: Credentials, record: Record, key: PrivateKey) -> None:
        """Give the coordinator our record with a new WireGuard key, whose private half we prove. Asked again
        it is the same.
        """
        async with await self.connect() as connection:
            challenge = await self._challenge(connection)
            try:
                shared = key.exchange(challenge.ephemeral)
            except ValueError:
                raise CoordinatorError(f"{connection.url}: its ephemeral key is of low order") from None
            proof = wireguard_proof(shared, challenge.challenge, who.machine_key.public_key())
        request = KeyRequest(record, challenge.challenge, proof)
        await self._authorized(who, "PUT", "/v1/node/key", request.to_json(), lambda value: None)
        self.forget_session()

    async def checkin(self, who: Credentials, request: CheckinRequest) -> CheckinAnswer:
        """Report where we are, and poll."""
        return await self._authorized(who, "POST", "/v1/checkin", request.to_json(), CheckinAnswer.from_json)

    async def leave(self, who: Credentials) -> RemovedFrame:
        """Give up the membership. The frame is verified."""
        frame = await self._authorized(who, "DELETE", "/v1/node", None, read_frame)
        if not isinstance(frame, RemovedFrame) or not self.vouches_for(frame, who):
            raise CoordinatorError("the coordinator answered with something else than our signed removal")
        return frame

    def vouches_for(self, frame: RemovedFrame, who: Credentials) -> bool:
        """Whether the frame is about us and signed by the coordinator's identity."""
        ours = (frame.network, frame.node) == (who.network, who.node)
        return ours and self.identity is not None and frame.verify(self.identity)

    async def watch(self, who: Credentials, since: Since | None) -> AsyncGenerator[Frame | None, None]:
        """The stream of frames; the first thing given is None, once the coordinator has taken us.

        Ends when the coordinator ends it. Raises CoordinatorError when it breaks, is malformed, or is
        silent for DEAD_STREAM_TIMEOUT."""
        path = "/v1/watch" if since is None else f"/v1/watch?since={since}"
        async with await self.connect() as connection:
            bearer = await self._bearer(connection, who)
            lines = connection.lines(path, bearer=bearer, limit=MAX_FRAME_SIZE, silence=DEAD_STREAM_TIMEOUT)
            async with aclosing(lines):
                async for line in lines:
                    if isinstance(line, Response):
                        if line.status == 401:
                            self.forget_session()
                        if line.status != 200:
                            raise _refusal(connection, line)
                        yield None
                        continue
                    try:
                        frame = decode_frame(line)
                    except MalformedMessage as error:
                        raise _malformed(connection, error) from None
                    if frame is not None:
                        yield frame


async def first_contact(url: str, pin: bytes | None) -> Trust:
    """Who answers at a coordinator's URL, for a host that has nothing but that; `pin` is its identity hash,
    if it is known.

    A certificate that the system's CAs vouch for settles who it is, and so does a pin. Without either the
    first answer is believed, and kept to. Raises CoordinatorError.
    """
    try:
        connection = await Connection.open(url, pinned=False)
    except CoordinatorError:
        connection = await Connection.open(url, pinned=True)
    async with connection:
        identity = _read(connection, await connection.request("GET", "/v1/identity"), Identity.from_json)
        client = CoordinatorClient(
            (url,), Trust(pin or identity.identity.hash, connection.leaf_hash != NO_LEAF)
        )
        await client._check_identity(connection)
    return client.trust


def _read_join(value: object) -> Membership | Waiting:
    return Waiting.from_json(value) if Fields(value).has("waiting") else Membership.from_json(value)


def _read(connection: Connection, response: Response, read: Callable[[object], _Read]) -> _Read:
    """The answer's value. Raises CoordinatorError for a refusal and for what cannot be read."""
    if not 200 <= response.status < 300:
        raise _refusal(connection, response)
    try:
        return read(decode_json(response.body, MAX_ANSWER_SIZE) if response.body else None)
    except MalformedMessage as error:
        raise _malformed(connection, error) from None


def _malformed(connection: Connection, error: MalformedMessage) -> CoordinatorError:
    return CoordinatorError(
        f"{connection.url} answered what this wgpy cannot read: {error}", code="malformed"
    )


def _refusal(connection: Connection, response: Response) -> CoordinatorError:
    try:
        value = decode_json(response.body, MAX_ANSWER_SIZE)
        problem, fields = Problem.from_json(value), Fields(value)
        frame = None if fields.is_null("removed") else read_frame(fields.raw("removed"), "removed")
    except MalformedMessage:
        return CoordinatorError(
            f"{connection.url} answered HTTP {response.status}, not as a coordinator does: "
            "is the address right?",
            status=response.status,
        )
    text = _HINTS.get(problem.code, problem.detail)
    return Refused(
        f"{connection.url}: {text}",
        code=problem.code,
        status=response.status,
        removed=frame if isinstance(frame, RemovedFrame) else None,
    )
