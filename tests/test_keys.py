"""Keys as values: how they are read, what they never show."""

from __future__ import annotations

import base64
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.errors import ConfigError
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

OCTETS = bytes(range(32))
BASE64 = base64.b64encode(OCTETS).decode()
# RFC 7748 §6.1
BOB_PRIVATE = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"

any_kind = pytest.mark.parametrize("kind", [PublicKey, PrivateKey, PresharedKey])
secret_kind = pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])


@given(st.binary(min_size=32, max_size=32))
def test_public_key_survives_base64_and_hex(data: bytes) -> None:
    key = PublicKey(data)
    assert PublicKey.from_base64(str(key)) == key
    assert PublicKey.from_hex(data.hex()) == key
    assert hash(PublicKey(data)) == hash(key)


@given(st.binary(min_size=32, max_size=32))
def test_preshared_key_survives_base64_and_hex(data: bytes) -> None:
    key = PresharedKey(data)
    assert bytes(key) == data
    assert PresharedKey.from_base64(key.to_base64()) == key
    assert PresharedKey.from_hex(key.to_hex()) == key


def test_public_key_is_that_of_rfc_7748() -> None:
    assert bytes(PrivateKey.from_hex(BOB_PRIVATE).public_key()).hex() == BOB_PUBLIC


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_private_key_is_clamped_when_made(data: bytes) -> None:
    key = bytes(PrivateKey(data))
    assert key[0] & 7 == 0
    assert key[31] & 0xC0 == 0x40
    assert bytes(PrivateKey(key)) == key


def test_private_key_of_zeros_stays_zeros_and_means_none() -> None:
    assert PrivateKey(bytes(32)).is_zero()
    assert bytes(PrivateKey(bytes(32))) == bytes(32)
    assert not PrivateKey(OCTETS).is_zero()
    assert PresharedKey.zero().is_zero()


@any_kind
@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        BASE64[:-1],
        BASE64 + "=",
        BASE64[:-4],
        " " + BASE64,
        BASE64 + "\n",
        "!" + BASE64[1:],
        "é" * 44,
    ],
)
def test_text_that_is_not_a_key_in_base64_is_refused(
    kind: type[PublicKey | PrivateKey | PresharedKey], text: str
) -> None:
    with pytest.raises(ConfigError, match="44 characters of base64"):
        kind.from_base64(text)


@any_kind
@pytest.mark.parametrize(
    "text", ["", OCTETS.hex()[:-1], OCTETS.hex() + "0", "g" * 64, " " * 64, OCTETS.hex()[:-2] + "  "]
)
def test_text_that_is_not_a_key_in_hexadecimal_is_refused(
    kind: type[PublicKey | PrivateKey | PresharedKey], text: str
) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        kind.from_hex(text)


@secret_kind
def test_error_about_a_secret_never_repeats_it(kind: type[PrivateKey | PresharedKey]) -> None:
    for read, text in ((kind.from_base64, BASE64[:-2] + "!="), (kind.from_hex, OCTETS.hex()[:-1] + "x")):
        with pytest.raises(ConfigError) as error:
            read(text)
        assert text[:8] not in str(error.value)


@any_kind
@pytest.mark.parametrize("size", [0, 31, 33])
def test_key_of_another_size_is_a_mistake_of_the_caller(
    kind: type[PublicKey | PrivateKey | PresharedKey], size: int
) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        kind(bytes(size))


@secret_kind
def test_secret_shows_in_no_repr_text_or_format(kind: type[PrivateKey | PresharedKey]) -> None:
    key = kind(OCTETS)
    for shown in (repr(key), str(key), f"{key}", f"{key!s:>60}", repr([key])):
        assert key.to_base64() not in shown
        assert key.to_hex() not in shown


@secret_kind
def test_secret_cannot_be_pickled_or_copied_or_hashed(kind: type[PrivateKey | PresharedKey]) -> None:
    key = kind(OCTETS)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.deepcopy(key)
    with pytest.raises(TypeError):
        hash(key)


def test_secret_is_overwritten_when_it_is_dropped() -> None:
    key = PresharedKey(OCTETS)
    memory = key._data
    del key
    assert bytes(memory) == bytes(32)


def test_a_secret_equals_only_its_own_kind() -> None:
    assert PresharedKey(OCTETS) == PresharedKey(OCTETS)
    assert PresharedKey(OCTETS) != PrivateKey(OCTETS)
    assert PresharedKey(OCTETS) != OCTETS
    assert PublicKey(OCTETS) != OCTETS


def test_public_keys_sort_by_their_octets() -> None:
    assert sorted([PublicKey(b"\x02" * 32), PublicKey(b"\x01" * 32)])[0] == PublicKey(b"\x01" * 32)


def test_short_name_of_a_peer_is_its_first_and_last_four_characters() -> None:
    key = PublicKey(OCTETS)
    assert key.short == f"{BASE64[:4]}…{BASE64[39:43]}"
    assert key.short in repr(key)


def test_exchange_with_a_low_order_point_is_an_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the library's own words
        PrivateKey(OCTETS).exchange(PublicKey(bytes(32)))
