"""The handshake between hosts: retries, the gate, replays, keys that don't match, networks that lose."""

from __future__ import annotations

import itertools
import struct

import pytest

from tests.simulation.conftest import DELAY
from tests.simulation.paper import (
    COOKIE_REPLY,
    INITIATION,
    JITTER,
    REKEY_TIMEOUT,
    RESPONSE,
    SENDS_IN_ALL,
    SIZES,
    STAGED,
    TRANSPORT,
)
from tests.simulation.world import Datagram, Host, World
from wgpy.keys import PresharedKey, PublicKey
from wgpy.protocol.actions import Origin
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.interface import Interface

LOW_ORDER = PublicKey(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"))

Pair = tuple[Host, Host]


def gaps(datagrams: list[Datagram]) -> list[float]:
    return [later.at - earlier.at for earlier, later in itertools.pairwise(datagrams)]


# --- the way it goes ---


def test_first_packet_makes_a_handshake_and_arrives_after_one_and_a_half_round_trips(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    packet = alice.send(bob)
    took = world.run_until(lambda: bob.received == [packet], within=1.0)
    assert took == pytest.approx(3 * DELAY)
    assert [datagram.kind for datagram in world.log] == [INITIATION, RESPONSE, TRANSPORT]


def test_initiator_with_nothing_staged_confirms_with_a_keepalive(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.initiate(alice.peer(bob), world.now)
    world.run_for(1.0)
    assert [datagram.kind for datagram in world.log] == [INITIATION, RESPONSE, TRANSPORT]
    assert world.log[-1].is_keepalive


def test_responder_sends_nothing_with_a_keypair_that_is_not_confirmed(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.passes = lambda datagram: datagram.kind != TRANSPORT
    alice.send(bob)
    world.run_for(1.0)
    bob.send(alice)
    world.run_for(1.0)
    assert world.sent(RESPONSE, by=bob)
    assert not world.sent(TRANSPORT, by=bob)


def test_responder_sends_what_is_staged_as_soon_as_it_is_confirmed(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_until(lambda: bool(world.sent(RESPONSE)), within=1.0)
    packet = bob.send(alice)
    world.run_until(lambda: alice.received == [packet], within=4 * DELAY)


def test_latest_handshake_is_unix_time_at_both_ends(world: World, pair: Pair) -> None:
    alice, bob = pair
    assert alice.interface.status(world.now)[0].last_handshake_ns == 0
    alice.send(bob)
    world.run_until(lambda: bool(bob.received), within=1.0)
    initiator, responder = (host.interface.status(world.now)[0].last_handshake_ns for host in pair)
    assert responder == bob.wall_clock_ns()
    assert responder - initiator == pytest.approx(DELAY * 1e9, rel=1e-3)


def test_handshake_messages_are_af41_and_the_keepalive_is_not(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.initiate(alice.peer(bob), world.now)
    world.run_for(1.0)
    assert [datagram.tos for datagram in world.log] == [0x88, 0x88, 0]


def test_ten_pings_count_as_the_kernels_own_test_asserts(world: World, pair: Pair) -> None:
    # 64 octets of ping data make packets of 92 octets, padded to 96, sent as 128.
    alice, bob = pair
    for _ in range(10):
        alice.send(bob, bytes(72))
        world.run_until(lambda: len(bob.received) > len(alice.received), within=1.0)
        bob.send(alice, bytes(72))
        world.run_until(lambda: len(bob.received) == len(alice.received), within=1.0)
    status = alice.interface.status(world.now)[0]
    assert (status.rx_bytes, status.tx_bytes) == (1372, 1428)


def test_each_end_chooses_indices_that_the_other_could_not_guess(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.send(bob)
    world.run_for(100.0)
    indices = [struct.unpack_from("<I", datagram.data, 4)[0] for datagram in world.sent(INITIATION)]
    assert len(set(indices)) == len(indices) == SENDS_IN_ALL
    assert max(indices) > 1 << 24  # not 24 bits wide, as in some implementations


# --- retries ---


def test_initiation_without_answer_is_sent_again_every_5_seconds_and_some(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.send(bob)
    world.run_for(60.0)
    between = gaps(world.sent(INITIATION))
    assert len(between) >= 10
    assert all(REKEY_TIMEOUT <= gap <= REKEY_TIMEOUT + JITTER for gap in between)
    assert len({round(gap, 6) for gap in between}) == len(between)


def test_after_20_initiations_it_gives_up_and_drops_what_is_staged(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.send(bob)
    world.run_for(400.0)
    assert len(world.sent()) == SENDS_IN_ALL
    assert alice.engine.facts(alice.peer(bob).id).staged == 0


def test_next_packet_after_giving_up_starts_anew(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    alice.send(bob)
    world.run_for(400.0)
    world.link.is_cut = False
    packet = alice.send(bob)
    world.run_until(lambda: bob.received == [packet], within=1.0)


def test_every_packet_that_waits_resets_the_attempts_though_the_gate_is_closed(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    world.link.is_cut = True
    packets = [alice.send(bob, b"0")]
    for number in range(30):
        world.run_for(5.5)
        packets.append(alice.send(bob, b"%d" % number))
    assert len(world.sent(INITIATION)) > SENDS_IN_ALL + 5
    # It never gave up, so nothing that waits was dropped.
    world.link.is_cut = False
    world.run_for(2 * (REKEY_TIMEOUT + JITTER))
    assert bob.received == packets


def test_each_retry_forgets_the_cached_source(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(200.0)  # the session is too old by now
    world.link.is_cut = True
    world.log.clear()
    alice.send(bob)
    world.run_for(12.0)
    assert [datagram.sticky is None for datagram in world.sent(INITIATION)] == [False, True, True]


def test_no_two_initiations_are_sent_within_5_seconds(world: World, pair: Pair) -> None:
    alice, bob = pair
    world.link.is_cut = True
    for _ in range(40):
        alice.send(bob)
        alice.interface.initiate(alice.peer(bob), world.now)
        world.run_for(0.5)
    assert min(gaps(world.sent(INITIATION))) >= REKEY_TIMEOUT


@pytest.mark.parametrize("responder", ["smaller", "larger"])
def test_a_response_closes_the_gate_and_a_packet_that_waits_gets_its_handshake_when_it_opens(
    world: World, pair: Pair, responder: str
) -> None:
    # The end with the larger static key stands back for another second, lest initiations cross.
    bob, alice = sorted(pair, key=lambda host: bytes(host.public_key), reverse=responder == "larger")
    alice.interface.initiate(alice.peer(bob), world.now)
    alice.is_deaf = True
    world.run_until(lambda: bool(world.sent(RESPONSE)), within=1.0)
    world.run_for(1.0)  # the response is lost
    alice.is_deaf = False
    world.link.passes = lambda datagram: datagram.sender is bob or datagram.kind != INITIATION
    packet = bob.send(alice)
    assert not world.sent(INITIATION, by=bob)
    world.run_until(lambda: alice.received == [packet], within=REKEY_TIMEOUT + 1.0)
    waited = world.sent(INITIATION, by=bob)[0].at - world.sent(RESPONSE)[0].at
    assert waited == pytest.approx(REKEY_TIMEOUT + (1.0 if responder == "larger" else 0.0))


def test_at_most_128_packets_wait_and_the_oldest_go_first(world: World, pair: Pair) -> None:
    alice, bob = pair
    packets = [alice.send(bob, str(n).encode()) for n in range(STAGED + 10)]
    world.run_for(1.0)
    assert bob.received == packets[-STAGED:]


# --- replays and forgeries ---


def test_replayed_initiation_is_not_answered(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    before = len(world.log)
    for _ in range(3):
        world.deliver(world.sent(INITIATION)[0])
        world.run_for(1.0)
    assert len(world.log) == before
    assert bob.interface.invalid_messages == 3


def test_replayed_initiation_is_refused_after_keys_were_wiped_too(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(2000.0)
    before = len(world.log)
    world.deliver(world.sent(INITIATION)[0])
    bob.down()
    bob.up()
    world.deliver(world.sent(INITIATION)[0])
    world.run_for(1.0)
    assert len(world.log) == before


def test_initiation_replayed_to_a_removed_and_added_peer_is_answered(world: World, pair: Pair) -> None:
    # The stored timestamp does not survive removal.
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    bob.interface.remove_peer(alice.public_key, world.now)
    bob.add_peer(alice)
    world.deliver(world.sent(INITIATION)[0])
    world.run_for(1.0)
    assert len(world.sent(RESPONSE)) == 2


def test_replayed_response_changes_nothing(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    before = alice.interface.status(world.now)
    world.deliver(world.sent(RESPONSE)[0])
    assert alice.interface.status(world.now) == before
    packet = alice.send(bob, b"again")
    world.run_for(1.0)
    assert bob.received[-1] == packet


def test_forged_response_leaves_the_initiation_to_be_answered(world: World, pair: Pair) -> None:
    alice, bob = pair
    packet = alice.send(bob)
    world.run_until(lambda: bool(world.sent(RESPONSE)), within=1.0)
    genuine = world.sent(RESPONSE)[0]
    forged = bytearray(genuine.data[:-32])
    forged[50] ^= 1
    # Past mac1, which anyone can make who knows our public key.
    data = CookieGenerator(bytes(alice.public_key)).add_macs(bytes(forged), world.now)
    alice.engine.receive_datagram(data, Origin(genuine.source))
    alice.step()
    assert alice.interface.invalid_messages == 1
    world.run_until(lambda: bob.received == [packet], within=1.0)


def test_initiation_of_someone_unknown_gets_no_answer(world: World) -> None:
    alice, bob = world.add_host("alice"), world.add_host("bob")
    alice.add_peer(bob)
    alice.up()
    bob.up()
    alice.send(bob)
    world.run_for(3.0)
    assert world.sent(by=bob) == []
    assert bob.interface.invalid_messages == 1


def test_response_to_a_superseded_initiation_is_refused(world: World, pair: Pair) -> None:
    alice, bob = pair
    held: list[Datagram] = []
    world.link.passes = lambda datagram: datagram.kind != RESPONSE or bool(held.append(datagram))
    alice.send(bob)
    world.run_for(6.0)
    assert len(held) == 2
    world.link.passes = lambda _: True
    world.deliver(held[0])
    world.run_for(1.0)
    assert not world.sent(TRANSPORT)
    world.deliver(held[1])
    world.run_for(1.0)
    assert len(bob.received) == 1


def test_peer_with_a_low_order_key_never_gets_a_packet(world: World, pair: Pair) -> None:
    alice, bob = pair
    peer = alice.interface.add_peer(LOW_ORDER, world.now)
    assert peer is not None
    alice.interface.set_endpoint(peer, bob.endpoint, world.now)
    alice.interface.set_persistent_keepalive(peer, 5, world.now)
    alice.interface.initiate(peer, world.now)
    world.run_for(60.0)
    assert world.log == []


def test_initiations_closer_than_20_ms_are_refused(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.initiate(alice.peer(bob), world.now)
    alice.peer(bob).timers.open_gate()
    world.run_for(0.01)
    alice.interface.initiate(alice.peer(bob), world.now)
    world.run_for(1.0)
    assert len(world.sent(INITIATION)) == 2
    assert len(world.sent(RESPONSE)) == 1
    assert bob.interface.invalid_messages == 1


# --- preshared keys ---


def test_handshake_with_different_preshared_keys_never_completes(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.interface.set_preshared_key(alice.peer(bob), PresharedKey(b"\x01" * 32), world.now)
    alice.send(bob)
    world.run_for(300.0)
    assert world.sent(RESPONSE)
    assert not world.sent(TRANSPORT)
    assert bob.received == []
    assert all(host.interface.status(world.now)[0].last_handshake_ns == 0 for host in pair)


def test_changed_preshared_key_leaves_the_session_and_is_used_by_the_next_handshake(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    bob.interface.set_preshared_key(bob.peer(alice), PresharedKey(b"\x02" * 32), world.now)
    packet = alice.send(bob, b"with the old key")
    world.run_for(1.0)
    assert bob.received[-1] == packet
    world.run_for(200.0)
    alice.send(bob, b"with the new key, at one end only")
    world.run_for(20.0)
    assert bob.received[-1] == packet
    alice.interface.set_preshared_key(alice.peer(bob), PresharedKey(b"\x02" * 32), world.now)
    world.run_for(10.0)
    assert bob.received[-1].endswith(b"at one end only")


# --- the wall clock ---


def test_host_whose_clock_was_set_back_still_talks(world: World, pair: Pair) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(200.0)
    alice.wall_offset_ns = -86_400 * 10**9
    packet = alice.send(bob)
    world.run_for(1.0)
    assert bob.received[-1] == packet


def test_host_that_reboots_in_the_past_talks_when_it_kept_its_highest_timestamp(
    world: World, pair: Pair
) -> None:
    alice, bob = pair
    alice.send(bob)
    world.run_for(1.0)
    kept = alice.interface.highest_timestamp
    assert kept is not None
    alice.wall_offset_ns = -86_400 * 10**9
    for highest, answers in ((None, 0), (kept, 1)):
        responses = len(world.sent(RESPONSE))
        alice.interface = Interface(alice.engine, alice.rng, alice.wall_clock_ns, highest_timestamp=highest)
        alice.interface.set_private_key(alice.private_key, world.now)
        alice.interface.up(world.now)
        alice.interface.initiate(alice.add_peer(bob), world.now)
        world.run_for(2.0)
        assert len(world.sent(RESPONSE)) - responses == answers


# --- over terrible networks ---


@pytest.mark.parametrize("seed", range(12))
def test_tunnel_comes_up_over_a_network_that_loses_doubles_and_reorders(
    seed: int, make_world: type[World]
) -> None:
    world = make_world(seed=seed, delay=0.02)
    world.link.loss = 0.3
    world.link.duplication = 0.3
    world.link.jitter = 0.2
    alice, bob = world.add_pair()
    for _ in range(60):
        alice.send(bob)
        bob.send(alice)
        world.run_for(5.0)
    world.link.loss = 0.0
    world.run_for(30.0)  # whatever was under way ends
    alice.received.clear()
    bob.received.clear()
    there, back = alice.send(bob, b"there"), bob.send(alice, b"back")
    world.run_for(1.0)
    assert (bob.received, alice.received) == ([there], [back])
    assert not world.sent(COOKIE_REPLY)
    for datagram in world.log:
        assert len(datagram.data) == SIZES.get(datagram.kind, len(datagram.data))
    for host in (alice, bob):
        assert all(gap >= REKEY_TIMEOUT for gap in gaps(world.sent(INITIATION, by=host)))
