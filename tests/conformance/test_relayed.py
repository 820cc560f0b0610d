"""Peers behind a relay: what is sent to them is wrapped, what comes of them unwrapped (docs/relay.md §4)."""

from __future__ import annotations

from tests.conformance.bench import Bench, endpoint_of
from tests.conformance.far_end import ip_packet
from tests.conformance.samples import IN, OUT, numbered
from wgpy.engine import DatagramFilter
from wgpy.mesh.relay import encode_data_header, relayed_endpoint
from wgpy.protocol.actions import Control, Origin, OtherDatagram

SESSION = 0x1122334455667788
ONE, OTHER = 0xA1B2C3D4E5F60718, 5
RELAY = 1
"""The sender of the bench that is the relay."""


def begin(bench: Bench) -> None:
    bench.engine.set_relay(3, bench.sender(RELAY), SESSION)


async def test_packets_to_a_relayed_peer_go_to_its_relay_with_a_header_each(bench: Bench) -> None:
    begin(bench)
    peer = bench.peer("10.0.0.2/32", sender=None)
    bench.engine.set_endpoint(peer, relayed_endpoint(3, ONE))
    far = bench.session(peer)
    await bench.departed()
    packets = numbered(5)
    await bench.host_sends(*packets)
    sent = await bench.departed()
    assert {each.to for each in sent} == {bench.sender(RELAY)}
    header = encode_data_header(SESSION, ONE)
    assert all(each.data.startswith(header) for each in sent)
    opened = [far.open(each.data[len(header) :]) for each in sent]
    assert [data[: len(packet)] for data, packet in zip(opened, packets, strict=True)] == packets


async def test_packets_of_relayed_peers_arrive_and_the_endpoint_follows_to_the_relay(bench: Bench) -> None:
    begin(bench)
    peer, other = bench.peer("10.0.0.2/32"), bench.peer("10.0.0.3/32", sender=None)
    far, far_other = bench.session(peer), bench.session(other)
    header, other_header = (encode_data_header(SESSION, sender) for sender in (ONE, OTHER))
    from_other = ip_packet("10.0.0.3", "10.0.0.1", b"x" * 40)
    await bench.arrives(
        header + far.seal(IN), header + far.seal(IN), other_header + far_other.seal(from_other), sender=RELAY
    )
    assert await bench.host_got() == [IN, IN, from_other]
    assert endpoint_of(bench, peer) == relayed_endpoint(3, ONE)
    assert endpoint_of(bench, other) == relayed_endpoint(3, OTHER)
    await bench.departed()
    await bench.host_sends(OUT)
    (sent,) = await bench.departed()
    assert (sent.to, sent.data[:20]) == (bench.sender(RELAY), header)


async def test_control_messages_come_and_go_by_the_relay(bench: Bench) -> None:
    begin(bench)
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.send_control(peer, Origin(relayed_endpoint(3, ONE)), b"\x70ping")
    (sent,) = await bench.departed()
    assert (sent.to, sent.data[:20]) == (bench.sender(RELAY), encode_data_header(SESSION, ONE))
    await bench.arrives(encode_data_header(SESSION, ONE) + far.seal(b"\x70pong"), sender=RELAY)
    (control,) = [each for each in await bench.events() if isinstance(each, Control)]
    assert control.path.remote == relayed_endpoint(3, ONE)
    assert control.data.startswith(b"\x70pong")


async def test_what_is_of_another_session_or_not_of_the_relay_is_dropped(bench: Bench) -> None:
    begin(bench)
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    before = bench.drops()
    await bench.arrives(encode_data_header(SESSION ^ 1, ONE) + far.seal(IN), sender=RELAY)
    await bench.arrives(encode_data_header(SESSION, ONE) + far.seal(IN), sender=0)
    await bench.arrives(far.seal(IN), sender=0)
    assert await bench.host_got() == [IN]
    assert endpoint_of(bench, peer) == bench.sender(0)
    assert bench.drops() == before + 2


async def test_a_relay_can_neither_inject_nor_change_nor_repeat(bench: Bench) -> None:
    begin(bench)
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    header = encode_data_header(SESSION, ONE)
    genuine = far.seal(IN)
    assert IN not in genuine, "a relay sees no content"
    changed = bytearray(far.seal(IN))
    changed[20] ^= 1
    await bench.arrives(header + genuine, header + genuine, header + bytes(changed), sender=RELAY)
    made_up = genuine[:16] + bytes(len(genuine) - 16)
    await bench.arrives(header + made_up, header + bytes(60), sender=RELAY)
    assert await bench.host_got() == [IN]


async def test_what_a_relay_says_itself_goes_up_when_it_is_expected(bench: Bench) -> None:
    begin(bench)
    word = b"\xd7\x07\x00\x01" + bytes(50)
    bench.expect(DatagramFilter(remotes=frozenset({bench.sender(RELAY)})))
    await bench.arrives(word, sender=RELAY)
    (event,) = [each for each in await bench.events() if isinstance(each, OtherDatagram)]
    assert (event.data, event.origin.remote) == (word, bench.sender(RELAY))


async def test_without_the_relay_nothing_is_sent_there(bench: Bench) -> None:
    begin(bench)
    peer = bench.peer("10.0.0.2/32", sender=None)
    bench.engine.set_endpoint(peer, relayed_endpoint(3, ONE))
    bench.session(peer)
    await bench.departed()
    bench.engine.set_relay(3, None)
    await bench.host_sends(OUT)
    assert await bench.departed() == []
