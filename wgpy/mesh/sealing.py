"""A secret that passes through the coordinator to another node, sealed to that node's machine key.

The machine key is Ed25519's; its Curve25519 form opens what is sealed (libsodium's sealed box: an ephemeral
key, XSalsa20-Poly1305), so that whoever carries it, or keeps it, learns nothing.
"""

from __future__ import annotations

from typing import Final

import nacl.bindings
import nacl.exceptions

from wgpy.mesh.signing import MachineKey, MachinePublicKey

OVERHEAD: Final = 48
"""Octets that a sealed secret is longer than itself."""


def seal(secret: bytes, reader: MachinePublicKey) -> bytes:
    """What `reader` alone can open. Raises ValueError for a key that is no point of the curve."""
    try:
        public = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(bytes(reader))
    except (nacl.exceptions.CryptoError, RuntimeError):
        raise ValueError("not an Ed25519 public key") from None
    return nacl.bindings.crypto_box_seal(secret, public)


def unseal_untrusted(sealed: bytes, machine_key: MachineKey) -> bytes | None:
    """The secret; None when it was sealed to another key, or is damaged."""
    public, private = nacl.bindings.crypto_sign_seed_keypair(bytes(machine_key))
    try:
        return nacl.bindings.crypto_box_seal_open(
            sealed,
            nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(public),
            nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(private),
        )
    except (nacl.exceptions.CryptoError, TypeError, ValueError):
        return None
