from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.auth import BEARER_AGE, CHALLENGE_AGE, Bearer, SessionKeys
from coordinator.errors import Refusal

KEYS = SessionKeys(bytes(32))
BEARER = Bearer("0" * 31 + "1", "f" * 32, 7)
NOW = 1_700_000_000.0


def test_a_bearer_says_what_was_put_into_it() -> None:
    text = KEYS.make_bearer(BEARER, NOW)
    assert KEYS.read_bearer_untrusted(text, NOW + BEARER_AGE - 1) == BEARER
    assert KEYS.read_bearer_untrusted(text, NOW + BEARER_AGE) is None


def test_a_bearer_of_another_session_key_is_none() -> None:
    text = SessionKeys(b"x" * 32).make_bearer(BEARER, NOW)
    assert KEYS.read_bearer_untrusted(text, NOW) is None


@given(st.integers(0, 101), st.sampled_from("ABCxyz019-_"))
def test_no_character_of_a_bearer_can_be_changed(place: int, char: str) -> None:
    text = KEYS.make_bearer(BEARER, NOW)
    changed = text[:place] + char + text[place + 1 :]
    assert changed == text or KEYS.read_bearer_untrusted(changed, NOW) is None


@given(st.text(max_size=120))
def test_nonsense_is_no_bearer(text: str) -> None:
    assert KEYS.read_bearer_untrusted(text, NOW) is None


def test_a_challenge_is_good_for_sixty_seconds() -> None:
    challenge = KEYS.make_challenge(random.Random(1), NOW)
    KEYS.check_challenge(challenge.challenge, NOW + CHALLENGE_AGE - 1)
    for later in (NOW + CHALLENGE_AGE + 1, NOW - 10):
        with pytest.raises(Refusal, match="challenge_expired"):
            KEYS.check_challenge(challenge.challenge, later)


@given(st.binary(max_size=80))
def test_octets_that_we_did_not_make_are_no_challenge(data: bytes) -> None:
    with pytest.raises(Refusal, match="challenge_expired"):
        KEYS.check_challenge(data, NOW)


def test_another_process_with_the_same_session_key_knows_the_ephemeral_key() -> None:
    challenge = KEYS.make_challenge(random.Random(1), NOW)
    assert SessionKeys(bytes(32))._ephemeral(challenge.challenge).public_key() == challenge.ephemeral
    assert SessionKeys(b"y" * 32)._ephemeral(challenge.challenge).public_key() != challenge.ephemeral


def test_keys_do_not_show() -> None:
    assert repr(KEYS) == "SessionKeys(…)"
