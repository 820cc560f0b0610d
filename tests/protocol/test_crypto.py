"""The paper's functions against published vectors and against definitions written out here."""

from __future__ import annotations

import hashlib
import random

import pytest

from wgpy.errors import InvalidMessage
from wgpy.keys import PrivateKey
from wgpy.protocol import crypto

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def hmac_as_rfc_2104_has_it(key: bytes, data: bytes) -> bytes:
    block = key.ljust(64, b"\0")
    inner = hashlib.blake2s(bytes(b ^ 0x36 for b in block) + data).digest()
    return hashlib.blake2s(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_hash_is_blake2s_of_rfc_7693() -> None:
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert crypto.hash(b"abc").hex() == expected
    assert crypto.hash(b"a", b"", b"bc").hex() == expected


def test_mac_is_keyed_blake2s_with_an_output_of_sixteen_octets() -> None:
    assert crypto.mac(b"k" * 32, b"data") == hashlib.blake2s(b"data", key=b"k" * 32, digest_size=16).digest()
    # keyed mode prepends the key as a block, with the key's length in the parameters
    assert crypto.mac(b"k" * 32, b"") != crypto.hash(b"k" * 32)[:16]


def test_hmac_and_the_kdfs_are_rfc_2104_and_hkdf_over_blake2s() -> None:
    key, data = bytes(range(32)), b"input"
    secret = hmac_as_rfc_2104_has_it(key, data)
    first = hmac_as_rfc_2104_has_it(secret, b"\x01")
    second = hmac_as_rfc_2104_has_it(secret, first + b"\x02")
    third = hmac_as_rfc_2104_has_it(secret, second + b"\x03")
    assert crypto.hmac(key, data) == secret
    assert crypto.kdf1(key, data) == first
    assert crypto.kdf2(key, data) == (first, second)
    assert crypto.kdf3(key, data) == (first, second, third)


def test_aead_is_rfc_8439_with_four_zero_octets_before_a_little_endian_counter() -> None:
    # RFC 8439 §2.8.2 has a nonce of another shape, so its vector is reached through a library that takes
    # any nonce; what is ours is the nonce.
    from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt  # noqa: PLC0415

    key = bytes(range(0x80, 0xA0))
    nonce = bytes(4) + (0x0102030405060708).to_bytes(8, "little")
    expected = crypto_aead_chacha20poly1305_ietf_encrypt(b"text", b"ad", nonce, key)
    assert crypto.aead_seal(key, 0x0102030405060708, b"text", b"ad") == expected
    assert crypto.aead_open(key, 0x0102030405060708, expected, b"ad") == b"text"


def test_xaead_is_the_drafts_xchacha20poly1305() -> None:
    # draft-irtf-cfrg-xchacha-03 §A.3.1
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    ad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    sealed = crypto.xaead_seal(key, nonce, plaintext, ad)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert crypto.xaead_open(key, nonce, sealed, ad) == plaintext


def test_what_does_not_authenticate_is_an_invalid_message() -> None:
    sealed = crypto.aead_seal(bytes(32), 0, b"text", b"")
    for counter, ad in ((1, b""), (0, b"x")):
        with pytest.raises(InvalidMessage):
            crypto.aead_open(bytes(32), counter, sealed, ad)
    for short in (b"", b"x" * 15):
        with pytest.raises(InvalidMessage):
            crypto.aead_open(bytes(32), 0, short, b"")
        with pytest.raises(InvalidMessage):
            crypto.xaead_open(bytes(32), bytes(24), short, b"")


def test_dh_is_rfc_7748() -> None:
    # §5.2, first vector; the scalar is clamped and the top bit of the point masked on the way
    scalar = PrivateKey(bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"))
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert crypto.x25519(scalar, point).hex() == product


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_a_product_of_zero_is_refused(point: bytes) -> None:
    with pytest.raises(InvalidMessage):
        crypto.x25519(PrivateKey(b"\x42" * 32), point)


def test_an_ephemeral_key_comes_from_the_random_source_and_is_clamped() -> None:
    first = crypto.generate_ephemeral(random.Random(1))
    again = crypto.generate_ephemeral(random.Random(1))
    other = crypto.generate_ephemeral(random.Random(2))
    assert first == again
    assert first != other
    assert bytes(first)[0] & 7 == 0
    assert bytes(first)[31] & 0xC0 == 0x40
