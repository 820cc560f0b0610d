"""Challenges and bearers: made from the session key alone, so that any process can check what another one
gave. Pure.

The clock is the coordinator's; a node's is never asked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.encoding import decode_b64u, encode_b64u
from wgpy.mesh.keyless import OpenRequest
from wgpy.mesh.relays import RelayCheckin
from wgpy.mesh.rotation import KeyRequest
from wgpy.mesh.signing import (
    MachinePublicKey,
    RelayPublicKey,
    join_input,
    relay_checkin_input,
    session_input,
    wireguard_proof,
)
from wgpy.mesh.wire import Challenge, JoinRequest, SessionRequest

CHALLENGE_AGE: Final = 60.0
BEARER_AGE: Final = 900.0

_CHALLENGE_SIZE: Final = 8 + 16 + 32
_BEARER_SIZE: Final = 16 + 16 + 4 + 8 + 32

_EXPIRED: Final = "the challenge is older than 60 s or not one of ours: ask for another and try again"


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a bearer says, once its MAC has been checked."""

    network_id: str
    node_id: str
    key_epoch: int


class SessionKeys:
    """Everything that is derived from the session key."""

    __slots__ = ("_bearer_key", "_key")

    def __init__(self, session_key: bytes) -> None:
        self._key = session_key
        self._bearer_key = self._mac(b"wgpy-bearer-key-v1")

    def __repr__(self) -> str:
        return "SessionKeys(…)"

    def _mac(self, *parts: bytes) -> bytes:
        return hmac.digest(self._key, b"".join(parts), hashlib.sha256)

    def sealing_key(self, purpose: str) -> bytes:
        """32 octets for what is kept for a while and opened by any process of this coordinator."""
        return self._mac(b"wgpy-sealing-key-v1", purpose.encode())

    def make_challenge(self, rng: RandomSource, now: float) -> Challenge:
        body = int(now * 1000).to_bytes(8, "big") + rng.randbytes(16)
        challenge = body + self._mac(b"wgpy-challenge-v1", body)
        return Challenge(challenge, self._ephemeral(challenge).public_key())

    def check_challenge(self, challenge: bytes, now: float) -> None:
        """Raises Refusal `challenge_expired`."""
        body, mac = challenge[:24], challenge[24:]
        genuine = hmac.compare_digest(mac, self._mac(b"wgpy-challenge-v1", body))
        age = now - int.from_bytes(body[:8], "big") / 1000
        if len(challenge) != _CHALLENGE_SIZE or not genuine or not -1.0 <= age <= CHALLENGE_AGE:
            raise Refusal("challenge_expired", _EXPIRED)

    def _ephemeral(self, challenge: bytes) -> PrivateKey:
        return PrivateKey(self._mac(b"wgpy-ephemeral-v1", challenge))

    def check_join(
        self,
        request: JoinRequest | OpenRequest,
        identity_hash: bytes,
        leaf_hashes: Iterable[bytes],
        now: float,
    ) -> bytes:
        """That its sender has both private keys and spoke to us → the leaf hash it saw. Raises Refusal."""
        self.check_challenge(request.challenge, now)
        asked_by = request.token.id if isinstance(request, JoinRequest) else request.join
        for leaf_hash in leaf_hashes:
            signed = join_input(
                identity_hash=identity_hash,
                leaf_hash=leaf_hash,
                challenge=request.challenge,
                token_id=asked_by,
                wireguard_key=request.wireguard_key,
                name=request.name,
            )
            if request.machine_key.verify(request.signature, signed):
                break
        else:
            raise Refusal("bad_signature", _wrong_signature("join"))
        self._check_proof(
            request.challenge, request.machine_key, request.wireguard_key, request.wireguard_proof
        )
        return leaf_hash

    def _check_proof(
        self, challenge: bytes, machine_key: MachinePublicKey, wireguard_key: PublicKey, given: bytes
    ) -> None:
        try:
            shared = self._ephemeral(challenge).exchange(wireguard_key)
        except ValueError:
            raise Refusal("bad_signature", "this WireGuard key is not one that a host can have") from None
        if not hmac.compare_digest(wireguard_proof(shared, challenge, machine_key), given):
            raise Refusal("bad_signature", "the proof does not show the private half of the WireGuard key")

    def check_key(self, request: KeyRequest, now: float) -> None:
        """That its sender holds the private half of the new key; the record was checked before. Raises
        Refusal.
        """
        self.check_challenge(request.challenge, now)
        record = request.record
        self._check_proof(
            request.challenge, record.machine_key, record.wireguard_key, request.wireguard_proof
        )

    def check_session(
        self,
        request: SessionRequest,
        machine_key: MachinePublicKey,
        identity_hash: bytes,
        leaf_hashes: Iterable[bytes],
    ) -> None:
        """That its sender is this node and spoke to us; the challenge was checked before. Raises Refusal."""
        signed = (
            session_input(identity_hash, leaf_hash, request.network, request.node, request.challenge)
            for leaf_hash in leaf_hashes
        )
        if not any(machine_key.verify(request.signature, message) for message in signed):
            raise Refusal("bad_signature", _wrong_signature("session"))

    def check_relay(
        self,
        request: RelayCheckin,
        key: RelayPublicKey,
        identity_hash: bytes,
        leaf_hashes: Iterable[bytes],
        now: float,
    ) -> None:
        """That its sender is this relay and spoke to us. Raises Refusal."""
        self.check_challenge(request.challenge, now)
        signed = (
            relay_checkin_input(identity_hash, leaf_hash, request.challenge, request.relay)
            for leaf_hash in leaf_hashes
        )
        if not any(key.verify(request.signature, message) for message in signed):
            raise Refusal("bad_signature", _wrong_signature("check-in"))

    def make_bearer(self, bearer: Bearer, now: float) -> str:
        body = bytes.fromhex(bearer.network_id) + bytes.fromhex(bearer.node_id)
        body += bearer.key_epoch.to_bytes(4, "big") + int((now + BEARER_AGE) * 1000).to_bytes(8, "big")
        return encode_b64u(body + hmac.digest(self._bearer_key, body, hashlib.sha256))

    def read_bearer_untrusted(self, text: str, now: float) -> Bearer | None:
        """None for what we did not make or what is over."""
        if len(text) > 2 * _BEARER_SIZE:
            return None
        try:
            data = decode_b64u(text)
        except ValueError:
            return None
        body, mac = data[:-32], data[-32:]
        if len(data) != _BEARER_SIZE:
            return None
        if not hmac.compare_digest(mac, hmac.digest(self._bearer_key, body, hashlib.sha256)):
            return None
        if int.from_bytes(body[36:44], "big") <= now * 1000:
            return None
        return Bearer(body[:16].hex(), body[16:32].hex(), int.from_bytes(body[32:36], "big"))


def _wrong_signature(what: str) -> str:
    return (
        f"the signature under this {what} does not fit: is something between this host and the coordinator "
        "that ends TLS?"
    )
