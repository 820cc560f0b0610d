"""Changing a node's WireGuard key (docs/wire.md §6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from wgpy.mesh.encoding import Fields, JsonObject, encode_b64u
from wgpy.mesh.record import Record
from wgpy.mesh.signing import HASH_SIZE
from wgpy.mesh.wire import MAX_CHALLENGE


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """`PUT /v1/node/key`: the record with the new key, and the proof that the private half is there."""

    record: Record
    challenge: bytes
    wireguard_proof: bytes

    def to_json(self) -> JsonObject:
        return {
            "record": self.record.to_json(),
            "challenge": encode_b64u(self.challenge),
            "wireguard_proof": encode_b64u(self.wireguard_proof),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            record=Record.from_json(fields.raw("record"), "record"),
            challenge=fields.octets("challenge", limit=MAX_CHALLENGE),
            wireguard_proof=fields.octets("wireguard_proof", HASH_SIZE),
        )
