"""What is signed, by which key, and the Ed25519 keys that do it (docs/wire.md §1).

Every signature is over a *signing input*: a context that names its purpose, then length-prefixed fields, so
that no signature made for one purpose verifies for another."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import nacl.bindings
import nacl.exceptions

from wgpy.keys import KEY_SIZE, PublicKey, Secret
from wgpy.mesh.encoding import encode_b64u

SIGNATURE_SIZE: Final = 64
HASH_SIZE: Final = 32
NO_LEAF: Final = bytes(HASH_SIZE)
"""The leaf hash of a connection outside pinned mode."""

Field = bytes | str | int | Sequence[str]


def signing_input(context: str, *fields: Field) -> bytes:
    """The octets that a signature covers: context, a zero octet, then each field behind its 4-octet length.

    Texts are UTF-8, integers 8 octets big-endian; a list is one field, the signing input of its own with the
    context `list`.
    """
    parts = [context.encode("ascii"), b"\0"]
    for field in fields:
        data = _field_octets(field)
        parts += (len(data).to_bytes(4, "big"), data)
    return b"".join(parts)


def _field_octets(field: Field) -> bytes:
    if isinstance(field, bytes):
        return field
    if isinstance(field, str):
        return field.encode()
    if isinstance(field, int):
        return field.to_bytes(8, "big")
    return signing_input("list", *field)


class VerifyKey:
    """An Ed25519 public key of 32 octets."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        if len(data) != KEY_SIZE:
            raise ValueError(f"an Ed25519 public key has {KEY_SIZE} octets, not {len(data)}")
        self._data = bytes(data)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this key signed the message. Never raises for what a stranger sends."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        try:
            nacl.bindings.crypto_sign_open(signature + message, self._data)
        except nacl.exceptions.BadSignatureError:
            return False
        return True

    def __bytes__(self) -> bytes:
        return self._data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return hmac.compare_digest(self._data, other._data)

    def __hash__(self) -> int:
        return hash(self._data)

    def __str__(self) -> str:
        return encode_b64u(self._data)

    def __repr__(self) -> str:
        text = str(self)
        return f"{type(self).__name__}({text[:4]}…{text[-4:]})"


class MachinePublicKey(VerifyKey):
    """Who a node is to its coordinator, whatever its WireGuard key."""

    __slots__ = ()


class IdentityPublicKey(VerifyKey):
    """Who a coordinator is, whatever its certificate."""

    __slots__ = ()

    @property
    def hash(self) -> bytes:
        """The identity hash: what a token names (32 octets)."""
        return hashlib.sha256(self._data).digest()


class RelayPublicKey(VerifyKey):
    """Who a relay is, wherever it listens."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """What tickets and maps call it: 32 hexadecimal digits of the key's hash."""
        return hashlib.sha256(self._data).hexdigest()[:32]


class _SigningKey(Secret):
    """An Ed25519 private key (the 32-octet seed): does not print, is wiped when dropped."""

    __slots__ = ()

    def sign(self, message: bytes) -> bytes:
        _, private = nacl.bindings.crypto_sign_seed_keypair(bytes(self._data))
        return nacl.bindings.crypto_sign(message, private)[:SIGNATURE_SIZE]

    def _public_octets(self) -> bytes:
        public, _ = nacl.bindings.crypto_sign_seed_keypair(bytes(self._data))
        return public


class MachineKey(_SigningKey):
    """A node's Ed25519 key. Made of 32 random octets."""

    __slots__ = ()

    _what = "machine key"

    def public_key(self) -> MachinePublicKey:
        return MachinePublicKey(self._public_octets())


class IdentityKey(_SigningKey):
    """A coordinator's Ed25519 key. Made of 32 random octets."""

    __slots__ = ()

    _what = "identity key"

    def public_key(self) -> IdentityPublicKey:
        return IdentityPublicKey(self._public_octets())


class RelayKey(_SigningKey):
    """A relay's Ed25519 key. Made of 32 random octets."""

    __slots__ = ()

    _what = "relay key"

    def public_key(self) -> RelayPublicKey:
        return RelayPublicKey(self._public_octets())


class BearerSecret(Secret):
    """The 32 random octets in a token."""

    __slots__ = ()

    _what = "token secret"

    @property
    def hash(self) -> bytes:
        """What the coordinator stores (32 octets)."""
        return hashlib.sha256(self._data).digest()

    @property
    def id(self) -> str:
        """The token's public name: the first 8 octets of the hash, in hexadecimal."""
        return self.hash[:8].hex()


# --- what is signed, purpose by purpose ---------------------------------------------------------------------


def leaves_input(leaves: Sequence[bytes]) -> bytes:
    """Identity key: the leaf hashes that may be seen on a connection (docs/wire.md §2)."""
    return signing_input("wgpy-leaves-v1", *leaves)


def join_input(
    *,
    identity_hash: bytes,
    leaf_hash: bytes,
    challenge: bytes,
    token_id: str,
    wireguard_key: PublicKey,
    name: str,
) -> bytes:
    """Machine key: a wish to join (§4). `leaf_hash` is the one seen, or NO_LEAF."""
    return signing_input(
        "wgpy-join-v1", identity_hash, leaf_hash, challenge, token_id, bytes(wireguard_key), name
    )


def session_input(identity_hash: bytes, leaf_hash: bytes, network: str, node: str, challenge: bytes) -> bytes:
    """Machine key: a wish for a bearer (§5)."""
    return signing_input("wgpy-session-v1", identity_hash, leaf_hash, network, node, challenge)


def removed_input(network: str, node: str) -> bytes:
    """Identity key: this node was removed and shall forget (§7)."""
    return signing_input("wgpy-removed-v1", network, node)


def relay_ticket_input(
    network: str, node: str, machine_key: MachinePublicKey, relay: str, not_after: int
) -> bytes:
    """Identity key: this node may use that relay until then (docs/relay.md §2)."""
    return signing_input("wgpy-relay-ticket-v1", network, node, bytes(machine_key), relay, not_after)


def relay_register_input(
    relay: str, random: bytes, cookie: bytes, ephemeral: PublicKey, ticket: bytes
) -> bytes:
    """Machine key: the wish for a session at that relay (docs/relay.md §3)."""
    return signing_input("wgpy-relay-register-v1", relay, random, cookie, bytes(ephemeral), ticket)


def relay_registered_input(
    random: bytes, session: int, client: PublicKey, ephemeral: PublicKey, observed: bytes
) -> bytes:
    """Relay key: the session was made, for whoever sent from `observed` (docs/relay.md §3)."""
    return signing_input(
        "wgpy-relay-registered-v1", random, session, bytes(client), bytes(ephemeral), observed
    )


def relay_checkin_input(identity_hash: bytes, leaf_hash: bytes, challenge: bytes, relay: str) -> bytes:
    """Relay key: a relay's wish for a bearer (docs/relay.md §6)."""
    return signing_input("wgpy-relay-checkin-v1", identity_hash, leaf_hash, challenge, relay)


def wireguard_proof(shared: bytes, challenge: bytes, machine_key: MachinePublicKey) -> bytes:
    """The MAC that proves a WireGuard private key (§4). `shared` is X25519(it, the server's ephemeral)."""
    message = signing_input("wgpy-proof-v1", challenge, bytes(machine_key))
    return hmac.digest(shared, message, "sha256")
