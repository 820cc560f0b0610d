"""Relay messages and tickets: layouts as docs/relay.md says, and nothing that a stranger sends raises."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import identity_key, machine_key, node_id, seed
from tests.vectors import make_relay
from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey
from wgpy.mesh import relay
from wgpy.mesh.relay_ticket import TICKET_SIZE, Ticket, sign_ticket
from wgpy.mesh.signing import IdentityKey

VECTORS: Any = json.loads(make_relay.PATH.read_text())
MESSAGES = {name: bytes.fromhex(text) for name, text in VECTORS["messages"].items()}


def pack(context: str, *fields: bytes) -> bytes:
    return context.encode() + b"\0" + b"".join(struct.pack(">I", len(field)) + field for field in fields)


def octets(name: str) -> bytes:
    return bytes.fromhex(VECTORS["keys"][name])


def test_the_file_is_what_its_generator_writes() -> None:
    assert json.loads(json.dumps(make_relay.build())) == VECTORS


def test_the_ticket_verifies_with_nothing_of_ours() -> None:
    ticket = bytes.fromhex(VECTORS["ticket"])
    assert len(ticket) == TICKET_SIZE == 153
    network, node, relay_id = ticket[1:17], ticket[17:33], ticket[65:81]
    assert (network.hex(), node.hex(), relay_id.hex()) == (
        VECTORS["network"],
        VECTORS["node"],
        VECTORS["relay"],
    )
    signed = pack(
        "wgpy-relay-ticket-v1",
        network.hex().encode(),
        node.hex().encode(),
        ticket[33:65],
        relay_id.hex().encode(),
        ticket[81:89],
    )
    public = ed25519.Ed25519PublicKey.from_public_bytes(octets("identity_public"))
    public.verify(ticket[89:], signed)
    with pytest.raises(InvalidSignature):
        public.verify(ticket[89:], signed + b"\0")


def test_the_session_key_and_its_macs_are_made_as_the_document_says() -> None:
    register, registered = MESSAGES["register"], MESSAGES["registered"]
    random, client, server = register[4:20], register[36:68], registered[28:60]
    private = x25519.X25519PrivateKey.from_private_bytes(octets("client_ephemeral_private"))
    shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(server))
    context = pack("wgpy-relay-session-v1", random, client, server)
    key = hashlib.blake2s(context, key=shared).digest()
    assert key == octets("session_key")
    for name, size in (("keepalive", 36), ("ack", 38)):
        body = MESSAGES[name][:size]
        assert MESSAGES[name][size : size + 16] == hashlib.blake2s(body, key=key, digest_size=16).digest()
    observed = registered[60:78]
    signed = pack("wgpy-relay-registered-v1", random, registered[20:28], client, server, observed)
    ed25519.Ed25519PublicKey.from_public_bytes(octets("relay_public")).verify(registered[78:], signed)
    signed = pack(
        "wgpy-relay-register-v1",
        VECTORS["relay"].encode(),
        random,
        register[20:36],
        client,
        bytes.fromhex(VECTORS["ticket"]),
    )
    ed25519.Ed25519PublicKey.from_public_bytes(octets("machine_public")).verify(register[221:], signed)


def test_no_answer_is_larger_than_what_asked_for_it() -> None:
    sizes = {name: len(data) for name, data in MESSAGES.items()}
    assert sizes["cookie"] < sizes["hello"] == relay.HELLO_SIZE
    assert sizes["refused"] < sizes["registered"] < sizes["register"]
    assert sizes["ack"] < sizes["keepalive"]
    assert sizes["data_header"] == relay.DATA_HEADER_SIZE <= 24
    assert relay.NOTICE_SIZE < relay.MIN_DATA_SIZE


def test_what_is_written_is_read_back() -> None:
    read = {name: relay.parse_relay_untrusted(data) for name, data in MESSAGES.items()}
    hello, cookie, register, ack = read["hello"], read["cookie"], read["register"], read["ack"]
    assert isinstance(hello, relay.Hello)
    assert isinstance(cookie, relay.Cookie)
    assert hello.random == cookie.random
    assert isinstance(register, relay.Register)
    assert relay.encode_register(register) == MESSAGES["register"]
    assert isinstance(read["registered"], relay.Registered)
    assert relay.encode_registered(read["registered"]) == MESSAGES["registered"]
    assert read["refused"] == relay.Refused(hello.random, relay.RefusalReason.EXPIRED)
    assert isinstance(ack, relay.Ack)
    assert (ack.session, ack.counter, ack.is_draining) == (make_relay.SESSION, 5, False)
    assert relay.parse_observed_untrusted(ack.observed) == make_relay.OBSERVED
    assert read["data_header"] is None
    assert read["keepalive"] is None


def test_both_ends_make_the_same_session_key_and_an_ack_of_another_does_not_verify() -> None:
    client, server, random = PrivateKey(seed("c")), PrivateKey(seed("s")), bytes(16)
    ends = client.public_key(), server.public_key()
    one = relay.SessionKey(client, ends[1], random, *ends)
    other = relay.SessionKey(server, ends[0], random, *ends)
    assert bytes(one) == bytes(other)
    assert "…" in repr(one)
    ack = relay.parse_relay_untrusted(MESSAGES["ack"])
    assert isinstance(ack, relay.Ack)
    assert not one.verify(ack)


@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 300), st.integers(1, 255), st.integers(0, 300))
def test_a_damaged_message_never_raises(name: str, at: int, mask: int, length: int) -> None:
    data = bytearray(MESSAGES[name])
    data[at % len(data)] ^= mask
    relay.parse_relay_untrusted(bytes(data))
    relay.parse_relay_untrusted(bytes(data[:length]))


def test_a_ticket_is_read_back_and_one_of_another_coordinator_or_changed_is_not_good() -> None:
    machine = machine_key(1).public_key()
    ticket = sign_ticket(
        identity_key(),
        network=node_id(9),
        node=node_id(1),
        machine_key=machine,
        relay=node_id(7),
        not_after=5,
    )
    data = ticket.encode()
    assert Ticket.parse_untrusted(data) == ticket
    assert ticket.verify(identity_key().public_key())
    assert not ticket.verify(IdentityKey(seed("another")).public_key())
    for at in range(1, len(data)):
        changed = Ticket.parse_untrusted(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert changed is not None
        assert not changed.verify(identity_key().public_key()), at
    assert Ticket.parse_untrusted(data[:-1]) is None
    assert Ticket.parse_untrusted(b"\2" + data[1:]) is None


def test_a_relayed_endpoint_names_relay_and_peer_and_no_other_address_does() -> None:
    endpoint = relay.relayed_endpoint(3, 0x0102030405060708)
    assert str(endpoint) == "[fd57:4750:7900:3:102:304:506:708]:1"
    assert relay.relay_number(endpoint) == 3
    for text in ("192.0.2.1:51820", "[fd57:4750:7901::1]:1", "[2001:db8::1]:51820"):
        assert relay.relay_number(Endpoint.parse(text)) is None
