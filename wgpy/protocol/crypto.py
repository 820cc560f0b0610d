"""The paper's functions (§5.4): DH, HASH, MAC, HMAC, KDF, AEAD and XAEAD, each one call of a proven library.

A nonce is a counter as everywhere in WireGuard: four zero octets, then 64 bits little-endian. Key
generation takes its randomness from a `RandomSource`, so that tests choose it.
"""

from __future__ import annotations

import hashlib
import hmac as stdlib_hmac
from typing import Final, Protocol

import nacl.bindings
import nacl.exceptions

from wgpy.errors import InvalidMessage
from wgpy.keys import PrivateKey, PublicKey

HASH_SIZE: Final = 32
TAG_SIZE: Final = 16


class RandomSource(Protocol):
    """Where randomness comes from: `random.SystemRandom` in production, `random.Random(seed)` in tests."""

    def randbytes(self, n: int, /) -> bytes: ...

    def random(self) -> float:
        """Uniform in [0, 1)."""


def hash(*parts: bytes) -> bytes:
    """HASH: BLAKE2s-256 of the parts, one after the other."""
    state = hashlib.blake2s(digest_size=HASH_SIZE)
    for part in parts:
        state.update(part)
    return state.digest()


def mac(key: bytes, data: bytes) -> bytes:
    """MAC: keyed BLAKE2s-128, 16 octets."""
    return hashlib.blake2s(data, digest_size=16, key=key).digest()


def hmac(key: bytes, data: bytes) -> bytes:
    """HMAC: HMAC-BLAKE2s, 32 octets."""
    return stdlib_hmac.new(key, data, hashlib.blake2s).digest()


def kdf1(key: bytes, data: bytes) -> bytes:
    """KDF₁: one output of 32 octets."""
    return hmac(hmac(key, data), b"\x01")


def kdf2(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    """KDF₂: two outputs of 32 octets."""
    secret = hmac(key, data)
    first = hmac(secret, b"\x01")
    return first, hmac(secret, first + b"\x02")


def kdf3(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """KDF₃: three outputs of 32 octets."""
    secret = hmac(key, data)
    first = hmac(secret, b"\x01")
    second = hmac(secret, first + b"\x02")
    return first, second, hmac(secret, second + b"\x03")


def equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return stdlib_hmac.compare_digest(left, right)


def _nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def _expect_tag_untrusted(sealed: bytes) -> None:
    # the libraries answer what is shorter than a tag with errors of their own
    if len(sealed) < TAG_SIZE:
        raise InvalidMessage("shorter than a tag")


def aead_seal(key: bytes, counter: int, plaintext: bytes, ad: bytes) -> bytes:
    """AEAD: ChaCha20-Poly1305; 16 octets longer than the plaintext."""
    return nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, ad, _nonce(counter), key)


def aead_open(key: bytes, counter: int, sealed: bytes, ad: bytes) -> bytes:
    """Raises InvalidMessage when it does not authenticate."""
    _expect_tag_untrusted(sealed)
    try:
        return nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, ad, _nonce(counter), key)
    except nacl.exceptions.CryptoError:
        raise InvalidMessage("does not authenticate") from None


def xaead_seal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """XAEAD: XChaCha20-Poly1305 with a random nonce of 24 octets."""
    return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, ad, nonce, key)


def xaead_open(key: bytes, nonce: bytes, sealed: bytes, ad: bytes) -> bytes:
    """Raises InvalidMessage when it does not authenticate."""
    _expect_tag_untrusted(sealed)
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, ad, nonce, key)
    except nacl.exceptions.CryptoError:
        raise InvalidMessage("does not authenticate") from None


def x25519(private: PrivateKey, public: bytes) -> bytes:
    """DH of 32 octets. Raises InvalidMessage when the product is zero: a low-order point contributes
    nothing secret.
    """
    try:
        return private.exchange(PublicKey(public))
    except ValueError:
        raise InvalidMessage("a low-order point") from None


def generate_ephemeral(rng: RandomSource) -> PrivateKey:
    """DH-GENERATE: a fresh private key."""
    return PrivateKey(rng.randbytes(32))
