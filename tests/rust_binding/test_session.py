"""A session's messages against independent implementations: hashlib, `cryptography`, plain arithmetic."""

from __future__ import annotations

import hashlib
import hmac
import random
import struct

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from tests.rust_binding.packets import UDP, Packet
from wgpy import _engine
from wgpy._engine import Outcome, Session

CHAINING_KEY = bytes(range(32))
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
PEER = 9


def pair(created_at: float = 0.0) -> tuple[Session, Session]:
    """The initiator's and the responder's session of one handshake."""
    return Session(CHAINING_KEY, True, 11, 22, 5, created_at), Session(
        CHAINING_KEY, False, 22, 11, PEER, created_at
    )


def transport_keys() -> tuple[bytes, bytes]:
    def hmac_(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.blake2s).digest()

    secret = hmac_(CHAINING_KEY, b"")
    first = hmac_(secret, b"\x01")
    return first, hmac_(secret, first + b"\x02")


def nonce(counter: int) -> bytes:
    return bytes(4) + struct.pack("<Q", counter)


def padded(packet: bytes, mtu: int) -> bytes:
    last = len(packet) % mtu if mtu and len(packet) > mtu else len(packet)
    aligned = (last + 15) // 16 * 16
    return packet + bytes((min(mtu, aligned) if mtu else aligned) - last)


def allow(*prefixes: tuple[int, bytes, int]) -> _engine.AllowedIps:
    allowed_ips = _engine.AllowedIps()
    for peer, address, length in prefixes:
        allowed_ips.insert(peer, address, length)
    return allowed_ips


EVERYTHING = allow((PEER, bytes(4), 0), (PEER, bytes(16), 0))


@given(
    packet=st.binary(max_size=3000),
    mtu=st.sampled_from([0, 1280, 1420]),
    counter=st.integers(0, 2**64 - 2**14),
)
def test_a_message_is_what_cryptography_makes_of_the_derived_key(
    packet: bytes, mtu: int, counter: int
) -> None:
    initiator, responder = pair()
    for session, key, index in zip((initiator, responder), transport_keys(), (22, 11), strict=True):
        session.skip_counters(counter)
        sealed = ChaCha20Poly1305(key).encrypt(nonce(counter), padded(packet, mtu), None)
        assert session.seal(packet, mtu, 1.0) == struct.pack("<IIQ", 4, index, counter) + sealed
        assert session.counter == counter + 1


@given(
    key=st.binary(min_size=32, max_size=32),
    counter=st.integers(0, 2**64 - 1),
    data=st.binary(),
    ad=st.binary(),
)
def test_the_aead_alone_is_that_of_cryptography(key: bytes, counter: int, data: bytes, ad: bytes) -> None:
    sealed = ChaCha20Poly1305(key).encrypt(nonce(counter), data, ad)
    assert _engine.aead_seal(key, counter, data, ad) == sealed
    assert _engine.aead_open(key, counter, bytearray(sealed), ad) == data
    forged = bytearray(sealed)
    forged[counter % len(sealed)] ^= 1
    assert _engine.aead_open(key, counter, forged, ad) is None
    with pytest.raises(InvalidTag):
        ChaCha20Poly1305(key).decrypt(nonce(counter), bytes(forged), ad)


@pytest.mark.parametrize("size", [0, 1, 15])
def test_what_is_shorter_than_a_tag_does_not_open(size: int) -> None:
    assert _engine.aead_open(bytes(32), 0, bytes(size)) is None


def test_a_packet_goes_there_and_back_and_only_once() -> None:
    initiator, responder = pair()
    packet = Packet(b"hello", protocol=UDP).encode()
    message = initiator.seal(packet, 1420, 1.0)
    assert message is not None
    assert responder.open(message, 1.0) == (Outcome.DATA, packet)
    assert responder.open(bytearray(message), 1.0) == (Outcome.REPLAYED, b"")
    assert initiator.open(message, 1.0) == (Outcome.FORGED, b"")
    assert responder.open(message[:31], 1.0) == (Outcome.TOO_SHORT, b"")
    keepalive = responder.seal(b"", 1420, 1.0)
    assert keepalive is not None
    assert len(keepalive) == 32
    assert initiator.open(keepalive, 1.0) == (Outcome.KEEPALIVE, b"")


