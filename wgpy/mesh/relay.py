"""What a node and a relay say to each other over UDP, octet by octet (docs/relay.md §3 to §5).

Relays and nodes share these codecs; the data itself is wrapped and unwrapped by engines, and forwarded by
`rust/dataplane/src/relay/`. Integers are big-endian. `parse_relay_untrusted` never raises.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.relay_ticket import TICKET_SIZE
from wgpy.mesh.signing import SIGNATURE_SIZE, signing_input

MAGIC: Final = 0xD7
"""First octet: none of WireGuard's (1 to 4) and none of STUN's (below 0x40)."""
VERSION: Final = 1
RANDOM_SIZE: Final = 16
COOKIE_SIZE: Final = 16
NO_COOKIE: Final = bytes(COOKIE_SIZE)
MAC_SIZE: Final = 16
OBSERVED_SIZE: Final = 18

HELLO_SIZE: Final = 64
"""Padded, so that no answer is larger."""
KEEPALIVE_SIZE: Final = 56
DATA_HEADER_SIZE: Final = 20
MIN_DATA_SIZE: Final = 52
"""Octets of the smallest DATA: a WireGuard message has 32 at least."""

_HEADER: Final = struct.Struct("!BBBB")
_COOKIE: Final = struct.Struct("!4x16s16s")
_REGISTER: Final = struct.Struct(f"!4x16s16s32s{TICKET_SIZE}s{SIGNATURE_SIZE}s")
_REGISTERED: Final = struct.Struct(f"!4x16sQ32s{OBSERVED_SIZE}s{SIGNATURE_SIZE}s")
_ACK: Final = struct.Struct(f"!4xQQ{OBSERVED_SIZE}s")
_NOTICE: Final = struct.Struct("!4xQ16s")
REGISTER_SIZE: Final = _REGISTER.size
REGISTERED_SIZE: Final = _REGISTERED.size
REFUSED_SIZE: Final = 4 + RANDOM_SIZE
ACK_SIZE: Final = _ACK.size + MAC_SIZE
NOTICE_SIZE: Final = _NOTICE.size


class Kind(enum.IntEnum):
    """Second octet."""

    HELLO = 1
    COOKIE = 2
    REGISTER = 3
    REGISTERED = 4
    REFUSED = 5
    KEEPALIVE = 6
    ACK = 7
    DATA = 8
    NOTICE = 9


class RefusalReason(enum.IntEnum):
    """Third octet of REFUSED: why there is no session."""

    TICKET = 1
    EXPIRED = 2
    REVOKED = 3
    FULL = 4
    OTHER_RELAY = 5
    KEPT_OUT = 6

    @property
    def words(self) -> str:
        return _REFUSAL_WORDS[self]


_REFUSAL_WORDS: Final = {
    RefusalReason.TICKET: "its ticket is not one of this relay's coordinator",
    RefusalReason.EXPIRED: "its ticket is over; the coordinator gives another",
    RefusalReason.REVOKED: "the node was removed",
    RefusalReason.FULL: "the relay has no room for another node",
    RefusalReason.OTHER_RELAY: "its ticket is for another relay",
    RefusalReason.KEPT_OUT: "the node is disabled, or its time is over",
}


class NoticeReason(enum.IntEnum):
    """Third octet of NOTICE: why a datagram of the session was not forwarded."""

    UNKNOWN_SESSION = 1
    OTHER_ADDRESS = 2


ACK_DRAINING: Final = 1
"""Third octet of ACK: the relay is about to stop, use another."""


@dataclass(frozen=True, slots=True)
class Hello:
    random: bytes


@dataclass(frozen=True, slots=True)
class Cookie:
    """The cookie proves where the HELLO came from, and is what a REGISTER signs."""

    random: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Register:
    random: bytes
    cookie: bytes
    ephemeral: PublicKey
    ticket: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Registered:
    random: bytes
    session: int
    ephemeral: PublicKey
    observed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason` may be one that this version does not know."""

    random: bytes
    reason: int


@dataclass(frozen=True, slots=True)
class Ack:
    session: int
    counter: int
    observed: bytes
    is_draining: bool
    signed: bytes = field(repr=False)
    mac: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Notice:
    """`cookie` proves where the datagram came from, for a KEEPALIVE that moves the session there."""

    session: int
    reason: int
    cookie: bytes


Message = Hello | Cookie | Register | Registered | Refused | Ack | Notice


class SessionKey:
    """What a node and its relay alone know. Does not print."""

    __slots__ = ("_key",)

    def __init__(
        self, private: PrivateKey, other: PublicKey, random: bytes, client: PublicKey, relay: PublicKey
    ) -> None:
        """`private` is the ephemeral key of this end, `other` that of the other. Raises ValueError for a
        point of low order.
        """
        shared = private.exchange(other)
        context = signing_input("wgpy-relay-session-v1", random, bytes(client), bytes(relay))
        self._key = hashlib.blake2s(context, key=shared).digest()

    def __repr__(self) -> str:
        return "SessionKey(…)"

    def __bytes__(self) -> bytes:
        return self._key

    def mac(self, data: bytes) -> bytes:
        return hashlib.blake2s(data, key=self._key, digest_size=MAC_SIZE).digest()

    def verify(self, ack: Ack) -> bool:
        return hmac.compare_digest(self.mac(ack.signed), ack.mac)


