"""Rules 8 and 10 of the seam (docs/engine.md): datagrams that are not WireGuard, and our own coming back."""

from __future__ import annotations

import struct

from tests.conformance.bench import Bench, MemoryBench, sent_to
from tests.conformance.far_end import ip_packet
from tests.conformance.samples import padded
from wgpy.engine import DatagramFilter
from wgpy.protocol.actions import OtherDatagram


async def test_other_datagrams_go_up_only_when_expected(bench: Bench) -> None:
    transaction = bytes(range(12))
    stun = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + transaction
    await bench.arrives(stun, b"hello", sender=1)
    assert await bench.events() == []
    bench.expect(DatagramFilter(frozenset({transaction}), frozenset({bench.sender(2)})))
    await bench.arrives(stun, b"hello", sender=1)
    await bench.arrives(b"from a relay", sender=2)
    assert [
        (event.data, event.origin.remote)
        for event in await bench.events()
        if isinstance(event, OtherDatagram)
    ] == [(stun, bench.sender(1)), (b"from a relay", bench.sender(2))]
    bench.expect(DatagramFilter())
    await bench.arrives(stun, sender=1)
    assert await bench.events() == []


async def test_our_own_transport_data_is_not_sent_into_the_tunnel_again(memory: MemoryBench) -> None:
    memory.listen(51820)
    peer = memory.peer("0.0.0.0/0", "::/0")
    far = memory.session(peer)
    await memory.departed()
    ours = struct.pack("<IIQ", 4, far.index, 0) + bytes(16)
    looped = [
        ip_packet("192.0.2.1", "198.51.100.1", ours, source_port=51820),
        ip_packet("2001:db8::1", "2001:db8::2", ours, source_port=51820),
    ]
    innocent = [
        ip_packet("192.0.2.1", "198.51.100.1", ours, source_port=51821),
        ip_packet("192.0.2.1", "198.51.100.1", b"\1" + ours[1:], source_port=51820),
        ip_packet(
            "192.0.2.1",
            "198.51.100.1",
            struct.pack("<IIQ", 4, far.index ^ 1, 0) + bytes(16),
            source_port=51820,
        ),
    ]
    await memory.host_sends(*looped, *innocent)
    assert sent_to(await memory.departed(), far) == [padded(packet) for packet in innocent]
    assert memory.drops() == len(looped)
    memory.engine.remove_peer(peer)
    memory.session(memory.peer("0.0.0.0/0"))
    await memory.departed()
    await memory.host_sends(looped[0])
    assert len(await memory.departed()) == 1, "an index we do not send to any more"