def test_an_old_session_neither_seals_nor_opens() -> None:
    initiator, responder = pair(created_at=1000.3)
    message = initiator.seal(b"", 1420, 1180.2)
    assert message is not None
    assert initiator.seal(b"", 1420, 1180.3) is None
    assert initiator.seal_packets([b""], 1420, 1180.3) is None
    assert initiator.counter == 1
    assert responder.open(message, 1180.3) == (Outcome.EXPIRED, b"")
    assert responder.open(message, 1180.2)[0] == Outcome.KEEPALIVE


def test_a_wiped_session_neither_seals_nor_opens() -> None:
    initiator, responder = pair()
    message = initiator.seal(b"", 1420, 1.0)
    assert message is not None
    initiator.wipe()
    responder.wipe()
    assert initiator.seal(b"", 1420, 1.0) is None
    assert initiator.seal_packets([b""], 1420, 1.0) is None
    assert responder.open(message, 1.0) == (Outcome.EXPIRED, b"")


def test_counters_end_before_reject_after_messages() -> None:
    initiator, responder = pair()
    initiator.skip_counters(REJECT_AFTER_MESSAGES - 2)
    initiator.skip_counters(5)
    assert initiator.counter == REJECT_AFTER_MESSAGES - 2
    assert initiator.seal_packets([b""] * 3, 1420, 1.0) is None
    runs = initiator.seal_packets([b""] * 2, 1420, 1.0)
    assert runs is not None
    assert [responder.open(runs[0][0][at : at + 32], 1.0)[0] for at in (0, 32)] == [Outcome.KEEPALIVE] * 2
    assert initiator.seal(b"", 1420, 1.0) is None
    sealed = ChaCha20Poly1305(transport_keys()[0]).encrypt(nonce(REJECT_AFTER_MESSAGES), b"", None)
    beyond = struct.pack("<IIQ", 4, 22, REJECT_AFTER_MESSAGES) + sealed
    assert responder.open(beyond, 1.0) == (Outcome.EXPIRED, b"")


@given(st.lists(st.tuples(st.integers(20, 1420), st.integers(0, 3)), max_size=150), st.integers(1, 64))
def test_runs_are_fit_for_one_send_each_and_hold_every_packet_in_order(
    shapes: list[tuple[int, int]], max_segments: int
) -> None:
    initiator, responder = pair()
    packets = [Packet(bytes(size - 20), protocol=UDP, tos=0xB8 | ecn).encode() for size, ecn in shapes]
    runs = initiator.seal_packets(packets, 1420, 1.0, max_segments=max_segments)
    assert runs is not None
    opened = []
    for datagrams, segment_size, tos in runs:
        parts = [datagrams[at : at + segment_size] for at in range(0, len(datagrams), segment_size)]
        assert len(parts) <= max_segments
        assert len(datagrams) <= _engine.MAX_RUN_SIZE
        for part in parts:
            outcome, packet = responder.open(part, 1.0)
            assert outcome == Outcome.DATA
            assert {0: 0, 1: 1, 2: 2, 3: 2}[packet[1] & 3] == tos, "an inner CE goes out as ECT(0)"
            opened.append(packet)
    assert opened == packets


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_superpackets_and_plain_packets_are_sealed_together(version: int, kind: type) -> None:
    initiator, responder = pair()
    packet = Packet(random.Random(3).randbytes(60_000), version=version)
    reads = [
        kind(bytes(10) + Packet(b"one", protocol=UDP).encode()),
        kind(packet.encode_super(1368)),
        kind(b"bad"),
    ]
    runs = initiator.seal_packets(reads, 1420, 1.0, vnet_hdr=True)
    assert runs is not None
    opened = []
    for datagrams, segment_size, _tos in runs:
        found, others, unknown = _engine.open_datagrams(
            bytearray(datagrams + b"rest of the buffer"),
            len(datagrams),
            segment_size,
            {22: responder},
            EVERYTHING,
            1.0,
        )
        assert (others, unknown) == ([], 0)
        opened += [octets for run in found for octets in run.packets]
    assert opened == [Packet(b"one", protocol=UDP).encode(), *(part.encode() for part in packet.split(1368))]


