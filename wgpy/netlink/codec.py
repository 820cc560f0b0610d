"""Netlink's bytes: messages, attributes, acknowledgements. Pure.

Layouts are linux/netlink.h's: host byte order, everything aligned to 4 octets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NLM_F_REQUEST: Final = 0x001
NLM_F_MULTI: Final = 0x002
NLM_F_ACK: Final = 0x004
NLM_F_DUMP: Final = 0x300
NLM_F_DUMP_INTR: Final = 0x010
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_NLMSGERR_ATTR_MSG: Final = 1
_TYPE_MASK: Final = 0x3FFF


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of the kernel. `what` names it in an error: "adding the route 10.0.0.0/8 to wg0"."""

    kind: int
    flags: int
    body: bytes
    what: str

    def encode(self, sequence: int) -> bytes:
        length = _HEADER.size + len(self.body)
        return _HEADER.pack(length, self.kind, self.flags | NLM_F_REQUEST, sequence, 0) + self.body


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel; `body` follows the header."""

    kind: int
    flags: int
    sequence: int
    body: memoryview


def parse_messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram; a truncated tail is left out."""
    view = memoryview(data)
    while len(view) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(view)
        if not _HEADER.size <= length <= len(view):
            return
        yield Message(kind, flags, sequence, view[_HEADER.size : length])
        view = view[(length + 3) & ~3 :]


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def parse_attributes(data: memoryview) -> dict[int, bytes]:
    """Attributes by type, the last of each; a truncated tail is left out."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & _TYPE_MASK] = bytes(data[_ATTRIBUTE.size : length])
        data = data[(length + 3) & ~3 :]
    return found


def parse_u32(value: bytes | None) -> int | None:
    return struct.unpack("=I", value)[0] if value is not None and len(value) == 4 else None


def parse_error(message: Message) -> tuple[int, str]:
    """(errno, what the kernel says of it) of an NLMSG_ERROR; (0, "") is an acknowledgement."""
    number = -_ERROR.unpack_from(message.body)[0]
    if not message.flags & NLM_F_ACK_TLVS:
        return number, ""
    # The request follows, header alone (capped) or whole, and then the attributes.
    request_length = _HEADER.unpack_from(message.body, _ERROR.size)[0]
    skip = _HEADER.size if message.flags & NLM_F_CAPPED else (request_length + 3) & ~3
    text = parse_attributes(message.body[_ERROR.size + skip :]).get(_NLMSGERR_ATTR_MSG, b"")
    return number, text.rstrip(b"\0").decode(errors="replace")
