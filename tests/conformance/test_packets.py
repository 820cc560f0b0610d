"""What an engine does to packets: padding, trimming, ECN, counters, ICMP, allowed IPs."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from tests.conformance.bench import Bench, MemoryBench, bytes_of, sent_to
from tests.conformance.far_end import checksum, ip_packet
from tests.conformance.samples import IN, OUT

# --- padding and trimming ---


@pytest.mark.parametrize(
    ("length", "padded"),
    [(28, 32), (32, 32), (33, 48), (1408, 1408), (1409, 1420), (1420, 1420)],
)
async def test_packets_are_padded_to_16_but_never_past_the_mtu(
    bench: Bench, length: int, padded: int
) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    packet = ip_packet("10.0.0.1", "10.0.0.2", bytes(length - 28))
    await bench.host_sends(packet)
    assert sent_to(await bench.departed(), far) == [packet + bytes(padded - length)]


@pytest.mark.parametrize(
    ("mtu", "length", "padded"), [(0, 1419, 1424), (1000, 1001, 1016), (1000, 1999, 2000), (1000, 1000, 1000)]
)
async def test_padding_of_packets_longer_than_the_mtu_counts_from_its_last_multiple(
    memory: MemoryBench, mtu: int, length: int, padded: int
) -> None:
    memory.set_mtu(mtu)
    far = memory.session(memory.peer("10.0.0.2/32"))
    await memory.departed()
    packet = ip_packet("10.0.0.1", "10.0.0.2", bytes(length - 28))
    await memory.host_sends(packet)
    assert sent_to(await memory.departed(), far) == [packet + bytes(padded - length)]


async def test_received_packets_are_trimmed_to_their_own_length(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32", "fd00::2/128")
    far = bench.session(peer)
    six = ip_packet("fd00::2", "fd00::1", b"payload of six")
    await bench.arrives(
        far.seal(IN + bytes(40)), far.seal(six + bytes(7), pad=False), far.seal(IN, pad=False)
    )
    assert await bench.host_got() == [IN, six, IN]


@pytest.mark.parametrize(
    "packet",
    [
        IN[:-1],  # shorter than it says
        IN[:19],  # shorter than its header
        IN[:2] + struct.pack("!H", 19) + IN[4:],  # says less than its header
        ip_packet("fd00::2", "fd00::1")[:-1],
        ip_packet("fd00::2", "fd00::1")[:39],
    ],
)
async def test_packets_that_contradict_themselves_are_dropped_and_not_counted_as_received_bytes(
    bench: Bench, packet: bytes
) -> None:
    peer = bench.peer("10.0.0.2/32", "fd00::2/128")
    far = bench.session(peer)
    before = bytes_of(bench, peer)
    await bench.arrives(far.seal(packet, pad=False))
    assert await bench.host_got() == []
    assert bytes_of(bench, peer) == before
    assert bench.engine.facts(peer).data_received_first is not None


# --- ECN and TOS ---


@pytest.mark.parametrize(
    ("inner", "outer"), [(0b00, 0), (0b01, 1), (0b10, 2), (0b11, 2), (0xB8, 0), (0xBA, 2)]
)
@pytest.mark.parametrize("version", [4, 6])
async def test_the_outer_header_carries_the_ecn_bits_and_nothing_else_of_the_inner(
    memory: MemoryBench, inner: int, outer: int, version: int
) -> None:
    far = memory.session(memory.peer("10.0.0.2/32", "fd00::2/128"))
    await memory.departed()
    source, destination = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    await memory.host_sends(ip_packet(source, destination, tos=inner))
    (sent,) = await memory.departed()
    assert sent.tos == outer
    assert far.is_ours(sent.data)


@pytest.mark.parametrize(
    ("outer", "inner", "result"),
    [(3, 0, 0), (3, 1, 3), (3, 2, 3), (3, 3, 3), (2, 1, 1), (1, 2, 1), (0, 2, 2), (0xFF, 0xB9, 0xBB)],
)
@pytest.mark.parametrize("version", [4, 6])
async def test_congestion_in_the_outer_header_is_marked_in_an_inner_one_that_is_capable(
    bench: Bench, outer: int, inner: int, result: int, version: int
) -> None:
    far = bench.session(bench.peer("10.0.0.2/32", "fd00::2/128"))
    source, destination = ("10.0.0.2", "10.0.0.1") if version == 4 else ("fd00::2", "fd00::1")
    await bench.arrives(far.seal(ip_packet(source, destination, tos=inner)), tos=outer)
    assert await bench.host_got() == [ip_packet(source, destination, tos=result)], "and its checksum is right"


async def test_handshakes_have_tos_88_and_keepalives_and_datagrams_none(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    assert memory.engine.send_handshake(peer, bytes(148))
    memory.session(peer)
    memory.engine.send_datagram(b"stun", memory.sender(3))
    assert [(len(each.data), each.tos) for each in await memory.departed()] == [(148, 0x88), (32, 0), (4, 0)]


# --- counters ---


async def test_ten_pings_count_what_the_kernel_counts(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    requests = [ip_packet("10.0.0.1", "10.0.0.2", bytes([number]) * 56) for number in range(10)]
    replies = [ip_packet("10.0.0.2", "10.0.0.1", bytes([number]) * 56) for number in range(10)]
    await bench.host_sends(requests[0])
    bench.engine.send_handshake(peer, bytes(148))
    far_message = bench.add_macs(struct.pack("<III", 2, 9, bench.engine.reserve_index(peer)) + bytes(48))
    await bench.arrives(far_message)
    (message,) = await bench.handshakes()
    bench.engine.handshake_accepted(peer, message.origin, len(message.data), message.seq)
    far = bench.session(peer)
    await bench.host_sends(*requests[1:])
    await bench.arrives(*[far.seal(reply) for reply in replies])
    assert await bench.host_got() == replies
    assert bytes_of(bench, peer) == (10 * 128 + 92, 10 * 128 + 148)


async def test_refused_sources_and_cookie_replies_count_in_neither_direction(bench: Bench) -> None:
    bench.identify()
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(
        far.seal(ip_packet("10.0.0.3", "10.0.0.1")), struct.pack("<II", 3, far.engine_index) + bytes(56)
    )
    bench.engine.send_datagram(bytes(64), bench.sender())
    assert bytes_of(bench, peer) == (0, 32)


async def test_what_could_not_be_sent_is_not_counted_as_sent_data(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    memory.session(peer)
    before = bytes_of(memory, peer)
    memory.refuse(memory.sender())
    await memory.host_sends(OUT)
    assert not memory.engine.send_handshake(peer, bytes(148))
    assert bytes_of(memory, peer) == before
    assert memory.engine.facts(peer).data_sent_first is None


# --- packets with nowhere to go ---


@pytest.mark.parametrize("with_peer", [False, True])
async def test_the_host_is_told_that_an_ipv4_packet_has_nowhere_to_go(bench: Bench, with_peer: bool) -> None:
    if with_peer:  # but no endpoint
        bench.peer("10.7.0.0/16", sender=None)
    packet = ip_packet("10.0.0.1", "10.7.0.9", bytes(1000))
    await bench.host_sends(packet)
    (answer,) = await bench.host_got()
    assert answer[0] == 0x45
    assert answer[9] == 1
    assert (ip_address(answer[12:16]), ip_address(answer[16:20])) == (
        ip_address("10.7.0.9"),
        ip_address("10.0.0.1"),
    )
    assert int.from_bytes(answer[2:4], "big") == len(answer) == 576
    assert answer[20:22] == b"\3\1", "host unreachable"
    assert answer[28:] == packet[:548]
    assert checksum(answer[:20]) == checksum(answer[20:]) == 0
    assert await bench.departed() == []


async def test_the_host_is_told_that_an_ipv6_packet_has_nowhere_to_go(bench: Bench) -> None:
    packet = ip_packet("fd00::1", "fd07::9", bytes(1300))
    await bench.host_sends(packet)
    (answer,) = await bench.host_got()
    assert answer[6] == 58
    assert answer[8:40] == ip_address("fd07::9").packed + ip_address("fd00::1").packed
    assert int.from_bytes(answer[4:6], "big") == len(answer) - 40 == 1240
    assert answer[40:42] == b"\1\3", "address unreachable"
    assert answer[48:] == packet[:1232]
    pseudo = answer[8:40] + struct.pack("!II", len(answer) - 40, 58)
    assert checksum(pseudo + answer[40:]) == 0


async def test_some_packets_must_not_be_answered(memory: MemoryBench) -> None:
    error = bytearray(ip_packet("10.0.0.1", "10.7.0.9"))
    error[9], error[20] = 1, 3
    fragment = bytearray(ip_packet("10.0.0.1", "10.7.0.9"))
    fragment[7] = 5
    error6 = bytearray(ip_packet("fd00::1", "fd07::9"))
    error6[6], error6[40] = 58, 1
    await memory.host_sends(
        bytes(error),
        bytes(fragment),
        ip_packet("10.0.0.1", "224.0.0.1"),
        ip_packet("10.0.0.1", "255.255.255.255"),
        ip_packet("0.0.0.0", "10.7.0.9"),
        bytes(error6),
        ip_packet("fd00::1", "ff02::1"),
        ip_packet("::", "fd07::9"),
        b"",
        b"\x45",
        b"\x70" * 40,
    )
    assert await memory.host_got() == []


async def test_answers_to_one_source_are_limited(memory: MemoryBench) -> None:
    await memory.host_sends(*[ip_packet("10.0.0.1", "10.7.0.9")] * 100)
    assert len(await memory.host_got()) == 5


# --- allowed IPs ---


async def test_a_prefix_added_elsewhere_moves(bench: Bench) -> None:
    alice = bench.peer("10.0.0.0/24", "fd00::/64", sender=0)
    bob = bench.peer(sender=1)
    bench.engine.add_allowed_ips(bob, [ip_network("10.0.0.0/24")])
    assert bench.engine.allowed_ips(alice) == [ip_network("fd00::/64")]
    bench.engine.remove_allowed_ips(alice, [ip_network("10.0.0.0/24"), ip_network("fd00::/64")])
    assert bench.engine.allowed_ips(alice) == []
    assert bench.engine.allowed_ips(bob) == [ip_network("10.0.0.0/24")]


async def test_the_longest_prefix_decides_where_a_packet_goes(bench: Bench) -> None:
    ends = [
        bench.session(bench.peer(prefix, sender=number))
        for number, prefix in enumerate(("0.0.0.0/0", "10.0.0.0/8", "10.0.0.2/32"))
    ]
    await bench.departed()
    for destination, expected in (("192.0.2.77", 0), ("10.5.0.1", 1), ("10.0.0.2", 2)):
        await bench.host_sends(ip_packet("10.0.0.1", destination))
        (sent,) = await bench.departed()
        assert ends[expected].is_ours(sent.data)
