"""What the operations of a request do to an interface, in whatever order they come."""

from __future__ import annotations

import errno
import random
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.addresses import Endpoint, Prefix
from wgpy.engine.portable import PortableEngine
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.actions import Origin
from wgpy.protocol.interface import Interface
from wgpy.uapi.configuration import BATCH, Configuration
from wgpy.uapi.messages import (
    AddAllowedIp,
    Operation,
    RemoveAllowedIp,
    RemovePeer,
    ReplaceAllowedIps,
    ReplacePeers,
    SelectPeer,
    SetEndpoint,
    SetFwmark,
    SetListenPort,
    SetPersistentKeepalive,
    SetPresharedKey,
    SetPrivateKey,
    SetProtocolVersion,
    UapiError,
    UpdateOnly,
)

OURS = PrivateKey(bytes([1] * 32))
KEYS = [PublicKey(bytes([n] * 32)) for n in (2, 3, 4)]
A, B, C = KEYS
PREFIXES = [ip_network(text) for text in ("10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/8", "fd00::/64", "::/0")]
ENDPOINT = Endpoint(ip_address("192.0.2.1"), 51820)


class MemoryDevice:
    """A device without a host: an interface on an engine whose datagrams are kept."""

    def __init__(self) -> None:
        self.sent: list[Endpoint] = []
        self.engine = PortableEngine(self, lambda: 0.0, random.Random(1))
        self.interface = Interface(self.engine, random.Random(2), lambda: 1_700_000_000_000_000_000)
        self.ports: list[int] = []
        self.marks: list[int] = []

    def send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        self.sent.append(to)
        return True

    def write_tun(self, packet: bytes) -> None:
        raise AssertionError("nothing comes in")

    def set_listen_port(self, port: int) -> None:
        if port == 1:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.ports.append(port)

    def set_fwmark(self, mark: int) -> None:
        if mark == 1:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.marks.append(mark)

    def apply(self, *operations: Operation) -> None:
        configuration = Configuration(self)
        try:
            for operation in operations:
                configuration.apply(operation, 0.0)
        finally:
            configuration.finish(0.0)
        self.settle()

    def settle(self) -> None:
        for event in self.engine.drain_events():
            self.interface.handle_event(event, 0.0)

    def allowed_ips(self, key: PublicKey) -> set[Prefix]:
        return set(self.engine.allowed_ips(self.interface.peers[key].id))


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()


def test_a_key_alone_makes_a_peer(device: MemoryDevice) -> None:
    device.apply(SelectPeer(A), SelectPeer(B))
    assert list(device.interface.peers) == [A, B]


def test_device_settings_reach_the_device(device: MemoryDevice) -> None:
    device.apply(SetPrivateKey(OURS), SetListenPort(7), SetFwmark(8))
    assert (device.interface.private_key, device.ports, device.marks) == (OURS, [7], [8])
    device.apply(SetPrivateKey(None))
    assert device.interface.private_key is None


@pytest.mark.parametrize("operation", [SetListenPort(1), SetFwmark(1)])
def test_a_port_or_mark_that_cannot_be_had_is_address_in_use(
    device: MemoryDevice, operation: Operation
) -> None:
    with pytest.raises(UapiError) as caught:
        device.apply(SetPrivateKey(OURS), operation)
    assert caught.value.errno == errno.EADDRINUSE
    assert device.interface.private_key == OURS


def test_settings_of_a_peer_are_kept(device: MemoryDevice) -> None:
    psk = PresharedKey(bytes([9] * 32))
    device.apply(
        SelectPeer(A),
        SetProtocolVersion(),
        SetPresharedKey(psk),
        SetEndpoint(ENDPOINT),
        SetPersistentKeepalive(25),
        AddAllowedIp(PREFIXES[0]),
    )
    peer = device.interface.peers[A]
    assert (peer.preshared_key, peer.endpoint, peer.persistent_keepalive) == (psk, ENDPOINT, 25)
    assert device.allowed_ips(A) == {PREFIXES[0]}


@pytest.mark.parametrize("before", [[], [SetPresharedKey(PresharedKey(bytes(32)))], [SetProtocolVersion()]])
def test_update_only_makes_no_peer_wherever_it_stands(device: MemoryDevice, before: list[Operation]) -> None:
    device.apply(SelectPeer(A), *before, UpdateOnly(), SetEndpoint(ENDPOINT), AddAllowedIp(PREFIXES[0]))
    assert not device.interface.peers


def test_update_only_updates_a_peer_that_is_there(device: MemoryDevice) -> None:
    device.apply(SelectPeer(A))
    device.apply(SelectPeer(A), UpdateOnly(), SetEndpoint(ENDPOINT))
    assert device.interface.peers[A].endpoint == ENDPOINT


