"""wgpy against tests/vectors/handshake.json: every octet and every intermediate value of one handshake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors import make_handshake
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import crypto, tai64n
from wgpy.protocol.cookie import CookieChecker, CookieGenerator, MacState, cookie_key, mac1_key
from wgpy.protocol.messages import (
    TransportHeader,
    encode_initiation,
    encode_response,
    encode_transport_header,
    parse_initiation_untrusted,
    parse_response_untrusted,
    parse_transport_header_untrusted,
)
from wgpy.protocol.noise import Handshake, Identity, Session, Transcript, open_initiation_untrusted

VECTORS: Any = json.loads(Path(make_handshake.__file__).with_name("handshake.json").read_text())
INITIATOR, RESPONDER = VECTORS["initiator"], VECTORS["responder"]
TRANSPORT = VECTORS["transport"]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


class Chosen:
    """A random source that gives what it was told to."""

    def __init__(self, *values: str) -> None:
        self._values = [octets(value) for value in values]

    def randbytes(self, n: int, /) -> bytes:
        value = self._values.pop(0)
        assert len(value) == n
        return value

    def random(self) -> float:
        return 0.0


def identity(end: Any) -> Identity:
    return Identity.of(PrivateKey(octets(end["static_private"])))


def handshake(own: Any, other: Any) -> Handshake:
    result = Handshake(PublicKey(octets(other["static_public"])))
    result.precompute_static_static(identity(own))
    result.preshared_key = PresharedKey(octets(VECTORS["preshared_key"]))
    return result


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(chaining key, hash) of every transcript after each change, as it happens."""
    seen: list[tuple[str, str]] = []
    for name in ("mix_ephemeral", "mix_dh", "mix_psk", "seal", "open_untrusted"):
        method = getattr(Transcript, name)

        def record(self: Transcript, data: bytes, method: Any = method) -> Any:
            result = method(self, data)
            seen.append((self.chaining_key.hex(), self.hash.hex()))
            return result

        monkeypatch.setattr(Transcript, name, record)
    return seen


def expected_steps(first: int, last: int) -> list[tuple[str, str]]:
    return [(step["chaining_key"], step["hash"]) for step in VECTORS["steps"][first:last]]


def test_the_file_is_what_its_generator_writes() -> None:
    assert make_handshake.make() == VECTORS


def test_initiators_steps_and_octets_are_the_vectors(steps: list[tuple[str, str]]) -> None:
    to_responder = handshake(INITIATOR, RESPONDER)
    message = encode_initiation(
        to_responder.create_initiation(
            identity(INITIATOR),
            INITIATOR["index"],
            tai64n.encode(VECTORS["timestamp"]["unix_ns"]),
            Chosen(INITIATOR["ephemeral_private"]),
            0.0,
        )
    )
    cookies = CookieGenerator(octets(RESPONDER["static_public"]))
    assert cookies.add_macs(message, 0.0).hex() == VECTORS["initiation"]["message"]
    to_responder.consume_response_untrusted(
        parse_response_untrusted(octets(VECTORS["response"]["message"])), identity(INITIATOR)
    )
    assert steps == expected_steps(1, 11)
    assert to_responder.begin_session() == Session(
        octets(TRANSPORT["chaining_key"]), INITIATOR["index"], RESPONDER["index"], is_initiator=True
    )


def test_responders_steps_and_octets_are_the_vectors(steps: list[tuple[str, str]]) -> None:
    to_initiator = handshake(RESPONDER, INITIATOR)
    opened = open_initiation_untrusted(
        parse_initiation_untrusted(octets(VECTORS["initiation"]["message"])),
        identity(RESPONDER),
        {to_initiator.remote_static: to_initiator}.get,
    )
    assert opened.timestamp.hex() == VECTORS["timestamp"]["tai64n"]
    to_initiator.consume_initiation_untrusted(opened, 0.0)
    response = to_initiator.create_response(RESPONDER["index"], Chosen(RESPONDER["ephemeral_private"]))
    cookies = CookieGenerator(octets(INITIATOR["static_public"]))
    assert cookies.add_macs(encode_response(response), 0.0).hex() == VECTORS["response"]["message"]
    assert steps == expected_steps(1, 11)
    assert to_initiator.begin_session() == Session(
        octets(TRANSPORT["chaining_key"]), RESPONDER["index"], INITIATOR["index"], is_initiator=False
    )


def test_cookie_reply_and_the_mac2_it_gives_are_the_vectors() -> None:
    cookie, public = VECTORS["cookie"], octets(RESPONDER["static_public"])
    assert mac1_key(public).hex() == RESPONDER["mac1_key"]
    assert cookie_key(public).hex() == RESPONDER["cookie_key"]
    checker = CookieChecker(Chosen(cookie["nonce"], cookie["secret"]))
    checker.set_identity(mac1_key(public), cookie_key(public))
    generator = CookieGenerator(public)
    message = generator.add_macs(octets(VECTORS["initiation"]["message"])[:116], 0.0)
    assert checker.create_reply(message, octets(cookie["source"]), 0.0).hex() == cookie["reply"]
    assert generator.consume_reply(octets(cookie["reply"]), 0.0)
    retry = generator.add_macs(message[:116], 0.0)
    assert retry.hex() == cookie["initiation_with_mac2"]
    assert checker.check(retry, octets(cookie["source"]), 0.0) is MacState.VALID_MAC2


def test_transport_keys_and_the_first_packets_are_the_vectors() -> None:
    sending, receiving = crypto.kdf2(octets(TRANSPORT["chaining_key"]), b"")
    assert (sending.hex(), receiving.hex()) == (
        TRANSPORT["initiator_sends_with"],
        TRANSPORT["responder_sends_with"],
    )
    for name, key, index, counter in (
        ("keepalive_of_initiator", sending, RESPONDER["index"], 0),
        ("packet_of_initiator", sending, RESPONDER["index"], 1),
        ("packet_of_responder", receiving, INITIATOR["index"], 0),
    ):
        message = octets(TRANSPORT[name])
        assert parse_transport_header_untrusted(message) == TransportHeader(index, counter)
        assert encode_transport_header(TransportHeader(index, counter)) == message[:16]
        plaintext = crypto.aead_open(key, counter, message[16:], b"")
        packet = b"" if name == "keepalive_of_initiator" else octets(TRANSPORT["packet"])
        assert plaintext == packet + bytes(-len(packet) % 16)
