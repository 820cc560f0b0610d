"""A ticket: the coordinator's word that a node may use a relay, good while the coordinator is away
(docs/relay.md §2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from wgpy.mesh.signing import (
    SIGNATURE_SIZE,
    IdentityKey,
    IdentityPublicKey,
    MachinePublicKey,
    relay_ticket_input,
)

TICKET_AGE: Final = 7 * 86400
"""Seconds for which a ticket is good; a node asks for another at half of that."""
TICKET_VERSION: Final = 1
_LAYOUT: Final = struct.Struct("!B16s16s32s16sQ64s")
TICKET_SIZE: Final = _LAYOUT.size


@dataclass(frozen=True, slots=True)
class Ticket:
    """`network`, `node` and `relay` are ids of 32 hexadecimal digits; `not_after` in seconds of Unix time."""

    network: str
    node: str
    machine_key: MachinePublicKey
    relay: str
    not_after: int
    signature: bytes

    def verify(self, identity: IdentityPublicKey) -> bool:
        """Whether that coordinator signed it."""
        return identity.verify(self.signature, self._signed())

    def _signed(self) -> bytes:
        return relay_ticket_input(self.network, self.node, self.machine_key, self.relay, self.not_after)

    def encode(self) -> bytes:
        return _LAYOUT.pack(
            TICKET_VERSION,
            bytes.fromhex(self.network),
            bytes.fromhex(self.node),
            bytes(self.machine_key),
            bytes.fromhex(self.relay),
            self.not_after,
            self.signature,
        )

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self | None:
        """None: it is no ticket, or one of a later version. Its signature was not looked at."""
        if len(data) != TICKET_SIZE or data[0] != TICKET_VERSION:
            return None
        _, network, node, machine_key, relay, not_after, signature = _LAYOUT.unpack(data)
        return cls(
            network.hex(), node.hex(), MachinePublicKey(machine_key), relay.hex(), not_after, signature
        )


def sign_ticket(
    identity: IdentityKey,
    *,
    network: str,
    node: str,
    machine_key: MachinePublicKey,
    relay: str,
    not_after: int,
) -> Ticket:
    signed = relay_ticket_input(network, node, machine_key, relay, not_after)
    signature = identity.sign(signed)
    assert len(signature) == SIGNATURE_SIZE
    return Ticket(network, node, machine_key, relay, not_after, signature)
