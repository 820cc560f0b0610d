"""The sockets of an interface, on the loopback."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from wgpy.addresses import Endpoint
from wgpy.protocol.actions import Origin
from wgpy.udp import BUFFER_SIZE, Received, UdpSocket, bind_sockets, equal_tail_is_corrupted

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = [socket.AF_INET, socket.AF_INET6]


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    return socket.AddressFamily(request.param)


@pytest.fixture
def ours(family: socket.AddressFamily) -> Iterator[UdpSocket]:
    sock = UdpSocket.bind(family, 0, 0)
    yield sock
    sock.close()


@pytest.fixture
def theirs(family: socket.AddressFamily) -> Iterator[UdpSocket]:
    sock = UdpSocket.bind(family, 0, 0)
    yield sock
    sock.close()


@pytest.fixture
def plain(family: socket.AddressFamily) -> Iterator[socket.socket]:
    """A socket without any of our options."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK[family], 0))
        sock.settimeout(5)
        yield sock


def at(sock: UdpSocket | socket.socket, family: socket.AddressFamily) -> Endpoint:
    port = sock.port if isinstance(sock, UdpSocket) else sock.getsockname()[1]
    return Endpoint(ip_address(LOOPBACK[family]), port)


def receive(sock: UdpSocket) -> tuple[Received, bytes]:
    ready, _, _ = select.select([sock], [], [], 5)
    assert ready, "nothing came"
    buffer = bytearray(65536)
    received = sock.receive_nowait(buffer)
    assert received is not None
    return received, bytes(buffer[: received.length])


def test_both_families_are_on_one_port() -> None:
    sockets = bind_sockets(0, 0)
    try:
        assert len(sockets) == 2
        assert sockets[0].port == sockets[1].port != 0
    finally:
        for sock in sockets:
            sock.close()


def test_a_port_in_use_is_an_error_and_leaves_nothing_open() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 0))
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use") as raised:
            bind_sockets(port, 0)
        assert raised.value.errno == errno.EADDRINUSE
    for sock in bind_sockets(port, 0):
        sock.close()


def test_another_port_is_tried_when_the_free_one_is_in_use_in_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = UdpSocket.bind
    refusals = 3

    def bind(family: socket.AddressFamily, port: int, fwmark: int, *, offload: bool = True) -> UdpSocket:
        nonlocal refusals
        if family == socket.AF_INET6 and refusals:
            refusals -= 1
            raise OSError(errno.EADDRINUSE, "in use")
        return real(family, port, fwmark, offload=offload)

    monkeypatch.setattr(UdpSocket, "bind", bind)
    sockets = bind_sockets(0, 0)
    assert len(sockets) == 2
    assert refusals == 0
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("missing", FAMILIES)
def test_a_host_without_one_family_uses_the_other(
    monkeypatch: pytest.MonkeyPatch, missing: socket.AddressFamily
) -> None:
    real = UdpSocket.bind

    def bind(family: socket.AddressFamily, port: int, fwmark: int, *, offload: bool = True) -> UdpSocket:
        if family == missing:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return real(family, port, fwmark, offload=offload)

    monkeypatch.setattr(UdpSocket, "bind", bind)
    (sock,) = bind_sockets(0, 0)
    assert sock.is_ipv6 == (missing == socket.AF_INET)
    sock.close()


def test_datagrams_may_be_fragmented_and_queues_are_large(
    ours: UdpSocket, family: socket.AddressFamily
) -> None:
    sock = ours._socket
    if family == socket.AF_INET:
        assert sock.getsockopt(socket.IPPROTO_IP, 10) == 0
    else:
        assert sock.getsockopt(socket.IPPROTO_IPV6, 23) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= min(BUFFER_SIZE, 212992)


def test_a_received_datagram_tells_sender_local_address_interface_and_tos(
    ours: UdpSocket, theirs: UdpSocket, family: socket.AddressFamily
) -> None:
    assert theirs.send_nowait(b"datagram", at(ours, family), None, 0x8A)
    received, data = receive(ours)
    assert data == b"datagram"
    assert (received.length, received.segment_size, received.tos) == (8, 8, 0x8A)
    local = ip_address(LOOPBACK[family])
    assert received.origin() == Origin(at(theirs, family), local, socket.if_nametoindex("lo"))


def test_nothing_to_receive_is_none(ours: UdpSocket) -> None:
    assert ours.receive_nowait(bytearray(65536)) is None


def test_the_same_path_is_the_same_object(
    ours: UdpSocket, theirs: UdpSocket, family: socket.AddressFamily
) -> None:
    origins = []
    for _ in range(2):
        theirs.send_nowait(b"datagram", at(ours, family), None, 0)
        origins.append(receive(ours)[0].origin())
    assert origins[0] is origins[1]


def test_the_source_address_is_the_one_asked_for() -> None:
    ours, theirs = UdpSocket.bind(socket.AF_INET, 0, 0), UdpSocket.bind(socket.AF_INET, 0, 0)
    try:
        to = at(theirs, socket.AF_INET)
        assert ours.send_nowait(b"datagram", to, Origin(to, IPv4Address("127.0.0.77"), 1), 0)
        assert receive(theirs)[0].origin().remote.address == IPv4Address("127.0.0.77")
        assert ours.send_nowait(b"datagram", to, Origin(to, IPv6Address("::1")), 0), "the other family's"
    finally:
        ours.close()
        theirs.close()


