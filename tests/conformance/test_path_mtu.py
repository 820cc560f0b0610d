"""A packet that does not fit its path is answered by ICMP, with the path's MTU, or sent in fragments."""

from __future__ import annotations

from tests.conformance.bench import Bench, Sent
from tests.conformance.far_end import FarEnd, checksum, ip_packet

MTU = 1200


def _packet(size: int, *, dont_fragment: bool) -> bytes:
    packet = bytearray(ip_packet("10.0.0.1", "10.0.0.2", bytes(range(256)) * 5)[:size])
    packet[2:4] = size.to_bytes(2, "big")
    packet[6] = 0x40 if dont_fragment else 0
    packet[10:12] = bytes(2)
    packet[10:12] = checksum(bytes(packet[:20])).to_bytes(2, "big")
    return bytes(packet)


def _ipv6_packet(size: int) -> bytes:
    return ip_packet("fd00::1", "fd00::2", (bytes(range(256)) * 6)[: size - 48])


def _opened(far: FarEnd, sent: list[Sent]) -> list[bytes]:
    """The packets, in the order they left, without padding."""
    packets = [far.open(each.data) for each in sent]
    lengths = [
        int.from_bytes(packet[2:4], "big") if packet[0] >> 4 == 4 else 40 + int.from_bytes(packet[4:6], "big")
        for packet in packets
    ]
    return [packet[:length] for packet, length in zip(packets, lengths, strict=True)]


async def test_an_ipv4_packet_that_must_not_be_fragmented_is_answered(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.set_path_mtu(peer, MTU)
    await bench.host_sends(_packet(MTU + 1, dont_fragment=True))
    (answer,) = await bench.host_got()
    assert answer[20:22] == b"\3\4", "fragmentation needed"
    assert int.from_bytes(answer[24:28], "big") == MTU
    assert await bench.departed() == []
    await bench.host_sends(_packet(MTU, dont_fragment=True))
    assert _opened(far, await bench.departed()) == [_packet(MTU, dont_fragment=True)]
    assert await bench.host_got() == []
    bench.engine.set_path_mtu(peer, None)
    await bench.host_sends(_packet(MTU + 1, dont_fragment=True))
    assert len(await bench.departed()) == 1


async def test_an_ipv4_packet_that_may_be_fragmented_is(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.set_path_mtu(peer, MTU)
    packet = _packet(1300, dont_fragment=False)
    await bench.host_sends(packet)
    assert await bench.host_got() == []
    first, last = _opened(far, await bench.departed())
    assert len(first) == 20 + 1176, "as many units of 8 octets as there is room for"
    assert first[20:] + last[20:] == packet[20:]
    assert (first[6:8], last[6:8]) == (b"\x20\0", (1176 // 8).to_bytes(2, "big"))
    for fragment in (first, last):
        assert fragment[4:6] == packet[4:6], "the identification"
        assert checksum(fragment[:20]) == 0


async def test_nobody_is_told_that_ipv6_packets_of_1280_are_too_big(bench: Bench) -> None:
    peer = bench.peer("fd00::2/128")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.set_path_mtu(peer, MTU)
    await bench.host_sends(_ipv6_packet(1281))
    (answer,) = await bench.host_got()
    assert answer[40:42] == b"\2\0", "packet too big"
    assert int.from_bytes(answer[44:48], "big") == 1280
    assert await bench.departed() == []
    packet = _ipv6_packet(1280)
    await bench.host_sends(packet, _ipv6_packet(1000))
    assert await bench.host_got() == []
    first, last, small = _opened(far, await bench.departed())
    assert small == _ipv6_packet(1000)
    for fragment in (first, last):
        assert fragment[6] == 44
        assert fragment[40:42] == b"\x11\0"
    assert first[44:48] == last[44:48], "the identification"
    assert (first[42:44], last[42:44]) == (b"\0\1", b"\4\x80"), "1152 octets, more follow; the rest"
    assert first[48:] + last[48:] == packet[40:]
    await bench.host_sends(packet)
    other, _ = _opened(far, await bench.departed())
    assert other[44:48] != first[44:48]


async def test_what_waits_for_a_session_leaves_in_fragments(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.engine.set_path_mtu(peer, MTU)
    packet = _packet(1300, dont_fragment=False)
    await bench.host_sends(packet)
    assert await bench.departed() == []
    far = bench.session(peer)
    first, last = _opened(far, await bench.departed())
    assert first[20:] + last[20:] == packet[20:]
