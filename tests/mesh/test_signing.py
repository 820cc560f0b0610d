from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import identity_key, machine_key, make_node, node_id
from tests.mesh.messages import (
    CHALLENGE,
    EPHEMERAL,
    LEAF,
    make_identity,
    make_join,
    make_removed,
    make_token,
)
from wgpy.keys import PrivateKey
from wgpy.mesh.signing import MachinePublicKey, join_input, signing_input, wireguard_proof

fields = st.lists(
    st.binary(max_size=5)
    | st.text(max_size=5)
    | st.integers(0, 2**64 - 1)
    | st.lists(st.text(max_size=3), max_size=3),
    max_size=4,
)


@given(fields, fields)
def test_lists_of_fields_share_a_signing_input_only_if_their_octets_agree(one: Any, other: Any) -> None:
    def octets(values: Any) -> list[bytes]:
        return [signing_input("x", value)[6:] for value in values]

    assert (signing_input("c", *one) == signing_input("c", *other)) == (octets(one) == octets(other))


def test_the_layout_is_context_zero_and_length_prefixed_fields() -> None:
    assert signing_input("wgpy-x-v1", b"ab", "é", 5, ["a"]) == (
        b"wgpy-x-v1\0" + b"\0\0\0\x02ab" + b"\0\0\0\x02\xc3\xa9" + b"\0\0\0\x08" + bytes(7) + b"\x05"
        b"\0\0\0\x0a" + b"list\0" + b"\0\0\0\x01a"
    )


def test_a_signature_for_one_purpose_verifies_for_no_other() -> None:
    key = machine_key(1)
    signature = key.sign(signing_input("wgpy-join-v1", b"x"))
    assert key.public_key().verify(signature, signing_input("wgpy-join-v1", b"x"))
    assert not key.public_key().verify(signature, signing_input("wgpy-session-v1", b"x"))
    assert not machine_key(2).public_key().verify(signature, signing_input("wgpy-join-v1", b"x"))


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(63), b"\xff" * 64])
@pytest.mark.parametrize("public", [bytes(32), b"\xff" * 32, b"\1" + bytes(31)])
def test_nonsense_never_verifies_and_never_raises(signature: bytes, public: bytes) -> None:
    verified = MachinePublicKey(public).verify(signature, b"message")
    # A low-order key may verify the all-zero signature: nothing rests on a key that a stranger chose.
    assert not verified or signature == bytes(64)


def test_a_join_is_bound_to_all_that_it_is_about() -> None:
    join, token = make_join(), make_token()
    good = {
        "identity_hash": token.identity_hash,
        "leaf_hash": LEAF,
        "challenge": CHALLENGE,
        "token_id": token.id,
        "wireguard_key": join.wireguard_key,
        "name": "alice",
    }
    changes = {
        "identity_hash": bytes(32),
        "leaf_hash": bytes(32),
        "challenge": bytes(56),
        "token_id": "0" * 16,
        "wireguard_key": EPHEMERAL.public_key(),
        "name": "mallory",
    }
    assert join.machine_key.verify(join.signature, join_input(**good))  # type: ignore[arg-type]
    for name, value in changes.items():
        assert not join.machine_key.verify(join.signature, join_input(**{**good, name: value}))  # type: ignore[arg-type]


def test_the_wireguard_proof_is_the_same_from_both_ends_and_needs_one_private_half() -> None:
    join = make_join()
    assert (
        wireguard_proof(EPHEMERAL.exchange(join.wireguard_key), CHALLENGE, join.machine_key)
        == join.wireguard_proof
    )
    stranger = PrivateKey(bytes([7]) * 32)
    assert (
        wireguard_proof(stranger.exchange(join.wireguard_key), CHALLENGE, join.machine_key)
        != join.wireguard_proof
    )


def test_identity_and_removed_frame_verify_with_the_identity_key_alone() -> None:
    identity, removed = make_identity(), make_removed()
    assert identity.verify()
    assert removed.verify(identity.identity)
    other = type(removed)(removed.network, node_id(2), removed.signature)
    assert not other.verify(identity.identity)


def test_a_record_verifies_and_any_change_to_it_does_not() -> None:
    record = make_node(3).record
    assert record.verify()
    other = make_node(4).record
    changed = {"extra", "signature", "machine_key"}
    for field in dataclasses.fields(record):
        if field.name not in changed and getattr(record, field.name) != getattr(other, field.name):
            assert not dataclasses.replace(record, **{field.name: getattr(other, field.name)}).verify()
    assert not dataclasses.replace(record, machine_key=other.machine_key).verify()
    assert not dataclasses.replace(record, seq=2).verify()
    assert not dataclasses.replace(record, ranges=record.addresses).verify()


def test_signing_keys_do_not_print_pickle_or_hash() -> None:
    for key in (machine_key(1), identity_key()):
        assert repr(key) == str(key) == f"{type(key).__name__}(…)"
        with pytest.raises(TypeError):
            pickle.dumps(key)
        with pytest.raises(TypeError):
            hash(key)
