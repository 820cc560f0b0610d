"""Requests and answers between node and coordinator (docs/wire.md §2 to §7), each with its reader and writer.

`from_json` takes what `decode_json` gave, checks every field and raises MalformedMessage; `to_json` makes
what `encode_json` writes. Frames are in `frames.py`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from wgpy.addresses import Endpoint, Prefix
from wgpy.keys import KEY_SIZE, PublicKey
from wgpy.mesh.encoding import MAX_NAME, Fields, JsonObject, MalformedMessage, encode_b64u
from wgpy.mesh.frames import MapFrame, PresenceFrame, ReportsFrame, Since, read_frame
from wgpy.mesh.ingress import Sighting, read_sightings
from wgpy.mesh.netmap import Network
from wgpy.mesh.receipt import MAX_RECEIPTS, Receipt
from wgpy.mesh.signing import (
    HASH_SIZE,
    SIGNATURE_SIZE,
    BearerSecret,
    IdentityPublicKey,
    MachinePublicKey,
    leaves_input,
)
from wgpy.mesh.tunnels import ReportTerms, TunnelReport

_T = TypeVar("_T")

WIRE_VERSION: Final = 1
MAX_BODY_SIZE: Final = 64 * 1024
"""Octets in a request's body."""
PROBLEM_TYPE: Final = "application/problem+json"
STREAM_TYPE: Final = "application/x-ndjson"
MAX_CHALLENGE: Final = 256
"""Octets in a challenge, which only its maker can read."""


