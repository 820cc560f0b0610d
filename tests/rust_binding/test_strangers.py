"""What a flood's receive gives to Python, and what it deals with itself."""

from __future__ import annotations

import socket
import struct

import pytest

from wgpy import _engine
from wgpy.protocol import cookie
from wgpy.protocol.cookie import CookieGenerator

IDENTITY = bytes([5] * 32)
UNDER_LOAD = 4096


@pytest.fixture
def defence() -> _engine.FirstDefence:
    defence = _engine.FirstDefence()
    defence.set_identity(cookie.mac1_key(IDENTITY), cookie.cookie_key(IDENTITY))
    return defence


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_strangers_are_answered_and_what_is_for_the_engine_comes_out(
    family: socket.AddressFamily, defence: _engine.FirstDefence
) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    generator = CookieGenerator(IDENTITY)
    message = generator.add_macs(struct.pack("<II", 1, 7) + bytes(108), 0.0)
    buffer = bytearray(65536)
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as theirs:
        ours.bind((host, 0))
        ours.setblocking(False)
        theirs.bind((host, 0))
        theirs.connect(ours.getsockname())
        theirs.settimeout(5)
        raw = (socket.inet_pton(family, host), theirs.getsockname()[1], 0, None, 0)
        # Without IP_PKTINFO nobody says which of our addresses it came to.

        def sift(depth: int, most: int = 16, *, drops_garbage: bool = False) -> object:
            is_ipv6 = family == socket.AF_INET6
            received, kept, overflows = _engine.sift_strangers(
                ours.fileno(), is_ipv6, buffer, defence, depth, 1000.0, drops_garbage, most
            )
            assert overflows == 0
            return received, kept

        assert sift(0) == (None, [])
        theirs.send(message)
        assert sift(0) == ((148, 148, 0, raw, True), [])
        assert buffer[:148] == message
        for datagram in (message, message, b"hello, you", message):
            theirs.send(datagram)
        assert sift(UNDER_LOAD) == ((10, 10, 0, raw, False), [("under load", 2)])
        assert buffer[:10] == b"hello, you"
        assert sift(UNDER_LOAD) == (None, [("under load", 1)])
        for _ in range(3):
            reply = theirs.recv(100)
        assert generator.consume_reply(reply, 1000.0)
        theirs.send(b"hello, you")
        assert sift(0, drops_garbage=True) == (None, [("not WireGuard", 1)])
        proven = generator.add_macs(struct.pack("<II", 1, 7) + bytes(108), 1000.0)
        theirs.send(proven)
        assert sift(UNDER_LOAD) == ((148, 148, 0, raw, True), []), "with the cookie it passes"
        for _ in range(5):
            theirs.send(message)
        assert sift(UNDER_LOAD, 4) == (None, [("under load", 4)]), "others get their turn"
    with pytest.raises(OSError, match="the socket is closed"):
        sift(0)
