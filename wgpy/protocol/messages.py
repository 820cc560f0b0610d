"""The four messages on the wire (paper §5.4): layouts, and nothing of what they mean.

All integers are little-endian. The type octet and the three reserved zero octets after it are read as one
32-bit number, so a message whose reserved octets are not zero has no type that we know.

    initiation (148)            response (92)               cookie reply (64)         transport data (32…)
      0  type = 1                 0  type = 2                 0  type = 3               0  type = 4
      4  sender index             4  sender index             4  receiver index         4  receiver index
      8  ephemeral (32)           8  receiver index           8  nonce (24)             8  counter (8)
     40  static (32 + 16)        12  ephemeral (32)          32  cookie (16 + 16)      16  packet (n + 16)
     88  timestamp (12 + 16)     44  nothing (0 + 16)
    116  mac1 (16)               60  mac1 (16)
    132  mac2 (16)               76  mac2 (16)

Functions named `…_untrusted` take bytes of strangers and raise InvalidMessage, nothing else. Parsing a
handshake message checks size and type; macs are `cookie.py`'s, everything else is `noise.py`'s.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from wgpy.errors import InvalidMessage


class MessageType(enum.IntEnum):
    """The first 32 bits of a message."""

    INITIATION = 1
    RESPONSE = 2
    COOKIE_REPLY = 3
    TRANSPORT = 4


KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
MAC_SIZE: Final = 16
COOKIE_SIZE: Final = 16
COOKIE_NONCE_SIZE: Final = 24
TIMESTAMP_SIZE: Final = 12

INITIATION_SIZE: Final = 148
RESPONSE_SIZE: Final = 92
COOKIE_REPLY_SIZE: Final = 64
TRANSPORT_HEADER_SIZE: Final = 16
TRANSPORT_OVERHEAD: Final = TRANSPORT_HEADER_SIZE + TAG_SIZE
KEEPALIVE_SIZE: Final = TRANSPORT_OVERHEAD
"""A keepalive is a transport message with nothing in it."""

MACS_SIZE: Final = 2 * MAC_SIZE
"""mac1 and mac2 are the last octets of an initiation and of a response: 32 and 16 from the end."""

SENDER_INDEX_OFFSET: Final = 4
RESPONSE_RECEIVER_INDEX_OFFSET: Final = 8
RECEIVER_INDEX_OFFSET: Final = 4
"""In cookie replies and transport data."""
COUNTER_OFFSET: Final = 8

HANDSHAKE_SIZES: Final = {
    MessageType.INITIATION: INITIATION_SIZE,
    MessageType.RESPONSE: RESPONSE_SIZE,
    MessageType.COOKIE_REPLY: COOKIE_REPLY_SIZE,
}
"""A handshake message has exactly its size."""

_INITIATION: Final = struct.Struct("<II32s48s28s")
_RESPONSE: Final = struct.Struct("<III32s16s")
_COOKIE_REPLY: Final = struct.Struct("<II24s32s")
_TRANSPORT_HEADER: Final = struct.Struct("<IIQ")
_TYPE: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Initiation:
    """First message, initiator to responder; `static` and `timestamp` are sealed."""

    sender_index: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Second message, responder to initiator; `nothing` is the tag of an empty payload."""

    sender_index: int
    receiver_index: int
    ephemeral: bytes
    nothing: bytes


@dataclass(frozen=True, slots=True)
class CookieReply:
    """What a responder under load answers instead; `cookie` is sealed."""

    receiver_index: int
    nonce: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class TransportHeader:
    """What stands before the sealed packet."""

    receiver_index: int
    counter: int


def message_type_untrusted(data: bytes) -> MessageType:
    """The type of a datagram whose size fits that type. Raises InvalidMessage."""
    if len(data) < _TYPE.size:
        raise InvalidMessage("shorter than a message type")
    number = _TYPE.unpack_from(data)[0]
    if number == MessageType.TRANSPORT:
        if len(data) < TRANSPORT_OVERHEAD:
            raise InvalidMessage("shorter than a keepalive")
        return MessageType.TRANSPORT
    size = HANDSHAKE_SIZES.get(number)
    if size is None:
        raise InvalidMessage("no message type")
    if len(data) != size:
        raise InvalidMessage("not the size of its type")
    return MessageType(number)


def _expect_untrusted(data: bytes, kind: MessageType) -> None:
    if message_type_untrusted(data) is not kind:
        raise InvalidMessage("another type")


def parse_initiation_untrusted(data: bytes) -> Initiation:
    """Raises InvalidMessage."""
    _expect_untrusted(data, MessageType.INITIATION)
    return Initiation(*_INITIATION.unpack_from(data)[1:])


def parse_response_untrusted(data: bytes) -> Response:
    """Raises InvalidMessage."""
    _expect_untrusted(data, MessageType.RESPONSE)
    return Response(*_RESPONSE.unpack_from(data)[1:])


def parse_cookie_reply_untrusted(data: bytes) -> CookieReply:
    """Raises InvalidMessage."""
    _expect_untrusted(data, MessageType.COOKIE_REPLY)
    return CookieReply(*_COOKIE_REPLY.unpack(data)[1:])


def parse_transport_header_untrusted(data: bytes) -> TransportHeader:
    """Raises InvalidMessage."""
    _expect_untrusted(data, MessageType.TRANSPORT)
    return TransportHeader(*_TRANSPORT_HEADER.unpack_from(data)[1:])


def encode_initiation(message: Initiation) -> bytes:
    """116 octets: all but the macs, which `CookieGenerator.add_macs` appends."""
    return _INITIATION.pack(
        MessageType.INITIATION, message.sender_index, message.ephemeral, message.static, message.timestamp
    )


def encode_response(message: Response) -> bytes:
    """60 octets: all but the macs."""
    return _RESPONSE.pack(
        MessageType.RESPONSE,
        message.sender_index,
        message.receiver_index,
        message.ephemeral,
        message.nothing,
    )


def encode_cookie_reply(message: CookieReply) -> bytes:
    """64 octets."""
    return _COOKIE_REPLY.pack(MessageType.COOKIE_REPLY, message.receiver_index, message.nonce, message.cookie)


def encode_transport_header(header: TransportHeader) -> bytes:
    """16 octets, to stand before the sealed packet."""
    return _TRANSPORT_HEADER.pack(MessageType.TRANSPORT, header.receiver_index, header.counter)


def sender_index_untrusted(data: bytes) -> int:
    """The sender index of an initiation or response: where a cookie reply to it goes. Raises
    InvalidMessage.
    """
    if message_type_untrusted(data) not in (MessageType.INITIATION, MessageType.RESPONSE):
        raise InvalidMessage("no sender index in this type")
    return int.from_bytes(data[SENDER_INDEX_OFFSET : SENDER_INDEX_OFFSET + 4], "little")


def receiver_index_untrusted(data: bytes) -> int:
    """The receiver index of a response, cookie reply or transport message. Raises InvalidMessage."""
    kind = message_type_untrusted(data)
    if kind is MessageType.INITIATION:
        raise InvalidMessage("no receiver index in an initiation")
    offset = RESPONSE_RECEIVER_INDEX_OFFSET if kind is MessageType.RESPONSE else RECEIVER_INDEX_OFFSET
    return int.from_bytes(data[offset : offset + 4], "little")