def encode_hello(random: bytes) -> bytes:
    return (_header(Kind.HELLO) + random).ljust(HELLO_SIZE, b"\0")


def encode_cookie(random: bytes, cookie: bytes) -> bytes:
    return _header(Kind.COOKIE) + random + cookie


def encode_register(message: Register) -> bytes:
    return (
        _header(Kind.REGISTER)
        + message.random
        + message.cookie
        + bytes(message.ephemeral)
        + message.ticket
        + message.signature
    )


def encode_registered(message: Registered) -> bytes:
    return (
        _header(Kind.REGISTERED)
        + message.random
        + message.session.to_bytes(8, "big")
        + bytes(message.ephemeral)
        + message.observed
        + message.signature
    )


def encode_refused(random: bytes, reason: RefusalReason) -> bytes:
    return _header(Kind.REFUSED, reason) + random


def encode_keepalive(session: int, counter: int, key: SessionKey, cookie: bytes = NO_COOKIE) -> bytes:
    """`counter` grows with each; `cookie` of a NOTICE moves the session to where this comes from."""
    body = _header(Kind.KEEPALIVE) + session.to_bytes(8, "big") + counter.to_bytes(8, "big") + cookie
    return (body + key.mac(body)).ljust(KEEPALIVE_SIZE, b"\0")


def encode_data_header(session: int, other: int) -> bytes:
    """What precedes a WireGuard message. `other`: to the relay, whom it is for; from it, whom it is from."""
    return _header(Kind.DATA) + session.to_bytes(8, "big") + other.to_bytes(8, "big")


def encode_observed(endpoint: Endpoint) -> bytes:
    """Where a datagram was seen to come from: 16 octets of address (IPv4 mapped), then the port."""
    address = endpoint.address
    packed = address.packed if len(address.packed) == 16 else b"\0" * 10 + b"\xff\xff" + address.packed
    return packed + endpoint.port.to_bytes(2, "big")


def parse_observed_untrusted(data: bytes) -> Endpoint | None:
    """None: it is no endpoint."""
    if len(data) != OBSERVED_SIZE:
        return None
    port = int.from_bytes(data[16:], "big")
    address = ipaddress.IPv6Address(data[:16])
    return None if port == 0 else Endpoint(address.ipv4_mapped or address, port)


def _header(kind: Kind, flags: int = 0) -> bytes:
    return _HEADER.pack(MAGIC, kind, flags, VERSION)


def parse_relay_untrusted(data: bytes) -> Message | None:
    """What a node or a relay's shell reads. None: something else, of another version, or what engines and
    forwarders read, data and keepalives.
    """
    if len(data) < _HEADER.size:
        return None
    magic, kind, flags, version = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or len(data) != _SIZES.get(kind):
        return None
    match kind:
        case Kind.HELLO:
            return Hello(data[4 : 4 + RANDOM_SIZE])
        case Kind.COOKIE:
            return Cookie(*_COOKIE.unpack(data))
        case Kind.REGISTER:
            random, cookie, ephemeral, ticket, signature = _REGISTER.unpack(data)
            return Register(random, cookie, PublicKey(ephemeral), ticket, signature)
        case Kind.REGISTERED:
            random, session, ephemeral, observed, signature = _REGISTERED.unpack(data)
            return Registered(random, session, PublicKey(ephemeral), observed, signature)
        case Kind.REFUSED:
            return Refused(data[4:], flags)
        case Kind.ACK:
            session, counter, observed = _ACK.unpack_from(data)
            signed, mac = data[: _ACK.size], data[_ACK.size :]
            return Ack(session, counter, observed, bool(flags & ACK_DRAINING), signed, mac)
        case _:
            session, cookie = _NOTICE.unpack(data)
            return Notice(session, flags, cookie)


_SIZES: Final[dict[int, int]] = {
    Kind.HELLO: HELLO_SIZE,
    Kind.COOKIE: 4 + RANDOM_SIZE + COOKIE_SIZE,
    Kind.REGISTER: REGISTER_SIZE,
    Kind.REGISTERED: REGISTERED_SIZE,
    Kind.REFUSED: REFUSED_SIZE,
    Kind.ACK: ACK_SIZE,
    Kind.NOTICE: NOTICE_SIZE,
}


# --- addresses of relayed peers -----------------------------------------------------------------------------

_PREFIX: Final = bytes.fromhex("fd5747507900")
MAX_RELAY_NUMBER: Final = 0xFFFF
_PORT: Final = 1


def relay_id_of(node: str) -> int:
    """What relays call a node: the first half of its id, which is random and tells nothing of its keys."""
    return int(node[:16], 16)


def relayed_endpoint(number: int, peer: int) -> Endpoint:
    """The endpoint by which engines know a peer behind the relay of that number, 0 to 65535, at this node.

    It is never on the wire: `fd57:4750:7900:NUMBER:` and the eight octets of the peer's relay id.
    """
    packed = _PREFIX + number.to_bytes(2, "big") + peer.to_bytes(8, "big")
    return Endpoint(ipaddress.IPv6Address(packed), _PORT)


def relay_number(endpoint: Endpoint) -> int | None:
    """Behind which relay an endpoint is; None: it is an address like any other."""
    packed = endpoint.address.packed
    return int.from_bytes(packed[6:8], "big") if len(packed) == 16 and packed[:6] == _PREFIX else None
