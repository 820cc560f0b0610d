"""WebSocket frames: the examples of RFC 6455, and what the other side should not send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.mesh.websocket import (
    MAX_MESSAGE,
    FrameReader,
    Opcode,
    WebSocketError,
    accept_key,
    encode_frame,
    is_accepted,
)


def test_the_examples_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert is_accepted("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert not is_accepted("dGhlIHNhbXBsZSBub25jZQ==", "")
    masked, plain = bytes.fromhex("818537fa213d7f9f4d5158"), bytes.fromhex("810548656c6c6f")
    assert FrameReader().feed(masked) == FrameReader().feed(plain) == [(1, b"Hello")]
    assert encode_frame(Opcode.PING, b"Hello", None) == bytes.fromhex("890548656c6c6f")
    pong = encode_frame(Opcode.PONG, b"Hello", bytes.fromhex("37fa213d"))
    assert pong == bytes.fromhex("8a8537fa213d7f9f4d5158")


@given(
    st.lists(st.tuples(st.binary(max_size=MAX_MESSAGE), st.none() | st.binary(min_size=4, max_size=4))),
    st.integers(1, 5000),
)
def test_what_is_written_is_read_back_however_it_is_cut(
    messages: list[tuple[bytes, bytes | None]], size: int
) -> None:
    data = b"".join(encode_frame(Opcode.BINARY, message, mask) for message, mask in messages)
    reader, got = FrameReader(), []
    for start in range(0, len(data), size):
        got += reader.feed(data[start : start + size])
    assert got == [(Opcode.BINARY, message) for message, _ in messages]


@pytest.mark.parametrize("text", ["0205", "c205", "827f0000000000000001", "827e1001", "82fe1001"])
def test_what_is_no_frame_of_ours_is_refused_before_it_is_held(text: str) -> None:
    """Parts of messages, extensions, messages that are too long."""
    with pytest.raises(WebSocketError):
        FrameReader().feed(bytes.fromhex(text))


def test_a_message_that_is_too_long_is_not_written() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_frame(Opcode.BINARY, bytes(MAX_MESSAGE + 1), None)


@given(st.binary(max_size=200))
def test_any_octets_are_frames_or_refused(data: bytes) -> None:
    with contextlib.suppress(WebSocketError):
        FrameReader().feed(data)
