"""Receipts: that a node was seen at an address, by the STUN server that it asked from there. Pure.

    octets 0-3   when, seconds of Unix time
    octets 4-19  keyed BLAKE2s-128 over the node's relay id (8), the address (16, IPv4 as mapped), octets 0-3

A coordinator tells others of no public address without one, or without having seen the node there itself: so
no member can have the others send to somebody else. Its STUN server and it share the key, as a request over
UDP is to cost no signature; for everybody else a receipt is 20 octets without meaning.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Final, Self

from wgpy.addresses import IPAddress
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, encode_b64u
from wgpy.mesh.signing import RelayKey

RECEIPT_SIZE: Final = 20
TAG_SIZE: Final = 8
"""Octets of a node's relay id."""
MAX_RECEIPTS: Final = 8
"""In one check-in."""
RECEIPT_AGE: Final = 1200
"""Seconds for which one is good: two rounds of questions."""
_AHEAD: Final = 60
"""Seconds by which the clocks of a coordinator's processes may differ."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """As a check-in carries it."""

    address: IPAddress
    octets: bytes

    def to_json(self) -> JsonObject:
        return {"address": str(self.address), "receipt": encode_b64u(self.octets)}

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        text = fields.text("address", 64)
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise MalformedMessage(f"{where}.address: expected an IP address, got other text") from None
        return cls(address, fields.octets("receipt", RECEIPT_SIZE))


def tag_of(node_id: str) -> bytes:
    """What a node is called in STUN: its relay id."""
    return bytes.fromhex(node_id[: 2 * TAG_SIZE])


class ReceiptKey:
    """Of one coordinator and the STUN server beside it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ConfigError(f"a key for receipts has 32 octets, not {len(secret)}")
        self.secret: Final = secret

    def __repr__(self) -> str:
        return "ReceiptKey(…)"

    @classmethod
    def of_relay(cls, key: RelayKey) -> Self:
        """The coordinator's own relay answers STUN, and gets nothing from it but its key."""
        return cls(hashlib.blake2s(b"wgpy-receipt-v1", key=bytes(key)).digest())

    def make(self, tag: bytes, address: IPAddress, at: int) -> bytes:
        when = at.to_bytes(4, "big")
        return when + self._mac(tag, address, when)

    def verify(self, receipt: Receipt, tag: bytes, now: float) -> bool:
        """Whether the node was seen there lately."""
        when, mac = receipt.octets[:4], receipt.octets[4:]
        is_ours = hmac.compare_digest(mac, self._mac(tag, receipt.address, when))
        return is_ours and -_AHEAD <= now - int.from_bytes(when, "big") <= RECEIPT_AGE

    def _mac(self, tag: bytes, address: IPAddress, when: bytes) -> bytes:
        packed = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
        return hashlib.blake2s(tag + packed + when, key=self.secret, digest_size=16).digest()