class ProblemCode(enum.StrEnum):
    """Why a coordinator refuses, as a word. A node may meet others: `Problem.code` is text."""

    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    WIRE_VERSION = "wire_version"
    RATE_LIMITED = "rate_limited"
    CHALLENGE_EXPIRED = "challenge_expired"
    BAD_SIGNATURE = "bad_signature"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_USED = "token_used"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    KEY_IN_USE = "key_in_use"
    NETWORK_FULL = "network_full"
    NODE_UNKNOWN = "node_unknown"
    SESSION_EXPIRED = "session_expired"
    RECORD_MISMATCH = "record_mismatch"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal. `detail` is a sentence for a person, `code` a word for a program."""

    title: str
    status: int
    detail: str
    code: str

    def to_json(self) -> JsonObject:
        return {"title": self.title, "status": self.status, "detail": self.detail, "code": self.code}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        status = fields.integer("status", 400, 599)
        return cls(fields.text("title"), status, fields.text("detail", 1024), fields.word("code"))


@dataclass(frozen=True, slots=True)
class Identity:
    """`GET /v1/identity`: who the coordinator is and which TLS leaves are its own."""

    identity: IdentityPublicKey
    leaves: tuple[bytes, ...]
    signature: bytes
    capabilities: tuple[str, ...] = ()
    wire: int = WIRE_VERSION

    def verify(self) -> bool:
        """Whether the identity key signed the leaves."""
        return self.identity.verify(self.signature, leaves_input(self.leaves))

    def to_json(self) -> JsonObject:
        return {
            "wire": self.wire,
            "identity": str(self.identity),
            "leaves": [encode_b64u(leaf) for leaf in self.leaves],
            "signature": encode_b64u(self.signature),
            "capabilities": list(self.capabilities),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            identity=IdentityPublicKey(fields.octets("identity", KEY_SIZE)),
            leaves=fields.octets_list("leaves", HASH_SIZE, 8),
            signature=fields.octets("signature", SIGNATURE_SIZE),
            capabilities=fields.words("capabilities"),
            wire=fields.integer("wire", 1, 65535),
        )


@dataclass(frozen=True, slots=True)
class Challenge:
    """`POST /v1/challenge`: what a join or session signs. `ephemeral` is an X25519 public key."""

    challenge: bytes
    ephemeral: PublicKey

    def to_json(self) -> JsonObject:
        return {"challenge": encode_b64u(self.challenge), "ephemeral": encode_b64u(bytes(self.ephemeral))}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        challenge = fields.octets("challenge", limit=MAX_CHALLENGE)
        return cls(challenge, PublicKey(fields.octets("ephemeral", KEY_SIZE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """What every join shows of a host. `name` is a wish; `signature` and `wireguard_proof` are made as
    `signing.py` says.
    """

    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    challenge: bytes
    signature: bytes
    wireguard_proof: bytes
    capabilities: tuple[str, ...] = ()
    wire: int = WIRE_VERSION

    def applicant_json(self) -> JsonObject:
        return {
            "wire": self.wire,
            "capabilities": list(self.capabilities),
            "name": self.name,
            "machine_key": str(self.machine_key),
            "wireguard_key": str(self.wireguard_key),
            "challenge": encode_b64u(self.challenge),
            "signature": encode_b64u(self.signature),
            "wireguard_proof": encode_b64u(self.wireguard_proof),
        }

    @staticmethod
    def read_applicant(fields: Fields) -> dict[str, Any]:
        """By the names above."""
        return {
            "name": fields.text("name", MAX_NAME),
            "machine_key": MachinePublicKey(fields.octets("machine_key", KEY_SIZE)),
            "wireguard_key": fields.wireguard_key("wireguard_key"),
            "challenge": fields.octets("challenge", limit=MAX_CHALLENGE),
            "signature": fields.octets("signature", SIGNATURE_SIZE),
            "wireguard_proof": fields.octets("wireguard_proof", HASH_SIZE),
            "capabilities": fields.words("capabilities"),
            "wire": fields.integer("wire", 1, 65535),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest(Applicant):
    """`POST /v1/join`."""

    token: BearerSecret

    def to_json(self) -> JsonObject:
        return self.applicant_json() | {"token": encode_b64u(bytes(self.token))}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        token = BearerSecret(fields.octets("token", KEY_SIZE))
        return cls(token=token, **cls.read_applicant(fields))


@dataclass(frozen=True, slots=True)
class Membership:
    """The answer to a join: the network, and what we are in it. `addresses` are ours, /32 and /128."""

    network: Network
    node: str
    name: str
    addresses: tuple[Prefix, ...]

    def to_json(self) -> JsonObject:
        addresses = [str(address) for address in self.addresses]
        node = {"id": self.node, "name": self.name, "addresses": addresses}
        return {"network": self.network.to_json(), "node": node}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        node = fields.fields("node")
        network = Network.from_json(fields.raw("network"))
        if not node.prefixes("addresses", hosts=True):
            raise MalformedMessage("node.addresses: expected one address at least, got none")
        return cls(network, node.identifier("id"), node.label("name"), node.prefixes("addresses", hosts=True))


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """`POST /v1/session`."""

    network: str
    node: str
    challenge: bytes
    signature: bytes
    capabilities: tuple[str, ...] = ()
    wire: int = WIRE_VERSION

    def to_json(self) -> JsonObject:
        return {
            "wire": self.wire,
            "capabilities": list(self.capabilities),
            "network": self.network,
            "node": self.node,
            "challenge": encode_b64u(self.challenge),
            "signature": encode_b64u(self.signature),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            network=fields.identifier("network"),
            node=fields.identifier("node"),
            challenge=fields.octets("challenge", limit=MAX_CHALLENGE),
            signature=fields.octets("signature", SIGNATURE_SIZE),
            capabilities=fields.words("capabilities"),
            wire=fields.integer("wire", 1, 65535),
        )


@dataclass(frozen=True, slots=True)
class Session:
    """The answer: a bearer, good for `expires_in` seconds. Its repr does not show the bearer."""

    bearer: str
    expires_in: int

    def __repr__(self) -> str:
        return f"Session(…, expires_in={self.expires_in})"

    def to_json(self) -> JsonObject:
        return {"bearer": self.bearer, "expires_in": self.expires_in}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        bearer = fields.text("bearer", 2048)
        if not bearer.isascii() or " " in bearer:
            raise MalformedMessage("bearer: expected ASCII without spaces, got other text")
        return cls(bearer, fields.integer("expires_in", 1, 86400))


@dataclass(frozen=True, slots=True)
class CheckinRequest:
    """`POST /v1/checkin`: a poll, and a report of where we are. The last (boot, sequence) wins.

    `brief`: a report alone, to be answered without map and presence, which the stream brings. `clients`: what
    a gateway of external clients knows of those that are news.
    """

    since: Since | None
    boot: int
    sequence: int
    listen_port: int
    endpoints: tuple[Endpoint, ...] = ()
    tunnels: TunnelReport | None = None
    brief: bool = False
    clients: tuple[Sighting, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    """That we are at the public addresses among `endpoints`, where the coordinator does not see us itself."""

    def to_json(self) -> JsonObject:
        value: JsonObject = {
            "since": None if self.since is None else str(self.since),
            "boot": self.boot,
            "sequence": self.sequence,
            "listen_port": self.listen_port,
            "endpoints": [str(endpoint) for endpoint in self.endpoints],
        }
        if self.tunnels is not None:
            value["tunnels"] = self.tunnels.to_json()
        if self.brief:
            value["brief"] = True
        if self.clients:
            value["clients"] = [each.to_json() for each in self.clients]
        if self.receipts:
            value["receipts"] = [receipt.to_json() for receipt in self.receipts]
        return value

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            since=None if fields.is_null("since") else Since.parse(fields.text("since")),
            boot=fields.integer("boot"),
            sequence=fields.integer("sequence"),
            listen_port=fields.integer("listen_port", 1, 65535),
            endpoints=fields.endpoints("endpoints"),
            tunnels=_optional(fields, "tunnels", TunnelReport.from_json),
            brief=not fields.is_null("brief") and fields.boolean("brief"),
            clients=read_sightings(fields, "clients"),
            receipts=()
            if fields.is_null("receipts")
            else tuple(Receipt.from_json(*item) for item in fields.items("receipts", MAX_RECEIPTS)),
        )


@dataclass(frozen=True, slots=True)
class CheckinAnswer:
    """A frame that follows `since`, and the presence of every peer. No frame: its kind is newer than we are,
    or the check-in was brief. `reports` None: a coordinator that wants none. `unproven`: of our endpoints,
    those of which nobody is told.
    """

    frame: MapFrame | None
    presence: PresenceFrame
    reports: ReportTerms | None = None
    unproven: tuple[Endpoint, ...] = ()

    def to_json(self) -> JsonObject:
        frame = None if self.frame is None else self.frame.to_json()
        value: JsonObject = {"frame": frame, "presence": self.presence.to_json()}
        if self.reports is not None:
            value["reports"] = self.reports.to_json()
        if self.unproven:
            value["unproven"] = [str(endpoint) for endpoint in self.unproven]
        return value

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        frame = None if fields.is_null("frame") else read_frame(fields.raw("frame"), "frame")
        presence = read_frame(fields.raw("presence"), "presence")
        if isinstance(frame, PresenceFrame | ReportsFrame):
            raise MalformedMessage("frame: expected a frame of the map, got another")
        if not isinstance(presence, PresenceFrame):
            raise MalformedMessage("presence: expected a frame of kind presence, got another")
        unproven = () if fields.is_null("unproven") else fields.endpoints("unproven")
        return cls(frame, presence, _optional(fields, "reports", ReportTerms.from_json), unproven)


def _optional(fields: Fields, name: str, read: Callable[[object, str], _T]) -> _T | None:
    return None if fields.is_null(name) else read(fields.raw(name), fields.path(name))


def requested_name(hostname: str) -> str:
    """The name to ask for: the host's first label, cut to what a join may carry."""
    name = "".join(char for char in hostname.partition(".")[0] if char.isprintable() and char.isascii())
    return name[:MAX_NAME] or "node"


Message = (
    Problem
    | Identity
    | Challenge
    | JoinRequest
    | Membership
    | SessionRequest
    | Session
    | CheckinRequest
    | CheckinAnswer
)
"""Every body of this page."""
