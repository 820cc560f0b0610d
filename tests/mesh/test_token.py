from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.messages import make_token
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import encode_b64u
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token

hosts = st.sampled_from(["192.0.2.1", "[2001:db8::1]", "mesh.example", "localhost"])
urls = st.builds("https://{}{}".format, hosts, st.sampled_from(["", ":8443", ":1", ":65535"]))
tokens = st.builds(
    Token,
    st.binary(min_size=32, max_size=32),
    st.builds(BearerSecret, st.binary(min_size=32, max_size=32)),
    st.lists(urls, min_size=1, max_size=8).map(tuple),
    st.booleans(),
)


@given(tokens)
def test_a_token_survives_encoding_and_surrounding_space(token: Token) -> None:
    assert Token.decode(f"  {token.encode()}\n") == token


@given(tokens, st.data())
def test_one_changed_character_is_told_apart_from_a_good_token(token: Token, data: st.DataObject) -> None:
    text = token.encode()
    place = data.draw(st.integers(6, len(text) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_=+ é"))
    damaged = text[:place] + other + text[place + 1 :]
    if damaged.strip() != text:
        with pytest.raises(ConfigError, match="damaged"):
            Token.decode(damaged)


def test_a_token_cut_short_is_damaged_and_never_repeated() -> None:
    text = make_token().encode()
    for length in range(6, len(text), 5):
        with pytest.raises(ConfigError, match="damaged") as refusal:
            Token.decode(text[:length])
        assert text[6:20] not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "home", "tskey-abc", "wgpy2_AAAA", "WGPY1_AAAA"])
def test_what_is_no_token_says_what_a_token_starts_with(text: str) -> None:
    with pytest.raises(ConfigError, match="starts with wgpy1_"):
        Token.decode(text)


def test_a_token_of_a_form_from_the_future_is_told() -> None:
    body = bytes(65) + b"\x05https"
    text = "wgpy1_" + encode_b64u(body + hashlib.sha256(body).digest()[:4])
    with pytest.raises(ConfigError, match="too old"):
        Token.decode(text)


def test_a_token_shows_its_id_and_never_its_secret() -> None:
    token = make_token()
    assert len(token.id) == 16
    assert "BearerSecret(…)" in repr(token)
    assert encode_b64u(bytes(token.secret))[:12] not in repr(token)


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "https://",
        "https://a/b",
        "https://u@a",
        "https://a:0",
        "https://a:70000",
        "https://a b",
        "https://é",
    ],
)
def test_a_url_that_is_no_coordinators_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URLs of the form"):
        Token(bytes(32), BearerSecret(bytes(32)), (url,))
