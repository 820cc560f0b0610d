"""Layouts of the four messages (protocol.md table: §1 sizes)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.errors import InvalidMessage
from wgpy.protocol.messages import (
    CookieReply,
    Initiation,
    MessageType,
    Response,
    TransportHeader,
    encode_cookie_reply,
    encode_initiation,
    encode_response,
    encode_transport_header,
    message_type_untrusted,
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
    parse_transport_header_untrusted,
    receiver_index_untrusted,
    sender_index_untrusted,
)

SIZES = {1: 148, 2: 92, 3: 64}
MACS = bytes(range(32))

indices = st.integers(0, 2**32 - 1)


def octets(n: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=n, max_size=n)


@given(indices, octets(32), octets(48), octets(28))
def test_initiation_survives_the_wire(sender: int, ephemeral: bytes, static: bytes, timestamp: bytes) -> None:
    message = Initiation(sender, ephemeral, static, timestamp)
    data = encode_initiation(message) + MACS
    assert len(data) == 148
    assert data[:8] == b"\x01\x00\x00\x00" + sender.to_bytes(4, "little")
    assert (data[8:40], data[40:88], data[88:116]) == (ephemeral, static, timestamp)
    assert parse_initiation_untrusted(data) == message
    assert sender_index_untrusted(data) == sender


@given(indices, indices, octets(32), octets(16))
def test_response_survives_the_wire(sender: int, receiver: int, ephemeral: bytes, nothing: bytes) -> None:
    message = Response(sender, receiver, ephemeral, nothing)
    data = encode_response(message) + MACS
    assert len(data) == 92
    assert data[:12] == b"\x02\x00\x00\x00" + sender.to_bytes(4, "little") + receiver.to_bytes(4, "little")
    assert (data[12:44], data[44:60]) == (ephemeral, nothing)
    assert parse_response_untrusted(data) == message
    assert (sender_index_untrusted(data), receiver_index_untrusted(data)) == (sender, receiver)


@given(indices, octets(24), octets(32))
def test_cookie_reply_survives_the_wire(receiver: int, nonce: bytes, cookie: bytes) -> None:
    message = CookieReply(receiver, nonce, cookie)
    data = encode_cookie_reply(message)
    assert data == b"\x03\x00\x00\x00" + receiver.to_bytes(4, "little") + nonce + cookie
    assert parse_cookie_reply_untrusted(data) == message
    assert receiver_index_untrusted(data) == receiver


@given(indices, st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=64))
def test_transport_header_survives_the_wire(receiver: int, counter: int, sealed: bytes) -> None:
    data = encode_transport_header(TransportHeader(receiver, counter)) + sealed
    assert data[:16] == b"\x04\x00\x00\x00" + receiver.to_bytes(4, "little") + counter.to_bytes(8, "little")
    assert parse_transport_header_untrusted(data) == TransportHeader(receiver, counter)
    assert receiver_index_untrusted(data) == receiver


@pytest.mark.parametrize(("kind", "size"), SIZES.items())
@pytest.mark.parametrize("difference", [-1, 1, 16])
def test_handshake_message_of_another_size_is_refused(kind: int, size: int, difference: int) -> None:
    good = bytes([kind, 0, 0, 0]) + bytes(size - 4)
    assert message_type_untrusted(good) == kind
    with pytest.raises(InvalidMessage):
        message_type_untrusted(
            good + b"x" if difference == 1 else good.ljust(size + difference)[: size + difference]
        )


@pytest.mark.parametrize("octet", [1, 2, 3])
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_message_whose_reserved_octets_are_not_zero_has_no_type(kind: int, octet: int) -> None:
    data = bytearray(SIZES.get(kind, 32))
    data[0] = kind
    assert message_type_untrusted(bytes(data)) == kind
    data[octet] = 1
    with pytest.raises(InvalidMessage):
        message_type_untrusted(bytes(data))


def test_transport_message_shorter_than_a_keepalive_is_refused() -> None:
    keepalive = b"\x04" + bytes(31)
    assert message_type_untrusted(keepalive) is MessageType.TRANSPORT
    with pytest.raises(InvalidMessage):
        message_type_untrusted(keepalive[:-1])


@given(st.binary(max_size=200) | st.sampled_from([1, 2, 3, 4]).map(lambda kind: bytes([kind]) + bytes(147)))
def test_any_bytes_either_parse_or_are_an_invalid_message(data: bytes) -> None:
    for parse in (
        message_type_untrusted,
        parse_initiation_untrusted,
        parse_response_untrusted,
        parse_cookie_reply_untrusted,
        parse_transport_header_untrusted,
        sender_index_untrusted,
        receiver_index_untrusted,
    ):
        try:
            parse(data)
        except InvalidMessage:
            continue
