"""STUN (RFC 8489), as much of it as tells a host where it is seen from outside: Binding alone. Pure.

    octets 0-1    0x0001 request, 0x0101 answer
    octets 2-3    octets of attributes
    octets 4-7    0x2112A442
    octets 8-19   transaction id
    then          attributes: type, length, value, padded to four octets

A request of ours is padded (RFC 5780 §7.6), because servers that must not be amplifiers answer with less than
they got. An answer may name the server's other port (OTHER-ADDRESS): a second request there tells how the NAT
between maps. A node that names itself (RECEIPT-FOR) gets a receipt, if the server makes some (`receipt.py`).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh.receipt import RECEIPT_SIZE, TAG_SIZE

TRANSACTION_SIZE: Final = 12
HEADER_SIZE: Final = 20
REQUEST_SIZE: Final = 68
"""Octets of our requests: no answer of our servers has more."""
TAGGED_REQUEST_SIZE: Final = 92
"""The same where a receipt is asked for."""

_MAGIC: Final = 0x2112A442
_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_BINDING_REQUEST: Final = 0x0001
_BINDING_ANSWER: Final = 0x0101
_MAPPED_ADDRESS: Final = 0x0001
_XOR_MAPPED_ADDRESS: Final = 0x0020
_PADDING: Final = 0x0026
_OTHER_ADDRESS: Final = 0x802C
_RECEIPT_FOR: Final = 0xFD57
_RECEIPT: Final = 0xFD58
_FAMILIES: Final = {1: 4, 2: 16}


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """`tag`: who wants a receipt; empty: nobody does."""

    transaction: bytes
    tag: bytes = b""


@dataclass(frozen=True, slots=True)
class BindingAnswer:
    """`mapped`: where the request was seen to come from. `other`: the server's other endpoint, if it has
    one. `receipt`: that it was seen there, empty: it gives none.
    """

    transaction: bytes
    mapped: Endpoint
    other: Endpoint | None = None
    receipt: bytes = b""


def encode_binding_request(transaction: bytes, tag: bytes = b"") -> bytes:
    """`transaction`: 12 random octets, of which the answer has the same. `tag`: 8 octets, of a node that
    wants a receipt.
    """
    body = _ATTRIBUTE.pack(_RECEIPT_FOR, len(tag)) + tag if tag else b""
    size = TAGGED_REQUEST_SIZE if tag else REQUEST_SIZE
    padding = size - HEADER_SIZE - len(body) - _ATTRIBUTE.size
    body += _ATTRIBUTE.pack(_PADDING, padding) + bytes(padding)
    return _HEADER.pack(_BINDING_REQUEST, len(body), _MAGIC, transaction) + body


def parse_binding_request_untrusted(data: bytes) -> BindingRequest | None:
    """None: it is something else."""
    transaction = _transaction(data, _BINDING_REQUEST)
    attributes = None if transaction is None else _attributes(data)
    if transaction is None or attributes is None:
        return None
    tags = (value for kind, value in attributes if kind == _RECEIPT_FOR and len(value) == TAG_SIZE)
    return BindingRequest(transaction, next(tags, b""))


def encode_binding_answer(
    transaction: bytes, mapped: Endpoint, other: Endpoint | None = None, receipt: bytes = b""
) -> bytes:
    mask = _MAGIC.to_bytes(4, "big") + transaction
    body = _encode_address(_XOR_MAPPED_ADDRESS, mapped, mask)
    if other is not None:
        body += _encode_address(_OTHER_ADDRESS, other, bytes(16))
    if receipt:
        body += _ATTRIBUTE.pack(_RECEIPT, len(receipt)) + receipt
    return _HEADER.pack(_BINDING_ANSWER, len(body), _MAGIC, transaction) + body


def parse_binding_answer_untrusted(data: bytes) -> BindingAnswer | None:
    """None: it is something else, or names no address. Servers of RFC 3489 are understood."""
    transaction = _transaction(data, _BINDING_ANSWER)
    attributes = None if transaction is None else _attributes(data)
    if transaction is None or attributes is None:
        return None
    found: dict[int, Endpoint] = {}
    receipts = [value for kind, value in attributes if kind == _RECEIPT and len(value) == RECEIPT_SIZE]
    for kind, value in attributes:
        mask = _MAGIC.to_bytes(4, "big") + transaction if kind == _XOR_MAPPED_ADDRESS else bytes(16)
        endpoint = _parse_address(value, mask)
        if endpoint is not None:
            found.setdefault(kind, endpoint)
    mapped = found.get(_XOR_MAPPED_ADDRESS) or found.get(_MAPPED_ADDRESS)
    if mapped is None:
        return None
    return BindingAnswer(transaction, mapped, found.get(_OTHER_ADDRESS), next(iter(receipts), b""))


def _transaction(data: bytes, wanted: int) -> bytes | None:
    if len(data) < HEADER_SIZE:
        return None
    kind, length, magic, transaction = _HEADER.unpack_from(data)
    fits = kind == wanted and magic == _MAGIC and length == len(data) - HEADER_SIZE and length % 4 == 0
    return transaction if fits else None


def _attributes(data: bytes) -> list[tuple[int, bytes]] | None:
    """All of a message whose header was checked; None when they do not fill it."""
    found = list(_walk(data))
    return None if any(value is None for _, value in found) else [(k, v) for k, v in found if v is not None]


def _walk(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    at = HEADER_SIZE
    while at < len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if at + length > len(data):
            yield kind, None
            return
        yield kind, data[at : at + length]
        at += length + -length % 4


def _encode_address(kind: int, endpoint: Endpoint, mask: bytes) -> bytes:
    packed = endpoint.address.packed
    port = endpoint.port ^ int.from_bytes(mask[:2], "big")
    masked = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
    value = bytes([0, 1 if len(packed) == 4 else 2]) + port.to_bytes(2, "big") + masked
    return _ATTRIBUTE.pack(kind, len(value)) + value


def _parse_address(value: bytes, mask: bytes) -> Endpoint | None:
    if len(value) < 4 or len(value) != 4 + _FAMILIES.get(value[1], -5):
        return None
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    address = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
    return None if port == 0 else Endpoint(ipaddress.ip_address(address), port)
