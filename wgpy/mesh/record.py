"""The record: what a node says of itself, signed by its machine key, so that no coordinator can change it
(docs/wire.md §6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from wgpy.addresses import Prefix
from wgpy.keys import KEY_SIZE, PublicKey
from wgpy.mesh.encoding import Fields, JsonObject, encode_b64u
from wgpy.mesh.signing import SIGNATURE_SIZE, MachineKey, MachinePublicKey, signing_input

_KNOWN: Final = frozenset(
    ("network", "id", "machine_key", "wireguard_key", "addresses", "ranges", "seq", "signature")
)


@dataclass(frozen=True, slots=True)
class Record:
    """A node's entry. `addresses` are its own in the mesh (/32, /128), `ranges` what it forwards for others.

    `seq` only grows. Made by `sign_record`, or read with `from_json`, which checks the form but not the
    signature: that is `verify`. `extra` is what a newer version put in."""

    network: str
    id: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    addresses: tuple[Prefix, ...]
    ranges: tuple[Prefix, ...]
    seq: int
    signature: bytes
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)

    def signing_input(self) -> bytes:
        return signing_input(
            "wgpy-record-v1",
            self.network,
            self.id,
            bytes(self.machine_key),
            bytes(self.wireguard_key),
            [str(address) for address in self.addresses],
            [str(prefix) for prefix in self.ranges],
            self.seq,
        )

    def verify(self) -> bool:
        """Whether the machine key that it names signed it."""
        return self.machine_key.verify(self.signature, self.signing_input())

    def to_json(self) -> JsonObject:
        return {
            **self.extra,
            "network": self.network,
            "id": self.id,
            "machine_key": str(self.machine_key),
            "wireguard_key": str(self.wireguard_key),
            "addresses": [str(address) for address in self.addresses],
            "ranges": [str(prefix) for prefix in self.ranges],
            "seq": self.seq,
            "signature": encode_b64u(self.signature),
        }

    @classmethod
    def from_json(cls, value: object, where: str = "") -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, where)
        return cls(
            network=fields.identifier("network"),
            id=fields.identifier("id"),
            machine_key=MachinePublicKey(fields.octets("machine_key", KEY_SIZE)),
            wireguard_key=fields.wireguard_key("wireguard_key"),
            addresses=fields.prefixes("addresses", hosts=True),
            ranges=fields.prefixes("ranges"),
            seq=fields.integer("seq", 1),
            signature=fields.octets("signature", SIGNATURE_SIZE),
            extra=fields.extra(_KNOWN),
        )


def sign_record(
    machine_key: MachineKey,
    wireguard_key: PublicKey,
    *,
    network: str,
    node: str,
    addresses: tuple[Prefix, ...],
    seq: int,
    ranges: tuple[Prefix, ...] = (),
) -> Record:
    """A record of our own, signed."""
    record = Record(network, node, machine_key.public_key(), wireguard_key, addresses, ranges, seq, bytes(64))
    return replace(record, signature=machine_key.sign(record.signing_input()))