def test_a_source_that_is_not_ours_any_more_is_left_out(
    ours: UdpSocket, theirs: UdpSocket, family: socket.AddressFamily
) -> None:
    to = at(theirs, family)
    gone = ip_address("198.51.100.77" if family == socket.AF_INET else "2001:db8::77")
    for _ in range(2):
        assert ours.send_nowait(b"datagram", to, Origin(to, gone), 0)
        assert receive(theirs)[1] == b"datagram"
    assert ours.send_failures == 0
    run = bytes(100) + bytes(50)
    ours.forget_routes()
    assert ours.send_run_nowait(run, 100, to, Origin(to, gone), 0) == 150
    assert ours.gso, "the source was to blame"
    assert to not in ours._without_gso


def test_a_run_arrives_as_its_datagrams(
    ours: UdpSocket, plain: socket.socket, family: socket.AddressFamily
) -> None:
    datagrams = [bytes([number]) * 1000 for number in range(5)] + [b"tail"]
    assert ours.send_run_nowait(b"".join(datagrams), 1000, at(plain, family), None, 0) == 5004
    assert [plain.recv(65536) for _ in datagrams] == datagrams


def test_a_run_is_received_whole_with_its_segment_size(
    ours: UdpSocket, theirs: UdpSocket, family: socket.AddressFamily
) -> None:
    if not theirs.gro:
        pytest.skip("this kernel has no UDP_GRO")
    run = bytes(range(250)) * 20 + b"tail"
    assert ours.send_run_nowait(run, 1000, at(theirs, family), None, 2) == len(run)
    received, data = receive(theirs)
    assert data == run
    assert (received.segment_size, received.tos) == (1000, 2)


class Failing:
    """A socket whose sends with UDP_SEGMENT fail."""

    family = socket.AF_INET

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent: list[bytes] = []
        self.runs = 0

    def sendmsg(self, parts: list[Any], ancillary: list[Any], flags: int, address: Any) -> None:
        if any(kind == 103 for _, kind, _ in ancillary):
            self.runs += 1
            raise OSError(self.number, "refused")
        self.sent.append(bytes(parts[0]))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMSGSIZE, errno.EINVAL])
def test_a_run_that_is_refused_is_sent_one_by_one(number: int) -> None:
    failing: Any = Failing(number)
    sock = UdpSocket(failing, gso=True, gro=False)
    here, there = (Endpoint(IPv4Address("198.51.100.1"), port) for port in (1, 2))
    for to in (here, here, there):
        assert sock.send_run_nowait(b"aabbc", 2, to, None, 0) == 5
    assert failing.sent == [b"aa", b"bb", b"c"] * 3
    assert sock.gso is (number != errno.EIO), "EIO is the device's, for good"
    assert failing.runs == (1 if number == errno.EIO else 2), "the others are one endpoint's"
    sock.forget_routes()
    sock.send_run_nowait(b"aabbc", 2, here, None, 0)
    assert failing.runs == (1 if number == errno.EIO else 3), "another route may be wider"


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN])
def test_a_run_for_which_there_is_no_room_is_dropped_and_counted(number: int) -> None:
    failing: Any = Failing(number)
    sock = UdpSocket(failing, gso=True, gro=False)
    assert sock.send_run_nowait(b"aabbc", 2, Endpoint(IPv4Address("198.51.100.1"), 1), None, 0) == 0
    assert (sock.send_failures, failing.sent, sock.gso) == (3, [], True)


def test_kernels_that_corrupt_an_equal_tail_get_a_sentinel(
    ours: UdpSocket, plain: socket.socket, family: socket.AddressFamily
) -> None:
    ours._pad_tail = True
    assert ours.send_run_nowait(b"aabb", 2, at(plain, family), None, 0) == 4
    assert [plain.recv(65536) for _ in range(3)] == [b"aa", b"bb", b"\0"]
    assert ours.send_run_nowait(b"aab", 2, at(plain, family), None, 0) == 3
    assert [plain.recv(65536) for _ in range(2)] == [b"aa", b"b"]


@pytest.mark.parametrize(
    ("release", "corrupted"),
    [
        ("6.18.44-generic", False),
        ("7.0.0-rc1", True),
        ("7.0.12", True),
        ("7.1.4-300.fc45", True),
        ("7.1.5", False),
        ("7.2", False),
        ("unknown", False),
    ],
)
def test_which_kernels_corrupt_an_equal_tail(release: str, corrupted: bool) -> None:
    assert equal_tail_is_corrupted(release) is corrupted


def test_sending_where_there_is_no_route_is_false_and_counted() -> None:
    sock = UdpSocket.bind(socket.AF_INET, 0, 0)
    try:
        assert not sock.send_nowait(b"x", Endpoint(IPv4Address("255.255.255.255"), 9), None, 0)
        assert sock.send_failures == 1
    finally:
        sock.close()


@pytest.mark.root
def test_sockets_carry_the_mark(ours: UdpSocket) -> None:
    ours.set_fwmark(0xCA6C)
    assert ours._socket.getsockopt(socket.SOL_SOCKET, 36) == 0xCA6C
    marked = UdpSocket.bind(socket.AF_INET, 0, 7)
    assert struct.unpack("I", marked._socket.getsockopt(socket.SOL_SOCKET, 36, 4)) == (7,)
    marked.close()


def test_without_offload_nothing_is_joined(family: socket.AddressFamily, theirs: UdpSocket) -> None:
    sock = UdpSocket.bind(family, 0, 0, offload=False)
    try:
        assert not sock.gso
        assert not sock.gro
        assert theirs.send_run_nowait(b"aabb", 2, at(sock, family), None, 0) == 4
        assert [receive(sock)[1] for _ in range(2)] == [b"aa", b"bb"]
    finally:
        sock.close()