def test_a_removed_peer_swallows_the_rest_of_its_section(device: MemoryDevice) -> None:
    device.apply(SelectPeer(A), SelectPeer(B))
    device.apply(SelectPeer(A), RemovePeer(), SetEndpoint(ENDPOINT), RemovePeer(), AddAllowedIp(PREFIXES[0]))
    assert list(device.interface.peers) == [B]
    device.apply(SelectPeer(C), RemovePeer())
    assert list(device.interface.peers) == [B]


def test_a_peer_with_our_own_key_is_ignored(device: MemoryDevice) -> None:
    device.apply(SetPrivateKey(OURS), SelectPeer(OURS.public_key()), SetEndpoint(ENDPOINT), RemovePeer())
    assert not device.interface.peers


def test_a_peer_setting_before_any_peer_is_refused(device: MemoryDevice) -> None:
    with pytest.raises(UapiError) as caught:
        device.apply(SetEndpoint(ENDPOINT))
    assert caught.value.errno == errno.EINVAL


def test_what_came_before_an_error_stays(device: MemoryDevice) -> None:
    with pytest.raises(UapiError):
        device.apply(SelectPeer(A), AddAllowedIp(PREFIXES[0]), SetListenPort(1), SelectPeer(B))
    assert list(device.interface.peers) == [A]
    assert device.allowed_ips(A) == {PREFIXES[0]}


