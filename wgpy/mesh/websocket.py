"""WebSocket frames (RFC 6455 §5), as far as a tunnel of datagrams needs them: whole binary messages. Pure.

An extension or library for it would be the largest thing that a node loads, for this much.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
from typing import Final

MAX_MESSAGE: Final = 4096
"""Octets of a message: a datagram has fewer."""
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL: Final = 0x80
_MASKED: Final = 0x80
MASK_SIZE: Final = 4


class Opcode(enum.IntEnum):
    """Kinds of frames. Messages in several are refused."""

    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class WebSocketError(Exception):
    """The other side sent what is no frame, or none of ours."""


def accept_key(key: str) -> str:
    """What a server answers to `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _MAGIC).digest()).decode()


def is_accepted(key: str, answer: str) -> bool:
    return hmac.compare_digest(accept_key(key).encode(), answer.encode())


def encode_frame(opcode: Opcode, data: bytes, mask: bytes | None) -> bytes:
    """`mask`: four random octets, of clients alone."""
    size, marked = len(data), _MASKED if mask is not None else 0
    if size < 126:
        head = bytes((_FINAL | opcode, marked | size))
    elif size <= MAX_MESSAGE:
        head = bytes((_FINAL | opcode, marked | 126)) + size.to_bytes(2, "big")
    else:
        raise ValueError(f"a message has at most {MAX_MESSAGE} octets, not {size}")
    return head + data if mask is None else head + mask + _xor(data, mask)


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    repeated = (mask * (size // MASK_SIZE + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class FrameReader:
    """Frames out of a stream of octets."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcode and content of the frames that are whole by now. Raises WebSocketError."""
        self._held += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> tuple[int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        size, start = held[1] & 0x7F, 2
        if not held[0] & _FINAL or held[0] & 0x70 or size == 127:
            raise WebSocketError("expected whole messages without extensions")
        if size == 126:
            if len(held) < 4:
                return None
            size, start = int.from_bytes(held[2:4], "big"), 4
        if size > MAX_MESSAGE:
            raise WebSocketError(f"expected at most {MAX_MESSAGE} octets in a message, got {size}")
        mask = None
        if held[1] & _MASKED:
            mask, start = bytes(held[start : start + MASK_SIZE]), start + MASK_SIZE
        if len(held) < start + size:
            return None
        data, opcode = bytes(held[start : start + size]), held[0] & 0x0F
        del held[: start + size]
        return opcode, data if mask is None else _xor(data, mask)
