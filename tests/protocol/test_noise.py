"""The handshake between two `Handshake` objects, and every way in which a message may be wrong.

That the octets are Noise's is `test_noise_oracle.py`'s; here is what WireGuard makes of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from wgpy.errors import InvalidMessage
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import tai64n
from wgpy.protocol.messages import Initiation, Response
from wgpy.protocol.noise import (
    Handshake,
    HandshakeState,
    Identity,
    OpenedInitiation,
    open_initiation_untrusted,
)

SECOND_NS = 10**9
LOW_ORDER = PublicKey(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"))


@dataclass
class Ends:
    """An initiator and a responder that know each other."""

    alice: Identity
    bob: Identity
    to_bob: Handshake
    to_alice: Handshake
    rng: random.Random

    def initiate(self, seconds: int = 1, now: float = 0.0) -> Initiation:
        stamp = tai64n.encode(seconds * SECOND_NS)
        return self.to_bob.create_initiation(self.alice, 1000 + seconds, stamp, self.rng, now)

    def open(self, message: Initiation) -> OpenedInitiation:
        return open_initiation_untrusted(message, self.bob, {self.alice.public: self.to_alice}.get)

    def consume(self, message: Initiation, now: float = 0.0) -> None:
        self.to_alice.consume_initiation_untrusted(self.open(message), now)

    def respond(self, message: Initiation, now: float = 0.0) -> Response:
        self.consume(message, now)
        return self.to_alice.create_response(2000, self.rng)


@pytest.fixture
def ends() -> Ends:
    rng = random.Random(7)
    alice, bob = (Identity.of(PrivateKey(rng.randbytes(32))) for _ in range(2))
    to_bob, to_alice = Handshake(bob.public), Handshake(alice.public)
    to_bob.precompute_static_static(alice)
    to_alice.precompute_static_static(bob)
    return Ends(alice, bob, to_bob, to_alice, rng)


def state_of(handshake: Handshake) -> dict[str, object]:
    return dict(vars(handshake))


def flip(data: bytes, position: int = 0) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


# --- the way it goes ---


def test_both_ends_finish_with_the_same_chaining_key_and_each_others_index(ends: Ends) -> None:
    response = ends.respond(ends.initiate())
    assert ends.to_alice.state is HandshakeState.CREATED_RESPONSE
    ends.to_bob.consume_response_untrusted(response, ends.alice)
    assert ends.to_bob.state is HandshakeState.CONSUMED_RESPONSE
    initiator, responder = ends.to_bob.begin_session(), ends.to_alice.begin_session()
    assert initiator.chaining_key == responder.chaining_key
    assert (initiator.local_index, initiator.remote_index, initiator.is_initiator) == (1001, 2000, True)
    assert (responder.local_index, responder.remote_index, responder.is_initiator) == (2000, 1001, False)


def test_states_are_the_kernels_five_past_tense_facts(ends: Ends) -> None:
    assert [state.name for state in HandshakeState] == [
        "ZEROED",
        "CREATED_INITIATION",
        "CONSUMED_INITIATION",
        "CREATED_RESPONSE",
        "CONSUMED_RESPONSE",
    ]
    assert ends.to_bob.state is HandshakeState.ZEROED
    message = ends.initiate()
    assert ends.to_bob.state is HandshakeState.CREATED_INITIATION
    ends.consume(message)
    assert ends.to_alice.state is HandshakeState.CONSUMED_INITIATION


def test_each_handshake_has_fresh_ephemerals_and_another_chaining_key(ends: Ends) -> None:
    keys = set()
    for second in (1, 2):
        response = ends.respond(ends.initiate(second, float(second)), float(second))
        ends.to_bob.consume_response_untrusted(response, ends.alice)
        keys |= {ends.to_bob.begin_session().chaining_key, ends.to_alice.begin_session().chaining_key}
    assert len(keys) == 2


def test_preshared_key_of_both_ends_must_be_the_same(ends: Ends) -> None:
    ends.to_alice.preshared_key = PresharedKey(b"\x01" * 32)
    response = ends.respond(ends.initiate())
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(response, ends.alice)
    ends.to_bob.preshared_key = PresharedKey(b"\x01" * 32)
    ends.to_bob.consume_response_untrusted(response, ends.alice)


def test_preshared_key_changed_between_handshakes_is_used_by_the_next(ends: Ends) -> None:
    ends.respond(ends.initiate(1))
    for handshake in (ends.to_alice, ends.to_bob):
        handshake.preshared_key = PresharedKey(b"\x02" * 32)
    response = ends.respond(ends.initiate(2), 1.0)
    ends.to_bob.consume_response_untrusted(response, ends.alice)


# --- what is forgotten, and what is not ---


def test_secrets_are_gone_when_the_session_begins(ends: Ends) -> None:
    response = ends.respond(ends.initiate())
    ends.to_bob.consume_response_untrusted(response, ends.alice)
    for handshake in (ends.to_bob, ends.to_alice):
        handshake.begin_session()
        assert handshake.state is HandshakeState.ZEROED
        assert (handshake._ephemeral, handshake._transcript) == (None, None)
        assert (handshake.local_index, handshake.remote_index) == (None, None)
        with pytest.raises(ValueError, match="zeroed"):
            handshake.begin_session()


def test_greatest_timestamp_survives_sessions_and_wiping(ends: Ends) -> None:
    message = ends.initiate()
    ends.respond(message)
    ends.to_alice.begin_session()
    ends.to_alice.clear()
    with pytest.raises(InvalidMessage, match="replay"):
        ends.consume(message, 100.0)


def test_no_secret_shows_in_a_repr(ends: Ends) -> None:
    opened = ends.open(ends.initiate())
    secrets = [opened.transcript.chaining_key, opened.transcript.hash, opened.transcript.key]
    shown = " ".join(map(repr, (opened, opened.transcript, ends.to_bob, ends.alice)))
    ends.consume(ends.initiate(2))
    ends.to_alice.create_response(1, ends.rng)
    session = ends.to_alice.begin_session()
    shown += repr(session)
    for secret in [*secrets, session.chaining_key, bytes(ends.alice.private)]:
        assert repr(secret) not in shown
        assert secret.hex() not in shown


# --- replay and flood ---


@pytest.mark.parametrize("seconds", [5, 4])
def test_initiation_whose_timestamp_is_not_strictly_greater_is_refused(ends: Ends, seconds: int) -> None:
    ends.consume(ends.initiate(5), 0.0)
    before = state_of(ends.to_alice)
    with pytest.raises(InvalidMessage, match="replay"):
        ends.consume(ends.initiate(seconds), 10.0)
    assert state_of(ends.to_alice) == before


def test_initiation_within_20_ms_of_the_last_accepted_is_refused(ends: Ends) -> None:
    ends.consume(ends.initiate(1), 5.0)
    with pytest.raises(InvalidMessage, match="fast"):
        ends.consume(ends.initiate(2), 5.0199)
    ends.consume(ends.initiate(3), 5.02)


def test_refused_flood_does_not_push_the_gap_further(ends: Ends) -> None:
    ends.consume(ends.initiate(1), 5.0)
    for n in range(2, 5):
        with pytest.raises(InvalidMessage, match="fast"):
            ends.consume(ends.initiate(n), 5.01)
    ends.consume(ends.initiate(9), 5.021)


# --- what does not authenticate changes nothing ---


@pytest.mark.parametrize("part", ["ephemeral", "static", "timestamp"])
def test_initiation_with_one_bit_changed_is_refused_and_changes_nothing(ends: Ends, part: str) -> None:
    message = ends.initiate()
    before = state_of(ends.to_alice)
    with pytest.raises(InvalidMessage):
        ends.open(replace(message, **{part: flip(getattr(message, part))}))
    assert state_of(ends.to_alice) == before


@pytest.mark.parametrize("part", ["ephemeral", "nothing"])
def test_response_with_one_bit_changed_is_refused_and_changes_nothing(ends: Ends, part: str) -> None:
    response = ends.respond(ends.initiate())
    before = state_of(ends.to_bob)
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(
            replace(response, **{part: flip(getattr(response, part))}), ends.alice
        )
    assert state_of(ends.to_bob) == before
    ends.to_bob.consume_response_untrusted(response, ends.alice)


def test_response_to_another_index_is_refused(ends: Ends) -> None:
    response = ends.respond(ends.initiate())
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(replace(response, receiver_index=7), ends.alice)


def test_response_is_consumed_only_once(ends: Ends) -> None:
    response = ends.respond(ends.initiate())
    ends.to_bob.consume_response_untrusted(response, ends.alice)
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(response, ends.alice)


def test_delayed_response_to_a_superseded_initiation_is_refused(ends: Ends) -> None:
    response = ends.respond(ends.initiate(1))
    ends.initiate(2)
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(response, ends.alice)


def test_response_after_we_became_the_responder_is_refused(ends: Ends) -> None:
    response = ends.respond(ends.initiate(1))
    ends.to_alice.clear()
    crossing = ends.to_alice.create_initiation(ends.bob, 1, tai64n.encode(SECOND_NS), ends.rng, 0.0)
    ends.to_bob.consume_initiation_untrusted(
        open_initiation_untrusted(crossing, ends.alice, {ends.bob.public: ends.to_bob}.get), 0.0
    )
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(response, ends.alice)


def test_response_can_only_be_created_for_an_initiation_consumed(ends: Ends) -> None:
    with pytest.raises(ValueError, match="zeroed"):
        ends.to_alice.create_response(1, ends.rng)
    ends.respond(ends.initiate())
    with pytest.raises(ValueError, match="created_response"):
        ends.to_alice.create_response(1, ends.rng)


def test_initiation_of_an_unknown_static_key_is_refused(ends: Ends) -> None:
    nobody: Callable[[PublicKey], Handshake | None] = lambda _: None  # noqa: E731
    with pytest.raises(InvalidMessage):
        open_initiation_untrusted(ends.initiate(), ends.bob, nobody)


def test_initiation_to_another_responder_is_refused(ends: Ends) -> None:
    carol = Identity.of(PrivateKey(ends.rng.randbytes(32)))
    with pytest.raises(InvalidMessage):
        open_initiation_untrusted(ends.initiate(), carol, {ends.alice.public: ends.to_alice}.get)


def test_initiation_sealed_without_the_static_private_key_is_refused(ends: Ends) -> None:
    # Someone who knows Alice's public key, and so can make all up to `ss`, but not her private key.
    mallory = Identity(PrivateKey(ends.rng.randbytes(32)), ends.alice.public)
    forged = Handshake(ends.bob.public)
    forged.precompute_static_static(mallory)
    message = forged.create_initiation(mallory, 1, tai64n.encode(SECOND_NS), ends.rng, 0.0)
    with pytest.raises(InvalidMessage):
        ends.open(message)


# --- low order ---


def test_peer_with_a_low_order_public_key_never_gets_an_initiation(ends: Ends) -> None:
    handshake = Handshake(LOW_ORDER)
    handshake.precompute_static_static(ends.alice)
    assert not handshake.has_shared_secret
    with pytest.raises(ValueError, match="no secret"):
        handshake.create_initiation(ends.alice, 1, tai64n.encode(0), ends.rng, 0.0)


def test_initiation_with_a_low_order_ephemeral_is_refused(ends: Ends) -> None:
    with pytest.raises(InvalidMessage):
        ends.open(replace(ends.initiate(), ephemeral=bytes(LOW_ORDER)))


def test_response_with_a_low_order_ephemeral_is_refused(ends: Ends) -> None:
    response = ends.respond(ends.initiate())
    before = state_of(ends.to_bob)
    with pytest.raises(InvalidMessage):
        ends.to_bob.consume_response_untrusted(replace(response, ephemeral=bytes(LOW_ORDER)), ends.alice)
    assert state_of(ends.to_bob) == before


def test_without_a_private_key_there_is_no_shared_secret(ends: Ends) -> None:
    message = ends.initiate()
    ends.to_alice.precompute_static_static(None)
    with pytest.raises(InvalidMessage):
        ends.open(message)


def test_static_static_product_is_recomputed_when_the_private_key_changes(ends: Ends) -> None:
    renewed = Identity.of(PrivateKey(ends.rng.randbytes(32)))
    ends.to_bob.precompute_static_static(renewed)
    message = ends.to_bob.create_initiation(renewed, 1, tai64n.encode(SECOND_NS), ends.rng, 0.0)
    known = Handshake(renewed.public)
    known.precompute_static_static(ends.bob)
    assert open_initiation_untrusted(message, ends.bob, {renewed.public: known}.get).handshake is known
