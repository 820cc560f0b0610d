"""Our handshake with the independent package `noiseprotocol` at the other end, and that package on the
vectors.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from noise.connection import Keypair, NoiseConnection

from tests.protocol.test_vectors import INITIATOR, RESPONDER, TRANSPORT, VECTORS, octets
from wgpy.keys import PresharedKey, PrivateKey
from wgpy.protocol import crypto, tai64n
from wgpy.protocol.messages import Initiation, Response, encode_initiation, encode_response
from wgpy.protocol.noise import Handshake, Identity, open_initiation_untrusted

PROLOGUE = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
STAMP = tai64n.encode(1_700_000_000 * 10**9)


def oracle(psk: bytes, private: bytes, remote_public: bytes | None, ephemeral: bytes | None = None) -> Any:
    """A connection of the package: initiator when it knows the remote static key, else responder."""
    connection = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    connection.set_prologue(PROLOGUE)
    connection.set_psks(psk=psk)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, private)
    if ephemeral is not None:
        connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    if remote_public is None:
        connection.set_as_responder()
    else:
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_public)
        connection.set_as_initiator()
    connection.start_handshake()
    return connection


def noise_part(message: bytes) -> bytes:
    """What Noise knows of an encoded message: all but its type and indices."""
    return message[8:] if message[0] == 1 else message[12:]


@pytest.fixture(params=range(5))
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


@pytest.fixture
def ours(rng: random.Random) -> Identity:
    return Identity.of(PrivateKey(rng.randbytes(32)))


@pytest.fixture
def theirs(rng: random.Random) -> Identity:
    return Identity.of(PrivateKey(rng.randbytes(32)))


@pytest.fixture
def handshake(ours: Identity, theirs: Identity, rng: random.Random) -> Handshake:
    result = Handshake(theirs.public)
    result.precompute_static_static(ours)
    result.preshared_key = PresharedKey(rng.randbytes(32))
    return result


def assert_transport_agrees(session_chaining_key: bytes, is_initiator: bool, connection: Any) -> None:
    keys = crypto.kdf2(session_chaining_key, b"")
    sending, receiving = keys if is_initiator else keys[::-1]
    for counter in range(3):
        sealed = crypto.aead_seal(sending, counter, b"to the oracle", b"")
        assert connection.decrypt(sealed) == b"to the oracle"
        assert crypto.aead_open(receiving, counter, connection.encrypt(b"from it"), b"") == b"from it"


def test_as_initiator_we_agree_with_the_oracle(
    ours: Identity, theirs: Identity, handshake: Handshake, rng: random.Random
) -> None:
    connection = oracle(bytes(handshake.preshared_key), bytes(theirs.private), None)
    initiation = handshake.create_initiation(ours, 1, STAMP, rng, 0.0)
    assert bytes(connection.read_message(noise_part(encode_initiation(initiation)))) == STAMP
    answer = bytes(connection.write_message())
    handshake.consume_response_untrusted(Response(2, 1, answer[:32], answer[32:]), ours)
    assert_transport_agrees(handshake.begin_session().chaining_key, True, connection)


def test_as_responder_we_agree_with_the_oracle(
    ours: Identity, theirs: Identity, handshake: Handshake, rng: random.Random
) -> None:
    connection = oracle(bytes(handshake.preshared_key), bytes(theirs.private), bytes(ours.public))
    written = bytes(connection.write_message(STAMP))
    initiation = Initiation(1, written[:32], written[32:80], written[80:])
    opened = open_initiation_untrusted(initiation, ours, {theirs.public: handshake}.get)
    assert opened.timestamp == STAMP
    handshake.consume_initiation_untrusted(opened, 0.0)
    response = encode_response(handshake.create_response(2, rng))
    connection.read_message(noise_part(response))
    assert_transport_agrees(handshake.begin_session().chaining_key, False, connection)


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
def test_vectors_are_what_the_oracle_writes() -> None:
    psk = octets(VECTORS["preshared_key"])
    initiator = oracle(
        psk,
        octets(INITIATOR["static_private"]),
        octets(RESPONDER["static_public"]),
        octets(INITIATOR["ephemeral_private"]),
    )
    responder = oracle(psk, octets(RESPONDER["static_private"]), None, octets(RESPONDER["ephemeral_private"]))
    initiation = bytes(initiator.write_message(octets(VECTORS["timestamp"]["tai64n"])))
    assert initiation == octets(VECTORS["initiation"]["message"])[8:116]
    responder.read_message(initiation)
    response = bytes(responder.write_message())
    assert response == octets(VECTORS["response"]["message"])[12:60]
    initiator.read_message(response)
    assert initiator.get_handshake_hash().hex() == VECTORS["steps"][-1]["hash"]
    assert initiator.encrypt(b"") == octets(TRANSPORT["keepalive_of_initiator"])[16:]
    padded = octets(TRANSPORT["packet"]).ljust(48, b"\0")
    assert initiator.encrypt(padded) == octets(TRANSPORT["packet_of_initiator"])[16:]
    assert responder.encrypt(padded) == octets(TRANSPORT["packet_of_responder"])[16:]