def test_replacing_allowed_ips_leaves_those_alone_that_stay(
    device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.apply(SelectPeer(A), *map(AddAllowedIp, PREFIXES[:3]))
    touched: list[Prefix] = []
    remove = device.engine.remove_allowed_ips
    monkeypatch.setattr(
        device.engine, "remove_allowed_ips", lambda peer, gone: (touched.extend(gone), remove(peer, gone))
    )
    device.apply(SelectPeer(A), ReplaceAllowedIps(), AddAllowedIp(PREFIXES[1]), AddAllowedIp(PREFIXES[3]))
    assert device.allowed_ips(A) == {PREFIXES[1], PREFIXES[3]}
    assert set(touched) == {PREFIXES[0], PREFIXES[2]}


def test_more_peers_than_an_interface_may_have_are_refused_and_those_before_stay(
    device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgpy.protocol.interface.MAX_PEERS", 2)
    with pytest.raises(UapiError, match="at most 2 peers") as caught:
        device.apply(SelectPeer(A), SelectPeer(B), SelectPeer(C), AddAllowedIp(PREFIXES[0]))
    assert caught.value.errno == errno.EINVAL
    assert list(device.interface.peers) == [A, B]
    device.apply(SelectPeer(A), RemovePeer(), SelectPeer(C))
    assert list(device.interface.peers) == [B, C]


def test_an_allowed_ip_taken_away_while_replacing_may_be_named_again(device: MemoryDevice) -> None:
    device.apply(SelectPeer(A), AddAllowedIp(PREFIXES[0]))
    device.apply(SelectPeer(A), ReplaceAllowedIps(), RemoveAllowedIp(PREFIXES[0]), AddAllowedIp(PREFIXES[0]))
    assert device.allowed_ips(A) == {PREFIXES[0]}


def test_an_allowed_ip_that_another_request_moved_while_we_replace_is_ours_when_we_name_it(
    device: MemoryDevice,
) -> None:
    device.apply(SelectPeer(A), AddAllowedIp(PREFIXES[0]))
    ours, theirs = Configuration(device), Configuration(device)
    ours.apply(SelectPeer(A), 0.0)
    ours.apply(ReplaceAllowedIps(), 0.0)
    theirs.apply(SelectPeer(B), 0.0)
    theirs.apply(AddAllowedIp(PREFIXES[0]), 0.0)
    theirs.finish(0.0)
    ours.apply(AddAllowedIp(PREFIXES[0]), 0.0)
    ours.finish(0.0)
    assert (device.allowed_ips(A), device.allowed_ips(B)) == ({PREFIXES[0]}, set())


def test_replacing_by_nothing_removes_all(device: MemoryDevice) -> None:
    device.apply(SelectPeer(A), AddAllowedIp(PREFIXES[0]))
    device.apply(SelectPeer(A), ReplaceAllowedIps())
    assert device.allowed_ips(A) == set()


def test_more_allowed_ips_than_a_batch_all_arrive(device: MemoryDevice) -> None:
    many = [ip_network((0x0A000000 + n, 32)) for n in range(2 * BATCH + 7)]
    device.apply(SelectPeer(A), ReplaceAllowedIps(), *map(AddAllowedIp, many))
    assert device.allowed_ips(A) == set(many)


def test_a_keepalive_before_its_endpoint_is_sent_all_the_same(device: MemoryDevice) -> None:
    device.apply(SetPrivateKey(OURS))
    device.interface.up(0.0)
    device.apply(SelectPeer(A), SetPersistentKeepalive(25), SetEndpoint(ENDPOINT))
    assert device.sent == [ENDPOINT]


def test_packets_that_wait_for_a_key_have_one_asked_of_a_new_endpoint(device: MemoryDevice) -> None:
    wrong = Endpoint(ip_address("192.0.2.99"), 1)
    device.apply(SetPrivateKey(OURS), SelectPeer(A), AddAllowedIp(PREFIXES[0]), SetEndpoint(wrong))
    device.interface.up(0.0)
    device.engine.receive_packets([bytes.fromhex("45000014000000004011000000000000") + bytes([10, 0, 0, 5])])
    device.settle()
    assert device.sent == [wrong]
    device.interface.peers[A].timers.open_gate()
    device.apply(SelectPeer(A), SetEndpoint(ENDPOINT))
    assert device.sent == [wrong, ENDPOINT]


def test_a_peer_that_another_request_removed_swallows_the_rest(device: MemoryDevice) -> None:
    ours, theirs = Configuration(device), Configuration(device)
    ours.apply(SelectPeer(A), 0.0)
    ours.apply(SetEndpoint(ENDPOINT), 0.0)
    theirs.apply(ReplacePeers(), 0.0)
    ours.apply(AddAllowedIp(PREFIXES[0]), 0.0)
    ours.apply(SetPersistentKeepalive(5), 0.0)
    ours.finish(0.0)
    assert not device.interface.peers
    assert device.interface.next_deadline() is None


operations = st.one_of(
    # One of them most of the time, so that what follows is often about what was there.
    st.builds(SelectPeer, st.sampled_from([A, A, A, *KEYS, OURS.public_key()])),
    st.just(SetPrivateKey(OURS)),
    st.just(ReplacePeers()),
    st.just(UpdateOnly()),
    st.just(RemovePeer()),
    st.just(ReplaceAllowedIps()),
    st.builds(AddAllowedIp, st.sampled_from(PREFIXES)),
    st.builds(RemoveAllowedIp, st.sampled_from(PREFIXES)),
)


class Model:
    """The same rules as plainly as they can be said: applied line by line, no batches."""

    def __init__(self) -> None:
        self.peers: dict[PublicKey, set[Prefix]] = {}
        self.own: PublicKey | None = None
        self.selected: PublicKey | None = None
        self.existed = False
        self.void = True

    def apply(self, operation: Operation) -> bool:
        """False: refused."""
        match operation:
            case SetPrivateKey():
                self.end_section()
                self.own = OURS.public_key()
                self.peers.pop(self.own, None)
            case ReplacePeers():
                self.end_section()
                self.peers.clear()
            case SelectPeer(key):
                self.end_section()
                self.selected, self.existed, self.void = key, key in self.peers, key == self.own
            case _ if self.selected is None:
                return False
            case _ if not self.void:
                self.apply_to_peer(self.selected, operation)
        return True

    def apply_to_peer(self, key: PublicKey, operation: Operation) -> None:
        match operation:
            case RemovePeer():
                self.peers.pop(key, None)
                self.void = True
            case UpdateOnly():
                if not self.existed:
                    self.peers.pop(key, None)
                    self.void = True
            case ReplaceAllowedIps():
                self.peers[key] = set()
            case AddAllowedIp(prefix):
                for prefixes in self.peers.values():
                    prefixes.discard(prefix)
                self.peers.setdefault(key, set()).add(prefix)
            case RemoveAllowedIp(prefix):
                self.peers.setdefault(key, set()).discard(prefix)

    def end_section(self) -> None:
        if self.selected is not None and not self.void:
            self.peers.setdefault(self.selected, set())
        self.selected, self.void = None, True


@given(st.lists(st.lists(operations, max_size=8), max_size=5))
def test_any_requests_come_to_what_the_rules_say(requests: list[list[Operation]]) -> None:
    device, model = MemoryDevice(), Model()
    for request in requests:
        configuration = Configuration(device)
        for operation in request:
            accepted = model.apply(operation)
            try:
                configuration.apply(operation, 0.0)
            except UapiError:
                assert not accepted
                break
            assert accepted
        configuration.finish(0.0)
        model.end_section()
        assert {key: device.allowed_ips(key) for key in device.interface.peers} == model.peers
