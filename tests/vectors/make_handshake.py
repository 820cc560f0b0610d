"""Write handshake.json: one WireGuard handshake with nothing left to chance, every step of it.

Run it as `python tests/vectors/make_handshake.py > tests/vectors/handshake.json`. It follows the paper
(§5.4) line by line with libraries alone, and imports nothing of wgpy: it is the second opinion. README.md
says what the fields are.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import sys
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

INITIATOR_STATIC = bytes(range(0x20))
INITIATOR_EPHEMERAL = bytes(range(0x20, 0x40))
RESPONDER_STATIC = bytes(range(0x40, 0x60))
RESPONDER_EPHEMERAL = bytes(range(0x60, 0x80))
PRESHARED_KEY = bytes(range(0x80, 0xA0))
UNIX_SECONDS, NANOSECONDS = 1_700_000_000, 0x12000000
INITIATOR_INDEX, RESPONDER_INDEX = 0x01020304, 0xA1A2A3A4
COOKIE_SECRET = bytes(range(0xA0, 0xC0))
COOKIE_NONCE = bytes(range(0xC0, 0xD8))
COOKIE_SOURCE = bytes([192, 0, 2, 1]) + (51820).to_bytes(2, "big")


def udp_packet(payload: bytes) -> bytes:
    """An IPv4 packet from 10.0.0.1 to 10.0.0.2, UDP port 7 to 7 without a UDP checksum."""
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]),
    )  # fmt: skip
    total = sum(struct.unpack(">10H", header))
    checksum = 0xFFFF - (total % 0xFFFF)
    header = header[:10] + struct.pack(">H", checksum) + header[12:]
    return header + struct.pack(">HHHH", 7, 7, 8 + len(payload), 0) + payload


PACKET = udp_packet(b"wireguard")


def clamp(key: bytes) -> bytes:
    return bytes([key[0] & 248]) + key[1:31] + bytes([key[31] & 127 | 64])


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, peer_public: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    return key.exchange(X25519PublicKey.from_public_bytes(peer_public))


def blake2s(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def kdf(n: int, key: bytes, data: bytes) -> list[bytes]:
    secret = hmac.digest(key, data, "blake2s")
    outputs = [b""]
    for i in range(1, n + 1):
        outputs.append(hmac.digest(secret, outputs[-1] + bytes([i]), "blake2s"))
    return outputs[1:]


def aead(key: bytes, counter: int, plaintext: bytes, ad: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(4) + struct.pack("<Q", counter), plaintext, ad)


class Steps:
    """C and H of the paper, and a note of both after each token."""

    def __init__(self, responder_public: bytes) -> None:
        self.c = blake2s(CONSTRUCTION)
        self.h = blake2s(blake2s(self.c + IDENTIFIER) + responder_public)
        self.notes: list[dict[str, str]] = []
        self.note("begin")

    def note(self, token: str, key: bytes | None = None) -> None:
        entry = {"token": token, "chaining_key": self.c.hex(), "hash": self.h.hex()}
        self.notes.append(entry if key is None else entry | {"key": key.hex()})

    def mix_hash(self, data: bytes) -> None:
        self.h = blake2s(self.h + data)

    def e(self, ephemeral_public: bytes) -> None:
        [self.c] = kdf(1, self.c, ephemeral_public)
        self.mix_hash(ephemeral_public)
        self.note("e")

    def dh(self, token: str, product: bytes) -> bytes:
        self.c, key = kdf(2, self.c, product)
        self.note(token, key)
        return key

    def seal(self, token: str, key: bytes, plaintext: bytes) -> bytes:
        sealed = aead(key, 0, plaintext, self.h)
        self.mix_hash(sealed)
        self.note(token)
        return sealed


def make() -> dict[str, Any]:
    si, ei, sr, er = (
        clamp(key) for key in (INITIATOR_STATIC, INITIATOR_EPHEMERAL, RESPONDER_STATIC, RESPONDER_EPHEMERAL)
    )
    si_public, ei_public, sr_public, er_public = (public(key) for key in (si, ei, sr, er))
    timestamp = struct.pack(">QI", 0x400000000000000A + UNIX_SECONDS, NANOSECONDS)

    steps = Steps(sr_public)
    steps.e(ei_public)
    static = steps.seal("s", steps.dh("es", dh(ei, sr_public)), si_public)
    stamp = steps.seal("{t}", steps.dh("ss", dh(si, sr_public)), timestamp)
    initiation = struct.pack("<II", 1, INITIATOR_INDEX) + ei_public + static + stamp
    mac1_key_responder = blake2s(b"mac1----" + sr_public)
    initiation += mac(mac1_key_responder, initiation)
    cookie = mac(COOKIE_SECRET, COOKIE_SOURCE)
    cookie_key_responder = blake2s(b"cookie--" + sr_public)
    sealed_cookie = crypto_aead_xchacha20poly1305_ietf_encrypt(
        cookie, initiation[-16:], COOKIE_NONCE, cookie_key_responder
    )

    steps.e(er_public)
    steps.dh("ee", dh(er, ei_public))
    steps.dh("se", dh(er, si_public))
    steps.c, tau, key = kdf(3, steps.c, PRESHARED_KEY)
    steps.mix_hash(tau)
    steps.note("psk", key)
    nothing = steps.seal("{}", key, b"")
    response = struct.pack("<III", 2, RESPONDER_INDEX, INITIATOR_INDEX) + er_public + nothing
    mac1_key_initiator = blake2s(b"mac1----" + si_public)
    response += mac(mac1_key_initiator, response) + bytes(16)

    sending, receiving = kdf(2, steps.c, b"")
    padded = PACKET + bytes(-len(PACKET) % 16)

    def transport(key: bytes, index: int, counter: int, plaintext: bytes) -> str:
        return (struct.pack("<IIQ", 4, index, counter) + aead(key, counter, plaintext, b"")).hex()

    return {
        "initiator": {
            "static_private": si.hex(),
            "static_public": si_public.hex(),
            "ephemeral_private": ei.hex(),
            "ephemeral_public": ei_public.hex(),
            "index": INITIATOR_INDEX,
            "mac1_key": mac1_key_initiator.hex(),
        },
        "responder": {
            "static_private": sr.hex(),
            "static_public": sr_public.hex(),
            "ephemeral_private": er.hex(),
            "ephemeral_public": er_public.hex(),
            "index": RESPONDER_INDEX,
            "mac1_key": mac1_key_responder.hex(),
            "cookie_key": cookie_key_responder.hex(),
        },
        "preshared_key": PRESHARED_KEY.hex(),
        "timestamp": {
            "unix_ns": UNIX_SECONDS * 10**9 + NANOSECONDS,
            "tai64n": timestamp.hex(),
        },
        "steps": steps.notes,
        "initiation": {
            "static": static.hex(),
            "timestamp": stamp.hex(),
            "mac1": initiation[116:132].hex(),
            "message": (initiation + bytes(16)).hex(),
        },
        "response": {
            "nothing": nothing.hex(),
            "mac1": response[60:76].hex(),
            "message": response.hex(),
        },
        "cookie": {
            "secret": COOKIE_SECRET.hex(),
            "source": COOKIE_SOURCE.hex(),
            "cookie": cookie.hex(),
            "nonce": COOKIE_NONCE.hex(),
            "reply": (struct.pack("<II", 3, INITIATOR_INDEX) + COOKIE_NONCE + sealed_cookie).hex(),
            "initiation_with_mac2": (initiation + mac(cookie, initiation)).hex(),
        },
        "transport": {
            "chaining_key": steps.c.hex(),
            "initiator_sends_with": sending.hex(),
            "responder_sends_with": receiving.hex(),
            "keepalive_of_initiator": transport(sending, RESPONDER_INDEX, 0, b""),
            "packet": PACKET.hex(),
            "packet_of_initiator": transport(sending, RESPONDER_INDEX, 1, padded),
            "packet_of_responder": transport(receiving, INITIATOR_INDEX, 0, padded),
        },
    }


if __name__ == "__main__":
    json.dump(make(), sys.stdout, indent=2)
    print()
