"""The leaf hash: SHA-256 of a certificate's SubjectPublicKeyInfo, found by walking its DER (RFC 5280 §4.1).

The walk is strict: definite, minimal lengths and nothing else, so that what is hashed is the key that TLS
used. It stands in for a library of certificates, which would cost a node megabytes of memory for this one
field.
"""

from __future__ import annotations

import hashlib
from typing import Final

from wgpy.errors import InvalidMessage

_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_VERSION: Final = 0xA0
"""[0] EXPLICIT, absent in version 1."""


def leaf_hash_untrusted(certificate: bytes) -> bytes:
    """The leaf hash (32 octets) of a DER certificate. Raises InvalidMessage."""
    body, end = _enter(certificate, 0, len(certificate), _SEQUENCE)
    place, end = _enter(certificate, body, end, _SEQUENCE)  # tbsCertificate
    if certificate[place : place + 1] == bytes([_VERSION]):
        place = _skip(certificate, place, end, _VERSION)
    place = _skip(certificate, place, end, _INTEGER)  # serialNumber
    for _ in ("signature", "issuer", "validity", "subject"):
        place = _skip(certificate, place, end, _SEQUENCE)
    return hashlib.sha256(certificate[place : _skip(certificate, place, end, _SEQUENCE)]).digest()


def _skip(data: bytes, place: int, end: int, tag: int) -> int:
    return _enter(data, place, end, tag)[1]


def _enter(data: bytes, place: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `place` starts and ends."""
    if end - place < 2 or data[place] != tag:
        raise InvalidMessage("not the element of a certificate that belongs here")
    length, start = data[place + 1], place + 2
    if length >= 0x80:
        size = length & 0x7F
        field = data[start : min(start + size, end)]
        length, start = int.from_bytes(field, "big"), start + size
        minimal = 1 if length < 0x100 else (length.bit_length() + 7) // 8
        if not 1 <= size <= 3 or len(field) != size or length < 0x80 or size != minimal:
            raise InvalidMessage("a length that is not DER")
    if start + length > end:
        raise InvalidMessage("a certificate cut short")
    return start, start + length
