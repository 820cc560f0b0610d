"""mac1, mac2 and cookies: one checker under load, one generator, and the octets between them."""

from __future__ import annotations

import hashlib
import random

import pytest

from wgpy.protocol.cookie import CookieChecker, CookieGenerator, MacState, cookie_key, mac1_key
from wgpy.protocol.messages import Initiation, encode_initiation

PUBLIC = bytes(range(32))
SOURCE = bytes([192, 0, 2, 1]) + (51820).to_bytes(2, "big")
BODY = encode_initiation(Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28))


@pytest.fixture
def checker() -> CookieChecker:
    checker = CookieChecker(random.Random(1))
    checker.set_identity(mac1_key(PUBLIC), cookie_key(PUBLIC))
    return checker


@pytest.fixture
def generator() -> CookieGenerator:
    return CookieGenerator(PUBLIC)


def take_cookie(
    checker: CookieChecker, generator: CookieGenerator, now: float, source: bytes = SOURCE
) -> None:
    reply = checker.create_reply(generator.add_macs(BODY, now), source, now)
    assert generator.consume_reply(reply, now)


def test_mac1_is_keyed_by_the_hash_of_its_label_and_the_receivers_public_key(
    generator: CookieGenerator,
) -> None:
    message = generator.add_macs(BODY, 0.0)
    key = hashlib.blake2s(b"mac1----" + PUBLIC).digest()
    assert message[116:132] == hashlib.blake2s(message[:116], key=key, digest_size=16).digest()
    assert message[132:] == bytes(16)
    assert cookie_key(PUBLIC) == hashlib.blake2s(b"cookie--" + PUBLIC).digest()


def test_message_with_mac1_alone_is_valid_without_a_cookie(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    assert checker.check(generator.add_macs(BODY, 0.0), SOURCE, 0.0) is MacState.VALID_MAC1_NO_COOKIE


@pytest.mark.parametrize("position", [0, 4, 40, 115, 116, 131])
def test_one_bit_changed_makes_mac1_invalid(
    checker: CookieChecker, generator: CookieGenerator, position: int
) -> None:
    message = bytearray(generator.add_macs(BODY, 0.0))
    message[position] ^= 1
    assert checker.check(bytes(message), SOURCE, 0.0) is MacState.INVALID_MAC1


def test_message_to_another_public_key_has_an_invalid_mac1(checker: CookieChecker) -> None:
    message = CookieGenerator(b"\x07" * 32).add_macs(BODY, 0.0)
    assert checker.check(message, SOURCE, 0.0) is MacState.INVALID_MAC1


def test_without_an_identity_no_message_passes(checker: CookieChecker, generator: CookieGenerator) -> None:
    checker.set_identity(None, None)
    assert checker.check(generator.add_macs(BODY, 0.0), SOURCE, 0.0) is MacState.INVALID_MAC1
    with pytest.raises(ValueError, match="identity"):
        checker.create_reply(generator.add_macs(BODY, 0.0), SOURCE, 0.0)


def test_cookie_of_a_reply_makes_the_next_mac2_valid(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    take_cookie(checker, generator, 0.0)
    message = generator.add_macs(BODY, 1.0)
    assert message[132:] != bytes(16)
    assert checker.check(message, SOURCE, 1.0) is MacState.VALID_MAC2


def test_cookie_reply_goes_to_the_sender_index_and_seals_the_mac_of_the_source(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    reply = checker.create_reply(generator.add_macs(BODY, 0.0), SOURCE, 0.0)
    assert len(reply) == 64
    assert reply[:8] == b"\x03\x00\x00\x00" + (0x01020304).to_bytes(4, "little")


def test_cookie_of_one_address_is_not_valid_from_another(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    take_cookie(checker, generator, 0.0)
    elsewhere = bytes([192, 0, 2, 2]) + SOURCE[4:]
    assert checker.check(generator.add_macs(BODY, 0.0), elsewhere, 0.0) is MacState.VALID_MAC1_NO_COOKIE


def test_cookie_covers_the_source_port(checker: CookieChecker, generator: CookieGenerator) -> None:
    take_cookie(checker, generator, 0.0)
    other_port = SOURCE[:4] + (51821).to_bytes(2, "big")
    assert checker.check(generator.add_macs(BODY, 0.0), other_port, 0.0) is MacState.VALID_MAC1_NO_COOKIE


def test_checkers_secret_is_replaced_after_120_seconds(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    take_cookie(checker, generator, 0.0)
    message = generator.add_macs(BODY, 100.0)
    assert checker.check(message, SOURCE, 119.9) is MacState.VALID_MAC2
    assert checker.check(message, SOURCE, 120.0) is MacState.VALID_MAC1_NO_COOKIE


def test_generator_drops_a_cookie_after_115_seconds(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    take_cookie(checker, generator, 0.0)
    assert generator.add_macs(BODY, 114.9)[132:] != bytes(16)
    assert generator.add_macs(BODY, 115.0)[132:] == bytes(16)
    assert generator.add_macs(BODY, 1.0)[132:] == bytes(16)  # and does not take it up again


def test_reply_is_consumed_only_once(checker: CookieChecker, generator: CookieGenerator) -> None:
    reply = checker.create_reply(generator.add_macs(BODY, 0.0), SOURCE, 0.0)
    assert generator.consume_reply(reply, 0.0)
    assert not generator.consume_reply(reply, 0.0)


def test_reply_before_anything_was_sent_is_refused(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    reply = checker.create_reply(CookieGenerator(PUBLIC).add_macs(BODY, 0.0), SOURCE, 0.0)
    assert not generator.consume_reply(reply, 0.0)


def test_reply_to_an_earlier_message_is_refused_and_changes_nothing(
    checker: CookieChecker, generator: CookieGenerator
) -> None:
    stale = checker.create_reply(generator.add_macs(BODY, 0.0), SOURCE, 0.0)
    later = generator.add_macs(BODY[:-1] + b"x", 0.0)
    assert not generator.consume_reply(stale, 0.0)
    assert generator.consume_reply(checker.create_reply(later, SOURCE, 0.0), 0.0)


def test_reply_with_one_bit_changed_is_refused(checker: CookieChecker, generator: CookieGenerator) -> None:
    reply = bytearray(checker.create_reply(generator.add_macs(BODY, 0.0), SOURCE, 0.0))
    reply[40] ^= 1
    assert not generator.consume_reply(bytes(reply), 0.0)
    assert not generator.consume_reply(b"\x03\0\0\0", 0.0)


def test_mac2_is_over_the_message_and_mac1(checker: CookieChecker, generator: CookieGenerator) -> None:
    take_cookie(checker, generator, 0.0)
    message = bytearray(generator.add_macs(BODY, 0.0))
    message[140] ^= 1
    assert checker.check(bytes(message), SOURCE, 0.0) is MacState.VALID_MAC1_NO_COOKIE


def test_repr_shows_no_secret(checker: CookieChecker, generator: CookieGenerator) -> None:
    take_cookie(checker, generator, 0.0)
    assert repr(checker) == "<CookieChecker with identity>"
    assert repr(generator) == "<CookieGenerator with cookie>"
