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
    session = _engine.Session(bytes(32), True, 7, 8, 1, 1000.0)
    sieve = _engine.Sieve(defence, {5: "a handshake", 7: "a session"}, {7: session})
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
            received, kept, overflows = sieve.receive(
                ours.fileno(), is_ipv6, buffer, depth, 1000.0, drops_garbage, most
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
        theirs.send(struct.pack("<IIQ", 4, 9, 0) + bytes(16))
        theirs.send(struct.pack("<II", 3, 6) + bytes(56))
        theirs.send(struct.pack("<II", 3, 5) + bytes(56))
        assert sift(0) == ((64, 64, 0, raw, False), [("unknown index", 2)])
        theirs.send(struct.pack("<IIQ", 4, 7, 0) + bytes(16))
        assert sift(0) == ((32, 32, 0, raw, False), []), "what may be authentic is for the engine"
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


def test_transport_data_that_was_received_is_dropped_and_what_is_new_comes_out(
    defence: _engine.FirstDefence,
) -> None:
    ends = [_engine.Session(bytes(32), is_initiator, 7, 7, 1, 1000.0) for is_initiator in (True, False)]
    messages = [ends[0].seal(b"", 1420, 1000.0) for _ in range(3)]
    sieve = _engine.Sieve(defence, {7: None}, {7: ends[1]})
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        for number in (0, 2):
            message = messages[number]
            assert message is not None
            assert ends[1].open(message, 1000.0)[0] is _engine.Outcome.KEEPALIVE
        for message in messages:
            assert message is not None
            theirs.sendto(message, ours.getsockname())
        buffer = bytearray(65536)
        received, kept, _ = sieve.receive(ours.fileno(), False, buffer, 0, 1000.0, True, 16)
        assert received is not None
        assert (buffer[: received[0]], kept) == (messages[1], [("replayed", 1)])
        assert sieve.receive(ours.fileno(), False, buffer, 0, 1000.0, True, 16)[:2] == (
            None,
            [("replayed", 1)],
        )
