"""Joining without a token: what is committed to, and the code, computed anew by other means."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import identity_key, machine_key, node_id, seed, wireguard_key
from tests.mesh.messages import CHALLENGE, LEAF
from tests.mesh.test_vectors import pack
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MalformedMessage, decode_json, encode_json
from wgpy.mesh.keyless import (
    CommitAnswer,
    CommitRequest,
    OpenRequest,
    Waiting,
    encode_code,
    join_code,
    parse_code,
)
from wgpy.mesh.wire import MAX_BODY_SIZE

OPENED = OpenRequest(
    join=node_id(5), nonce=seed("nonce"), name="alice", machine_key=machine_key(1).public_key(),
    wireguard_key=wireguard_key(1).public_key(), challenge=CHALLENGE, signature=bytes(64),
    wireguard_proof=bytes(32), capabilities=("approval",),
)  # fmt: skip
MESSAGES = [
    CommitRequest("home", OPENED.commitment),
    CommitAnswer(node_id(5), seed("theirs")),
    OPENED,
    Waiting(node_id(5), 3600, 2),
]


def code(opened: OpenRequest = OPENED, leaf: bytes = LEAF, nonce: bytes = seed("theirs")) -> int:
    identity_hash = identity_key().public_key().hash
    return join_code(opened, identity_hash=identity_hash, leaf_hash=leaf, coordinator_nonce=nonce)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire_and_unknown_fields(message: CommitRequest) -> None:
    value = {**message.to_json(), "later": [1]}
    assert type(message).from_json(decode_json(encode_json(value), MAX_BODY_SIZE)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_that_is_missing_or_of_another_kind_is_refused(message: CommitRequest) -> None:
    for field in message.to_json():
        for bad in (None, 7.5, {}, [[]], "é" * 200):
            with pytest.raises(MalformedMessage, match=field):
                type(message).from_json({**message.to_json(), field: bad})


def test_the_commitment_and_the_code_are_what_the_document_says() -> None:
    machine, wireguard = bytes(machine_key(1).public_key()), bytes(wireguard_key(1).public_key())
    sealed = hashlib.sha256(pack("wgpy-commit-v1", machine, wireguard, seed("nonce"))).digest()
    assert OPENED.commitment == sealed
    seen = pack(
        "wgpy-code-v1", hashlib.sha256(bytes(identity_key().public_key())).digest(), LEAF,
        node_id(5).encode(), machine, wireguard, seed("nonce"), seed("theirs"),
    )  # fmt: skip
    bits = int.from_bytes(hashlib.sha256(seen).digest(), "big") >> 226
    assert code() == bits
    assert encode_code(bits).replace("-", "") == "".join(
        "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[int(f"{bits:030b}"[at : at + 5], 2)] for at in range(0, 30, 5)
    )


def test_whatever_differs_between_the_sides_makes_another_code() -> None:
    other = OpenRequest.from_json(OPENED.to_json() | {"machine_key": str(machine_key(2).public_key())})
    codes = {code(), code(other), code(leaf=bytes(32)), code(nonce=bytes(32))}
    assert len(codes) == 4


@given(st.integers(0, 2**30 - 1), st.booleans())
def test_a_code_is_read_as_people_type_it(number: int, sloppy: bool) -> None:
    text = encode_code(number)
    if sloppy:
        text = " " + text.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert parse_code(text) == number


@given(st.text(max_size=10))
def test_other_text_is_no_code(text: str) -> None:
    try:
        number = parse_code(text)
    except ConfigError:
        return
    assert 0 <= number < 2**30
