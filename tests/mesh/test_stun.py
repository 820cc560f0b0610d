"""STUN messages: the published test vectors of RFC 5769, our own, and what strangers send."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.vectors import make_relay
from wgpy.addresses import Endpoint
from wgpy.mesh import stun

VECTORS: Any = json.loads(make_relay.PATH.read_text())["stun"]

RFC5769_ANSWER = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RFC5769_ANSWER_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def test_the_answers_of_rfc_5769_are_read() -> None:
    answer = stun.parse_binding_answer_untrusted(RFC5769_ANSWER)
    assert answer is not None
    assert answer.mapped == Endpoint.parse("192.0.2.1:32853")
    answer = stun.parse_binding_answer_untrusted(RFC5769_ANSWER_IPV6)
    assert answer is not None
    assert answer.mapped == Endpoint.parse("[2001:db8:1234:5678:11:2233:4455:6677]:32853")
    assert answer.other is None


def test_what_is_written_is_read_back() -> None:
    transaction = bytes(range(12))
    request = stun.encode_binding_request(transaction)
    assert len(request) == stun.REQUEST_SIZE
    assert stun.parse_binding_request_untrusted(request) == stun.BindingRequest(transaction)
    assert stun.parse_binding_answer_untrusted(request) is None
    for mapped, other in (("192.0.2.1:1", None), ("[2001:db8::1]:65535", "[2001:db8::2]:3479")):
        alternate = None if other is None else Endpoint.parse(other)
        data = stun.encode_binding_answer(transaction, Endpoint.parse(mapped), alternate)
        assert len(data) <= len(request)
        wanted = stun.BindingAnswer(transaction, Endpoint.parse(mapped), alternate)
        assert stun.parse_binding_answer_untrusted(data) == wanted
        assert stun.parse_binding_request_untrusted(data) is None


def test_a_receipt_is_asked_for_by_a_request_that_is_as_long_as_the_answer() -> None:
    transaction, tag = bytes(range(12)), b"8 octets"
    request = stun.encode_binding_request(transaction, tag)
    assert stun.parse_binding_request_untrusted(request) == stun.BindingRequest(transaction, tag)
    there = Endpoint.parse("[2001:db8::1]:65535")
    data = stun.encode_binding_answer(transaction, there, there, bytes(range(20)))
    assert len(data) == len(request) == stun.TAGGED_REQUEST_SIZE
    wanted = stun.BindingAnswer(transaction, there, there, bytes(range(20)))
    assert stun.parse_binding_answer_untrusted(data) == wanted


def test_an_answer_of_a_server_of_rfc_3489_is_understood() -> None:
    data = bytes.fromhex("0101000c2112a442" + "00" * 12 + "000100080001c000c0000201")
    answer = stun.parse_binding_answer_untrusted(data)
    assert answer is not None
    assert answer.mapped == Endpoint.parse("192.0.2.1:49152")


@given(st.sampled_from(sorted(VECTORS)), st.integers(0, 100), st.integers(0, 255), st.integers(0, 100))
def test_a_damaged_message_never_raises(name: str, at: int, octet: int, length: int) -> None:
    data = bytearray.fromhex(VECTORS[name])
    data[at % len(data)] = octet
    for damaged in (bytes(data), bytes(data[:length]), bytes(data) + b"\0" * (length % 7)):
        stun.parse_binding_answer_untrusted(damaged)
        stun.parse_binding_request_untrusted(damaged)
