"""DNS messages, as far as a responder needs them (RFC 1035, RFC 6891): one question in, one reply out. Pure.

Queries come from programs on this host, and, through the tunnel, from strangers: nothing here raises
anything but InvalidQuery.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct("!HHHHHH")
MAX_NAME: Final = 255
"""Octets of a name on the wire, lengths and the root included."""
PLAIN_SIZE: Final = 512
"""Octets of a reply over UDP to who says nothing else."""
OWN_SIZE: Final = 1232
"""What we take and send over UDP: fits an IPv6 packet of 1280 (DNS flag day 2020)."""

Name = tuple[str, ...]
"""Labels in lower case, without the root."""


class Type(IntEnum):
    A = 1
    CNAME = 5
    SOA = 6
    PTR = 12
    AAAA = 28
    OPT = 41
    ANY = 255


class Code(IntEnum):
    """Response codes."""

    NO_ERROR = 0
    FORMAT_ERROR = 1
    SERVER_FAILURE = 2
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


IN: Final = 1
ANY_CLASS: Final = 255

_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_POINTER_TO_QUESTION: Final = b"\xc0\x0c"


class InvalidQuery(Exception):
    """What came is no query that can be answered, not even with an error."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question. `question` are its octets as they came: a reply repeats them, letter case and all.

    `size` is the longest reply over UDP; `has_edns` whether it carried an OPT record. `code` is what is wrong
    with it, if anything.
    """

    id: int
    name: Name
    type: int
    class_: int
    question: bytes
    size: int
    recursion_desired: bool
    has_edns: bool
    code: Code = Code.NO_ERROR


@dataclass(frozen=True, slots=True)
class Answer:
    """A record of a reply: `name` None is the question's own."""

    type: Type
    data: bytes
    ttl: int
    name: Name | None = None


def parse_query_untrusted(data: bytes) -> Query:
    """Raises InvalidQuery for what has no question, or is a reply itself."""
    if len(data) < HEADER.size:
        raise InvalidQuery("shorter than a header")
    id_, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & _QR:
        raise InvalidQuery("a reply")
    if questions != 1:
        raise InvalidQuery("not one question")
    name, end = read_name(data, HEADER.size)
    if end + 4 > len(data):
        raise InvalidQuery("no type and class")
    type_, class_ = struct.unpack_from("!HH", data, end)
    end += 4
    question = data[HEADER.size : end]
    code = Code.NO_ERROR
    if flags >> 11 & 0xF:
        code = Code.NOT_IMPLEMENTED
    elif answers or authorities:
        code = Code.FORMAT_ERROR
    size, has_edns = PLAIN_SIZE, False
    try:
        for _ in range(additional):
            owner, at = read_name(data, end)
            kind, asked, _, length = struct.unpack_from("!HHIH", data, at)
            end = at + 10 + length
            if end > len(data):
                raise InvalidQuery("cut short")
            if kind == Type.OPT and not owner:
                size, has_edns = max(PLAIN_SIZE, min(asked, OWN_SIZE)), True
    except (struct.error, InvalidQuery):
        code = code or Code.FORMAT_ERROR
    return Query(id_, name, type_, class_, question, size, bool(flags & _RD), has_edns, code)


def read_name(data: bytes, at: int) -> tuple[Name, int]:
    """An uncompressed name and where it ends. Raises InvalidQuery."""
    labels: list[str] = []
    start = at
    while True:
        if at >= len(data):
            raise InvalidQuery("a name without an end")
        length = data[at]
        at += 1
        if not length:
            return tuple(labels), at
        if length > 63 or at + length > len(data) or at + length - start > MAX_NAME - 1:
            raise InvalidQuery("a name that is too long, or compressed")
        labels.append(data[at : at + length].decode("latin-1").lower())
        at += length


def encode_name(name: Name) -> bytes:
    """Uncompressed. The labels are ours, so they fit."""
    return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in name) + b"\0"


def encode_reply(
    query: Query,
    code: Code = Code.NO_ERROR,
    answers: Sequence[Answer] = (),
    authority: Answer | None = None,
    *,
    limit: int,
    authoritative: bool = True,
) -> bytes:
    """A reply of at most `limit` octets: without its records, and marked as cut, when they don't fit."""
    records = b"".join(map(_encode_record, answers))
    last = b"" if authority is None else _encode_record(authority)
    options = b"\0" + struct.pack("!HHIH", Type.OPT, OWN_SIZE, 0, 0) if query.has_edns else b""
    flags = _QR | _RA | code | (_AA if authoritative else 0) | (_RD if query.recursion_desired else 0)
    counts = (len(answers), int(authority is not None))
    if HEADER.size + len(query.question) + len(records) + len(last) + len(options) > limit:
        records, last, counts, flags = b"", b"", (0, 0), flags | _TC
    header = HEADER.pack(query.id, flags, 1, *counts, int(query.has_edns))
    return header + query.question + records + last + options


def _encode_record(answer: Answer) -> bytes:
    owner = _POINTER_TO_QUESTION if answer.name is None else encode_name(answer.name)
    return owner + struct.pack("!HHIH", answer.type, IN, answer.ttl, len(answer.data)) + answer.data


def is_reply_to(data: bytes, asked: bytes) -> bool:
    """Whether `data` answers the query `asked`: the same id and question, and marked as a reply."""
    if len(data) < HEADER.size or data[:2] != asked[:2] or not data[2] & 0x80:
        return False
    try:
        wanted, end = read_name(asked, HEADER.size)
        got, stop = read_name(data, HEADER.size)
    except InvalidQuery:
        return False
    return wanted == got and end == stop and data[stop : stop + 4] == asked[end : end + 4]


def is_truncated(data: bytes) -> bool:
    return len(data) > 2 and bool(data[2] & _TC >> 8)
