"""Superpackets are split and joined as the slow splitter in `packets` does it, checksums included."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rust_binding.packets import ACK, CWR, FIN, PSH, SYN, TCP, UDP, VIRTIO, Packet, checksum
from wgpy import _engine

VERSIONS_AND_PROTOCOLS = [(4, TCP), (6, TCP), (4, UDP), (6, UDP)]


def packets(payload_size: st.SearchStrategy[int]) -> st.SearchStrategy[Packet]:
    return st.builds(
        Packet,
        payload=payload_size.flatmap(lambda size: st.binary(min_size=size, max_size=size)),
        protocol=st.sampled_from([TCP, UDP]),
        version=st.sampled_from([4, 6]),
        sequence=st.integers(2**32 - 3000, 2**32 - 1),
        identification=st.integers(0, 0xFFFF),
        flags=st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | CWR, ACK | CWR | PSH]),
        tos=st.integers(0, 255),
        dont_fragment=st.booleans(),
        extension=st.just(b""),
    )


@given(packet=packets(st.integers(1, 4000)), gso_size=st.integers(4, 1500))
def test_a_superpacket_is_split_as_the_slow_splitter_splits_it(packet: Packet, gso_size: int) -> None:
    octets = packet.encode_super(gso_size)
    expected = [part.encode() for part in packet.split(gso_size)]
    assert _engine.split_superpacket(octets) == expected
    assert _engine.segment_count(octets, vnet_hdr=True) == len(expected)


@pytest.mark.parametrize(("version", "protocol"), VERSIONS_AND_PROTOCOLS)
def test_a_full_superpacket_is_split(version: int, protocol: int) -> None:
    payload = random.Random(1).randbytes(65_000)
    packet = Packet(payload, version=version, protocol=protocol, sequence=2**32 - 5, identification=0xFFF0)
    parts = _engine.split_superpacket(packet.encode_super(1368))
    assert parts == [part.encode() for part in packet.split(1368)]
    assert len(parts) == 48


@given(packet=packets(st.integers(0, 100)))
def test_a_checksum_that_was_left_to_us_is_completed(packet: Packet) -> None:
    assert _engine.split_superpacket(packet.encode_super(0)) == [packet.encode()]


def test_a_superpacket_behind_an_extension_header_is_split() -> None:
    packet = Packet(bytes(500), version=6, extension=bytes(8))
    assert _engine.split_superpacket(packet.encode_super(200)) == [
        part.encode() for part in packet.split(200)
    ]


def test_a_udp_checksum_of_zero_is_sent_as_its_other_form() -> None:
    base = Packet(b"\0\0", protocol=UDP)
    sum_ = checksum(base.pseudo_header + base.transport(0))
    packet = Packet(sum_.to_bytes(2, "big"), protocol=UDP)
    assert checksum(packet.pseudo_header + packet.transport(0)) == 0
    assert _engine.split_superpacket(packet.encode_super(0))[0][26:28] == b"\xff\xff"


@given(st.binary(max_size=200), st.data())
def test_random_octets_are_split_or_refused_but_never_raise(octets: bytes, data: st.DataObject) -> None:
    good = bytearray(Packet(bytes(300)).encode_super(100))
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    for candidate in (octets, bytes(good), bytes(good[: data.draw(st.integers(0, len(good)))])):
        parts = _engine.split_superpacket(candidate)
        assert len(parts) == _engine.segment_count(candidate, vnet_hdr=True)


def join(packets_: list[Packet], **switches: bool) -> list[bytes]:
    return _engine.coalesce([packet.encode() for packet in packets_], **switches)


@pytest.mark.parametrize(("version", "protocol"), VERSIONS_AND_PROTOCOLS)
def test_what_was_split_is_joined_again_and_splits_the_same(version: int, protocol: int) -> None:
    flags = ACK | PSH if protocol == TCP else ACK
    packet = Packet(
        random.Random(2).randbytes(30_000), version=version, protocol=protocol, flags=flags, tos=2
    )
    parts = packet.split(1368)
    (joined,) = join(parts)
    assert joined == packet.encode_super(1368), "the very superpacket that a TUN would have given"
    assert _engine.split_superpacket(joined) == [part.encode() for part in parts]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([1, 50, 100, 100, 100, 100]),
            st.sampled_from([ACK, ACK, ACK, ACK, ACK | PSH, ACK | SYN, ACK | FIN]),
            st.sampled_from([0, 0, 0, 0, 1]),
        ),
        max_size=60,
    )
)
def test_joining_loses_nothing_and_keeps_the_order_of_each_flow(
    steps: list[tuple[int, int, int, int]],
) -> None:
    sequences = [0] * 4
    sent: list[tuple[int, bytes]] = []
    for flow, size, flags, gap in steps:
        version, protocol = VERSIONS_AND_PROTOCOLS[flow]
        sequences[flow] += gap * 1000
        packet = Packet(
            bytes([flow]) * size,
            protocol=protocol,
            version=version,
            flags=flags,
            sequence=sequences[flow],
            identification=len(sent),
        )
        sequences[flow] += size
        sent.append((flow, packet.encode()))
    joined = _engine.coalesce([octets for _, octets in sent])
    got = [part for octets in joined for part in _engine.split_superpacket(octets)]

    def identity(packet: bytes) -> bytes:
        # With DF, identification means nothing and is not kept; nor is then the header's checksum.
        return packet[:4] + packet[6:10] + packet[12:] if packet[0] >> 4 == 4 else packet

    for flow in range(4):
        payload = bytes([flow])
        own = [identity(octets) for number, octets in sent if number == flow]
        assert [identity(octets) for octets in got if octets[-1:] == payload] == own


def test_acknowledgements_and_single_packets_pass_behind_an_empty_header() -> None:
    plain = [Packet(b"", flags=ACK), Packet(b"x", protocol=UDP), Packet(b"", flags=SYN, version=6)]
    joined = join(plain)
    assert [octets[: VIRTIO.size] for octets in joined] == [bytes(VIRTIO.size)] * 3
    assert [octets[VIRTIO.size :] for octets in joined] == [packet.encode() for packet in plain]


def test_each_protocol_can_be_left_alone() -> None:
    both = Packet(bytes(300)).split(100) + Packet(bytes(300), protocol=UDP).split(100)
    assert len(join(both)) == 2
    assert len(join(both, coalesce_tcp=False)) == 4
    assert len(join(both, coalesce_udp=False)) == 4
    assert len(join(both, coalesce_tcp=False, coalesce_udp=False)) == 6


def test_a_segment_with_a_wrong_checksum_is_not_made_right() -> None:
    parts = [part.encode() for part in Packet(bytes(300)).split(100)]
    parts[1] = parts[1][:-1] + b"\x01"
    joined = _engine.coalesce(parts)
    assert [octets[VIRTIO.size :] for octets in joined] == parts


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_random_packets_pass_unjoined(octets: list[bytes]) -> None:
    assert [packet[VIRTIO.size :] for packet in _engine.coalesce(octets)] == octets


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_the_internet_checksum_is_that_of_the_slow_sum(data: bytes, initial: int) -> None:
    as_octets = initial.to_bytes(4, "big")
    assert _engine.internet_checksum(data, initial) == checksum(as_octets + data)


@pytest.mark.parametrize("version", [4, 6])
def test_our_own_transport_data_from_the_tun_is_recognised(version: int) -> None:
    message = b"\x04\0\0\0" + (0xDEADBEEF).to_bytes(4, "little") + bytes(24)
    packet = Packet(message, protocol=UDP, version=version, ports=(51820, 51820))
    assert _engine.looped_receiver_index(packet.encode(), 51820) == 0xDEADBEEF
    assert _engine.looped_receiver_index(packet.encode_super(0), 51820, vnet_hdr=True) == 0xDEADBEEF
    assert _engine.looped_receiver_index(bytearray(packet.encode()), 51821) is None
    assert _engine.looped_receiver_index(Packet(message, version=version).encode(), 40000) is None
    assert _engine.looped_receiver_index(b"", 0) is None


@given(packet=packets(st.integers(1, 4000)), gso_size=st.integers(1000, 1500))
def test_segments_that_are_too_long_become_fragments_with_the_checksum_of_the_whole(
    packet: Packet, gso_size: int
) -> None:
    pieces = _engine.fragment(packet.encode_super(gso_size), 1200, 0xFFFFFFFF, vnet_hdr=True)
    assert all(len(piece) <= 1200 for piece in pieces)
    header = 20 if packet.version == 4 else 48
    for part in (each.encode() for each in packet.split(gso_size)):
        first = pieces.pop(0)
        if len(part) <= 1200:
            assert first == part
            continue
        last = pieces.pop(0)
        assert first[header:] + last[header:] == part[20 if packet.version == 4 else 40 :]
    assert pieces == []