def receive(
    datagrams: list[bytes],
    sessions: dict[int, Session],
    allowed_ips: _engine.AllowedIps = EVERYTHING,
    **switches: bool,
) -> tuple[list[_engine.Opened], list[tuple[int, int]], int]:
    size = max(len(datagram) for datagram in datagrams)
    assert all(len(datagram) == size for datagram in datagrams[:-1])
    octets = b"".join(datagrams)
    return _engine.open_datagrams(octets, len(octets), size, sessions, allowed_ips, 1.0, **switches)


def test_a_receive_is_sorted_into_sessions_strangers_and_other_messages() -> None:
    initiator, responder = pair()
    other_initiator, other = (
        Session(bytes(32), True, 1, 33, 0, 0.0),
        Session(bytes(32), False, 33, 1, PEER, 0.0),
    )
    packet = Packet(bytes(100), protocol=UDP).encode()
    sealed = [initiator.seal(packet, 1420, 1.0) for _ in range(3)]
    foreign = [other_initiator.seal(packet, 1420, 1.0) for _ in range(2)]
    size = len(sealed[0] or b"")
    stun = b"\x00\x01" + bytes(size - 2)
    reserved = b"\x04\x00\x00\x01" + bytes(size - 4)
    datagrams = [
        sealed[0],
        sealed[1],
        foreign[0],
        stun,
        sealed[2],
        b"\x04" + bytes(size - 1),
        foreign[1],
        reserved,
    ]
    whole = [datagram for datagram in datagrams if datagram is not None]
    assert len(whole) == len(datagrams)
    opened, others, unknown = receive(whole, {22: responder, 33: other})
    assert [run.session.local_index for run in opened] == [22, 33, 22, 33]
    assert [run.authenticated for run in opened] == [2, 1, 1, 1]
    assert others == [(3 * size, 4 * size), (7 * size, 8 * size)]
    assert unknown == 1
    assert receive([b"\x04\0\0\0\x16\0\0\0"], {22: responder}) == ([], [], 1)
    assert receive([b"\x04\0\0"], {22: responder}) == ([], [(0, 3)], 0)


def test_each_outcome_is_told_and_counted() -> None:
    initiator, responder = pair()
    allowed_ips = allow((PEER, bytes([10, 0, 0, 0]), 8), (4, bytes([10, 0, 0, 9]), 32))
    good = Packet(bytes(4), protocol=UDP).encode()
    inner = [
        good,
        Packet(bytes(4), protocol=UDP, source="10.0.0.9").encode(),
        Packet(bytes(4), protocol=UDP, version=6).encode()[:32],
        b"\x00control message padded".ljust(32, b"\0"),
    ]
    datagrams = [initiator.seal(packet, 1420, 1.0) or b"" for packet in inner]
    datagrams += [
        datagrams[0],
        datagrams[0][:-1] + bytes([datagrams[0][-1] ^ 1]),
        initiator.seal(b"", 1420, 1.0) or b"",
    ]
    (run,), _, _ = receive(datagrams, {22: responder}, allowed_ips)
    expected = ["DATA", "REFUSED", "MALFORMED", "CONTROL", "REPLAYED", "FORGED", "KEEPALIVE"]
    assert run.outcomes == [getattr(Outcome, name) for name in expected]
    assert all(run.count(getattr(Outcome, name)) == 1 for name in expected)
    assert run.count(Outcome.EXPIRED) == 0
    assert (run.authenticated, run.data) == (5, 4)
    assert run.rx_bytes == 64 + 64 + 32
    assert run.dropped == 4
    assert run.packets == [good]
    assert run.controls == [inner[3]]


def test_a_wiped_session_gets_what_is_expired() -> None:
    initiator, responder = pair()
    message = initiator.seal(b"", 1420, 1.0) or b""
    responder.wipe()
    (run,), _, _ = receive([message], {22: responder})
    assert run.outcomes == [Outcome.EXPIRED]


