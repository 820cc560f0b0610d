"""Joining without a token: commit, then open, and a code that an admin types (docs/wire.md §4).

Who sits between a host and its coordinator can show either of them keys of its own, but has to commit to them
before it knows the other's nonce: the codes on both sides then agree once in 2³⁰ tries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from wgpy.errors import ConfigError
from wgpy.keys import PublicKey
from wgpy.mesh.encoding import Fields, JsonObject, encode_b64u
from wgpy.mesh.signing import HASH_SIZE, MachinePublicKey, signing_input
from wgpy.mesh.wire import WIRE_VERSION, Applicant

NONCE_SIZE: Final = 32
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no I, L, O, U. Five bits a character, six characters."""
_ALIKE: Final = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})
_BITS: Final = 30


def commitment(machine_key: MachinePublicKey, wireguard_key: PublicKey, nonce: bytes) -> bytes:
    """What a host sends before it shows its keys (32 octets)."""
    opened = signing_input("wgpy-commit-v1", bytes(machine_key), bytes(wireguard_key), nonce)
    return hashlib.sha256(opened).digest()


def join_code(
    opened: OpenRequest, *, identity_hash: bytes, leaf_hash: bytes, coordinator_nonce: bytes
) -> int:
    """30 bits of all that both sides saw; `leaf_hash` is that of the connection on which the join was opened.

    The host's own nonce is in it, which nobody knew when the coordinator's was given: so who gave another one
    could not choose it for the code to come out as wanted.
    """
    seen = signing_input(
        "wgpy-code-v1",
        identity_hash,
        leaf_hash,
        opened.join,
        bytes(opened.machine_key),
        bytes(opened.wireguard_key),
        opened.nonce,
        coordinator_nonce,
    )
    return int.from_bytes(hashlib.sha256(seen).digest()[:4], "big") >> (32 - _BITS)


def encode_code(code: int) -> str:
    """As a person reads it: `K7P-3XW`."""
    text = "".join(_ALPHABET[code >> shift & 31] for shift in range(_BITS - 5, -1, -5))
    return f"{text[:3]}-{text[3:]}"


def parse_code(text: str) -> int:
    """As a person types it, in any case, with or without the hyphen. Raises ConfigError."""
    typed = text.strip().upper().translate(_ALIKE)
    if len(typed) != _BITS // 5 or any(char not in _ALPHABET for char in typed):
        raise ConfigError(
            "a code is six letters and digits, such as K7P-3XW, as the host that joins shows it"
        )
    code = 0
    for char in typed:
        code = code << 5 | _ALPHABET.index(char)
    return code


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """`POST /v1/join/commit`. `network` is a name or an id."""

    network: str
    commitment: bytes
    wire: int = WIRE_VERSION

    def to_json(self) -> JsonObject:
        return {"wire": self.wire, "network": self.network, "commitment": encode_b64u(self.commitment)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(
            network=fields.label("network"),
            commitment=fields.octets("commitment", HASH_SIZE),
            wire=fields.integer("wire", 1, 65535),
        )


@dataclass(frozen=True, slots=True)
class CommitAnswer:
    """The join's id, and the coordinator's nonce for it."""

    join: str
    nonce: bytes

    def to_json(self) -> JsonObject:
        return {"join": self.join, "nonce": encode_b64u(self.nonce)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        return cls(fields.identifier("join"), fields.octets("nonce", NONCE_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest(Applicant):
    """`POST /v1/join/open`: what was committed to. Signed and proven as a join is, with the join's id for the
    token's.
    """

    join: str
    nonce: bytes

    @property
    def commitment(self) -> bytes:
        return commitment(self.machine_key, self.wireguard_key, self.nonce)

    def to_json(self) -> JsonObject:
        return self.applicant_json() | {"join": self.join, "nonce": encode_b64u(self.nonce)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        join, nonce = fields.identifier("join"), fields.octets("nonce", NONCE_SIZE)
        return cls(join=join, nonce=nonce, **cls.read_applicant(fields))


@dataclass(frozen=True, slots=True)
class Waiting:
    """The answer to a join that has to be approved (202): ask again every `poll` seconds. After
    `expires_in` it is forgotten.
    """

    join: str
    expires_in: int
    poll: int

    def to_json(self) -> JsonObject:
        return {"waiting": {"join": self.join, "expires_in": self.expires_in, "poll": self.poll}}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value).fields("waiting")
        return cls(
            fields.identifier("join"),
            fields.integer("expires_in"),
            fields.integer("poll", 1, 3600),
        )
