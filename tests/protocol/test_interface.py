"""What the core tells an engine, and in which order. That packets then flow is the simulator's to show."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from tests.protocol.recording_engine import RecordingEngine
from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.actions import (
    CurrentKeypair,
    EngineFailed,
    Fact,
    HandshakeMessage,
    Origin,
    PeerId,
    PeerWork,
    Work,
)
from wgpy.protocol.cookie import cookie_key, mac1_key
from wgpy.protocol.interface import Interface
from wgpy.protocol.peer import Peer
from wgpy.protocol.timers import Timer

ORIGIN = Origin(Endpoint(IPv4Address("192.0.2.9"), 9), IPv4Address("192.0.2.1"), 3)
WALL_NS = 1_700_000_000 * 10**9


@dataclass
class End:
    engine: RecordingEngine
    interface: Interface

    def receive(self, data: bytes, peer: PeerId | None, now: float, seq: int = 1) -> None:
        self.interface.handle_event(HandshakeMessage(data, ORIGIN, seq, 0, peer), now)

    def work(self, peer: Peer, bits: Work, now: float, **more: object) -> None:
        self.interface.handle_event(PeerWork(peer.id, bits, **more), now)  # type: ignore[arg-type]

    @property
    def handshakes(self) -> list[bytes]:
        return [data for _, data in self.engine.told("send_handshake")]


def make_end(seed: int, *, up: bool = True) -> End:
    engine, rng = RecordingEngine(), random.Random(seed)
    interface = Interface(engine, rng, lambda: WALL_NS)
    interface.set_private_key(PrivateKey(rng.randbytes(32)), 0.0)
    if up:
        interface.up(0.0)
    return End(engine, interface)


def introduce(one: End, other: End) -> Peer:
    assert other.interface.public_key is not None
    peer = one.interface.add_peer(other.interface.public_key, 0.0)
    assert peer is not None
    return peer


@pytest.fixture
def alice() -> End:
    return make_end(1)


@pytest.fixture
def bob() -> End:
    return make_end(2)


@pytest.fixture
def peer(alice: End, bob: End) -> Peer:
    """Bob, as Alice sees him; he knows her too."""
    introduce(bob, alice)
    result = introduce(alice, bob)
    alice.engine.calls.clear()
    bob.engine.calls.clear()
    return result


# --- identity ---


def test_identity_is_told_as_the_keys_of_mac1_and_cookie() -> None:
    end = make_end(3, up=False)
    public = bytes(end.interface.public_key or b"")
    assert end.engine.calls == [("set_identity", mac1_key(public), cookie_key(public))]
    end.interface.set_private_key(None, 0.0)
    assert end.engine.calls[-1] == ("set_identity", None, None)


def test_identity_changes_before_indices_are_released_and_keypairs_expire(alice: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    alice.engine.calls.clear()
    alice.interface.set_private_key(PrivateKey(b"\x09" * 32), 1.0)
    assert [name for name in alice.engine.names() if name != "watch"] == [
        "set_identity",
        "release_index",
        "expire_keypairs",
    ]
    assert peer.timers.gate_is_open(1.0)


def test_same_private_key_again_tells_the_engine_nothing(alice: End, peer: Peer) -> None:
    alice.interface.set_private_key(PrivateKey(bytes(alice.interface.private_key or b"")), 1.0)
    assert alice.engine.calls == []


# --- handshake ---


def test_initiation_frees_the_index_of_the_one_before(alice: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    alice.interface.initiate(peer, 5.0)
    assert [call for call in alice.engine.calls if "index" in call[0]] == [
        ("reserve_index", 101),
        ("release_index", 101),
        ("reserve_index", 102),
    ]


def test_initiation_is_accepted_before_the_session_begins_and_its_response_is_the_sessions(
    alice: End, bob: End, peer: Peer
) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 3.0, seq=77)
    names = [name for name in bob.engine.names() if name != "watch"]
    assert names == ["handshake_accepted", "reserve_index", "begin_session"]
    assert bob.engine.told("handshake_accepted") == [(PeerId(1), ORIGIN, 148, 77)]
    _, session = bob.engine.told("begin_session")[0]
    assert (session["is_initiator"], session["local_index"], session["remote_index"]) == (False, 101, 101)
    assert session["created_at"] == 3.0
    assert len(session["response"]) == 92


def test_response_begins_the_same_session_at_the_initiator(alice: End, bob: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    responders = bob.engine.told("begin_session")[0][1]
    alice.engine.calls.clear()
    alice.receive(responders["response"], peer.id, 1.0)
    assert [name for name in alice.engine.names() if name != "watch"] == [
        "handshake_accepted",
        "begin_session",
    ]
    session = alice.engine.told("begin_session")[0][1]
    assert (session["is_initiator"], session["response"]) == (True, None)
    assert session["chaining_key"] == responders["chaining_key"]
    assert peer.last_handshake_ns == WALL_NS


def test_responder_frees_the_index_of_its_own_initiation(alice: End, bob: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.interface.initiate(next(iter(bob.interface.peers.values())), 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    assert bob.engine.told("release_index") == [(101,)]
    assert bob.engine.told("begin_session")[0][1]["local_index"] == 102


def test_handshake_completes_at_the_responder_only_when_it_is_confirmed(
    alice: End, bob: End, peer: Peer
) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    (at_bob,) = bob.interface.peers.values()
    assert at_bob.last_handshake_ns == 0
    bob.work(at_bob, Work.CONFIRMED, 1.0, confirmed_index=101)
    assert at_bob.last_handshake_ns == WALL_NS


def test_both_ends_learn_the_round_trip_from_the_handshake(alice: End, bob: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    alice.interface.initiate(peer, 5.0)  # the first was lost: what answers the second is timed from it
    bob.receive(alice.handshakes[1], None, 5.03)
    (at_bob,) = bob.interface.peers.values()
    alice.receive(bob.engine.told("begin_session")[0][1]["response"], peer.id, 5.06)
    assert alice.interface.status(6.0)[0].rtt == pytest.approx(0.06)
    assert at_bob.rtt is None
    bob.work(at_bob, Work.CONFIRMED, 5.09, confirmed_index=101)
    assert bob.interface.status(6.0)[0].rtt == pytest.approx(0.06)


@pytest.mark.parametrize(("delay", "index"), [(1.01, 101), (0.06, 99)])
def test_a_late_confirmation_or_another_sessions_says_nothing_of_the_round_trip(
    alice: End, bob: End, peer: Peer, delay: float, index: int
) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    (at_bob,) = bob.interface.peers.values()
    bob.work(at_bob, Work.CONFIRMED, delay, confirmed_index=index)
    assert at_bob.last_handshake_ns == WALL_NS
    assert at_bob.rtt is None


def test_no_chaining_key_or_ephemeral_is_left_after_the_session_began(
    alice: End, bob: End, peer: Peer
) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    alice.receive(bob.engine.told("begin_session")[0][1]["response"], peer.id, 1.0)
    for handshake in (peer.handshake, next(iter(bob.interface.peers.values())).handshake):
        assert handshake._transcript is None
        assert handshake._ephemeral is None


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(148), b"\x01\0\0\0" + bytes(144), b"\x03" + bytes(63)])
def test_bytes_of_a_stranger_are_counted_and_do_nothing(alice: End, peer: Peer, data: bytes) -> None:
    for owner in (None, peer.id):
        alice.receive(data, owner, 0.0)
    assert alice.engine.calls == []
    assert alice.interface.invalid_messages >= 1


def test_message_for_a_peer_that_is_gone_is_ignored(alice: End, bob: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    bob.receive(alice.handshakes[0], None, 0.0)
    alice.interface.remove_peer(peer.public_key, 0.5)
    alice.engine.calls.clear()
    alice.receive(bob.engine.told("begin_session")[0][1]["response"], peer.id, 1.0)
    alice.work(peer, Work.NEED_KEY | Work.FACT | Work.CONFIRMED, 1.0)
    alice.interface.handle_event(EngineFailed("not ours to handle"), 1.0)
    assert alice.engine.calls == []


def test_removed_peer_is_told_to_the_engine_once_and_its_secrets_go(alice: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    alice.engine.calls.clear()
    alice.interface.remove_peer(peer.public_key, 1.0)
    alice.interface.remove_peer(peer.public_key, 1.0)
    assert alice.engine.calls == [("remove_peer", peer.id)]
    assert peer.handshake._ephemeral is None
    assert alice.interface.next_deadline() is None


# --- work ---


def test_need_for_a_key_is_a_level_and_looked_at_before_it_is_met(alice: End, peer: Peer) -> None:
    alice.work(peer, Work.NEED_KEY, 0.0)
    assert alice.handshakes == []  # nothing is staged any more
    alice.engine.set_facts(peer.id, staged=1, current=CurrentKeypair(1, 0.0, True, may_send=True))
    alice.work(peer, Work.NEED_KEY, 0.0)
    assert alice.handshakes == []  # a handshake has ended in the meantime
    alice.engine.set_facts(peer.id, current=CurrentKeypair(1, 0.0, True, may_send=False))
    alice.work(peer, Work.NEED_KEY, 0.0)
    assert len(alice.handshakes) == 1


@pytest.mark.parametrize("bit", [Work.REKEY_SEND, Work.REKEY_RECEIVE])
def test_rekey_wanted_by_the_engine_is_begun(alice: End, peer: Peer, bit: Work) -> None:
    alice.work(peer, bit, 0.0)
    assert len(alice.handshakes) == 1


def test_confirmation_that_comes_with_a_need_is_taken_first(alice: End, peer: Peer) -> None:
    alice.interface.initiate(peer, 0.0)
    alice.work(peer, Work.CONFIRMED | Work.REKEY_SEND, 6.0, confirmed_index=1)
    assert len(alice.handshakes) == 2
    deadline = peer.timers.deadline(Timer.RETRANSMIT_HANDSHAKE)
    assert deadline is not None
    assert deadline >= 11.0  # of the new initiation: the confirmation did not cancel it


def test_endpoint_that_moved_is_remembered(alice: End, peer: Peer) -> None:
    alice.work(peer, Work.ENDPOINT, 0.0, endpoint=ORIGIN.remote)
    assert peer.endpoint == ORIGIN.remote


def test_nothing_is_initiated_while_down_or_without_a_private_key(alice: End, peer: Peer) -> None:
    alice.engine.set_facts(peer.id, staged=1)
    alice.interface.down(1.0)
    alice.work(peer, Work.NEED_KEY | Work.REKEY_SEND, 1.0)
    alice.interface.set_private_key(None, 1.0)
    alice.interface.up(1.0)
    alice.work(peer, Work.NEED_KEY | Work.REKEY_SEND, 1.0)
    alice.interface.initiate(peer, 1.0)
    assert alice.handshakes == []
    assert alice.interface.next_deadline() is None


# --- watches ---


def test_only_what_is_not_there_is_watched_and_only_told_when_it_changes(alice: End, bob: End) -> None:
    peer = introduce(alice, bob)
    assert alice.engine.told("watch") == [(peer.id, Fact.DATA_SENT | Fact.DATA_RECEIVED)]
    alice.interface.set_endpoint(peer, ORIGIN.remote, 1.0)
    assert len(alice.engine.told("watch")) == 1
    alice.engine.set_facts(peer.id, data_sent_first=2.0, authenticated_sent_last=2.0)
    alice.work(peer, Work.FACT, 2.0)
    assert alice.engine.told("watch")[1:] == [(peer.id, Fact.DATA_RECEIVED)]
    alice.interface.down(3.0)
    assert alice.engine.told("watch")[2:] == [(peer.id, Fact(0))]


def test_peers_are_listed_in_the_order_in_which_they_were_added(alice: End) -> None:
    keys = [PublicKey(bytes([n]) * 32) for n in (5, 3, 9)]
    for key in keys:
        alice.interface.add_peer(key, 0.0)
    assert list(alice.interface.peers) == keys
    assert [status.public_key for status in alice.interface.status(0.0)] == keys


def test_status_and_reprs_show_no_secret(alice: End, peer: Peer) -> None:
    shown = repr(alice.interface.status(0.0)) + repr(peer) + repr(alice.interface._local)
    for secret in (alice.interface.private_key, peer.preshared_key):
        assert secret is not None
        assert secret.to_base64() not in shown
        assert secret.to_hex() not in shown