def test_packets_for_the_tun_are_joined_behind_virtio_headers() -> None:
    initiator, responder = pair()
    parts = Packet(bytes(60_000)).split(1368)
    (first, _, _), *_ = initiator.seal_packets([part.encode() for part in parts], 1420, 1.0) or []
    found, _, _ = _engine.open_datagrams(
        first, len(first), 1452, {22: responder}, EVERYTHING, 1.0, vnet_hdr=True
    )
    (joined,) = found[0].packets
    assert _engine.split_superpacket(joined) == [part.encode() for part in parts]


def test_congestion_outside_reaches_the_packet_inside() -> None:
    initiator, responder = pair()
    for version in (4, 6):
        for ecn, expected in ((0, 0), (1, 3), (2, 3), (3, 3)):
            packet = Packet(bytes(4), protocol=UDP, version=version, tos=0xB8 | ecn)
            message = initiator.seal(packet.encode(), 1420, 1.0) or b""
            found, _, _ = _engine.open_datagrams(
                message, len(message), len(message), {22: responder}, EVERYTHING, 1.0, tos=3
            )
            marked = Packet(bytes(4), protocol=UDP, version=version, tos=0xB8 | expected)
            assert found[0].packets == [marked.encode()]


@given(st.binary(max_size=400), st.integers(1, 200))
def test_random_datagrams_never_raise(octets: bytes, segment_size: int) -> None:
    _, responder = pair()
    for data in (octets, b"\x04\0\0\0\x16\0\0\0" + octets):
        opened, others, unknown = _engine.open_datagrams(
            data, len(data), segment_size, {22: responder}, EVERYTHING, 1.0, vnet_hdr=True
        )
        told = sum(len(run.outcomes) for run in opened)
        assert told + len(others) + unknown == -(-len(data) // segment_size)
        assert not any(run.authenticated for run in opened)


@given(st.binary(max_size=200))
def test_random_packets_inside_never_raise(packet: bytes) -> None:
    initiator, responder = pair()
    for inner in (packet, b"\x45" + packet, b"\x60" + packet):
        message = initiator.seal(inner, 1420, 1.0) or b""
        found, _, _ = _engine.open_datagrams(
            message, len(message), len(message), {22: responder}, EVERYTHING, 1.0, vnet_hdr=True, tos=3
        )
        assert found[0].authenticated == 1
        initiator.seal_packets([inner], 1420, 1.0, vnet_hdr=True)


def test_a_callers_mistake_raises() -> None:
    with pytest.raises(ValueError, match="chaining key has 32 octets, not 31"):
        Session(bytes(31), True, 1, 2, 3, 0.0)
    with pytest.raises(OverflowError):
        Session(bytes(32), True, 2**32, 2, 3, 0.0)
    with pytest.raises(ValueError, match="40 octets were received into a buffer of 39"):
        _engine.open_datagrams(bytes(39), 40, 40, {}, EVERYTHING, 1.0)
    with pytest.raises(ValueError, match="segment"):
        _engine.open_datagrams(bytes(40), 40, 0, {}, EVERYTHING, 1.0)
    with pytest.raises(ValueError, match="key has 32 octets, not 5"):
        _engine.aead_seal(b"short", 0, b"")
    session, _ = pair()
    with pytest.raises(TypeError):
        session.seal("text", 1420, 1.0)  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError)):
        session.seal(memoryview(bytes(40))[::2], 1420, 1.0)
    message = b"\x04\0\0\0\x16\0\0\0" + bytes(24)
    with pytest.raises(TypeError):
        _engine.open_datagrams(message, 32, 32, {22: "no session"}, EVERYTHING, 1.0)  # type: ignore[dict-item]


def test_a_session_does_not_show_its_keys() -> None:
    session, _ = pair()
    text = repr(session)
    assert text == "<Session 0x0000000b to 0x00000016>"
    assert not any(key.hex() in text for key in (CHAINING_KEY, *transport_keys()))
