"""What the kernel makes of our superpackets, and we of its: data sealed between two TUNs with offloads."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.rust_binding.packets import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
from wgpy import _engine
from wgpy._engine import AllowedIps, Session

pytestmark = pytest.mark.root

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
CSUM_TSO_USO = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40
MTU = 1420
LEFT, RIGHT = "rbl", "rbr"
ADDRESSES = {LEFT: ("10.91.0.1", "fd91::1"), RIGHT: ("10.91.0.2", "fd91::2")}

TCP_RECEIVER = """
import hashlib, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 7000), family=family)
print("ready", flush=True)
connection, _ = listener.accept()
digest, size = hashlib.sha256(), 0
while data := connection.recv(1 << 20):
    digest.update(data)
    size += len(data)
print(size, digest.hexdigest())
"""
TCP_SENDER = """
import hashlib, random, socket, sys
data = random.Random(1).randbytes(1 << 20)
digest = hashlib.sha256()
connection = socket.create_connection((sys.argv[1], 7000), timeout=20)
for number in range(int(sys.argv[2])):
    part = data[number:] + data[:number]
    connection.sendall(part)
    digest.update(part)
connection.close()
print(int(sys.argv[2]) << 20, digest.hexdigest())
"""
# One superpacket at a time, acknowledged: UDP loses what the receiver has no room for.
UDP_RECEIVER = """
import hashlib, socket, sys
endpoint = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
endpoint.bind((sys.argv[1], 7000))
endpoint.settimeout(20)
print("ready", flush=True)
digest, size = hashlib.sha256(), 0
while True:
    data, sender = endpoint.recvfrom(65535)
    if data == b"end":
        break
    digest.update(data)
    size += len(data)
    if len(data) < 1200:
        endpoint.sendto(b"ok", sender)
print(size, digest.hexdigest())
"""
UDP_SENDER = """
import hashlib, random, socket, sys
endpoint = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
endpoint.settimeout(20)
endpoint.connect((sys.argv[1], 7000))
endpoint.setsockopt(socket.IPPROTO_UDP, 103, 1200)
digest, size = hashlib.sha256(), 0
for number in range(int(sys.argv[2])):
    data = random.Random(number).randbytes(30 * 1200 + 77)
    endpoint.send(data)
    digest.update(data)
    size += len(data)
    assert endpoint.recv(10) == b"ok"
endpoint.send(b"end")
print(size, digest.hexdigest())
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(fd, TUNSETOFFLOAD, CSUM_TSO_USO)
    return fd


@dataclass
class Wire:
    """Reads either TUN, seals what comes, opens it for the other side and writes it there."""

    fds: dict[str, int]
    read: Counter[int] = field(default_factory=Counter)
    """Reads, by GSO type."""
    written: Counter[int] = field(default_factory=Counter)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._stop, self._stopped = os.pipe()
        self._sessions = {
            LEFT: Session(bytes(32), True, 1, 2, 1, 0.0),
            RIGHT: Session(bytes(32), False, 2, 1, 2, 0.0),
        }
        self._allowed_ips = {LEFT: AllowedIps(), RIGHT: AllowedIps()}
        self._allowed_ips[LEFT].insert_many(1, [(bytes(4), 0), (bytes(16), 0)])
        self._allowed_ips[RIGHT].insert_many(2, [(bytes(4), 0), (bytes(16), 0)])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                ready, _, _ = select.select([self._stop, *self.fds.values()], [], [])
                if self._stop in ready:
                    return
                for side, other in ((LEFT, RIGHT), (RIGHT, LEFT)):
                    if self.fds[side] in ready:
                        self._carry(side, other)
        except BaseException as error:
            self.failure = error

    def _carry(self, side: str, other: str) -> None:
        packets = []
        while len(packets) < 8:
            try:
                packets.append(os.read(self.fds[side], 65545))
            except BlockingIOError:
                break
        self.read.update(packet[1] & 0x7F for packet in packets)
        runs = self._sessions[side].seal_packets(packets, MTU, 1.0, vnet_hdr=True)
        assert runs is not None
        sessions = {session.local_index: session for session in self._sessions.values()}
        for datagrams, segment_size, _ in runs:
            opened, others, unknown = _engine.open_datagrams(
                datagrams,
                len(datagrams),
                segment_size,
                sessions,
                self._allowed_ips[other],
                1.0,
                vnet_hdr=True,
            )
            assert (others, unknown) == ([], 0)
            for packet in opened[0].packets:
                self.written[packet[1]] += 1
                assert os.write(self.fds[other], packet) == len(packet)

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        for fd in (self._stop, self._stopped):
            os.close(fd)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def wire() -> Iterator[Wire]:
    namespaces = {name: f"{name}-{os.getpid()}" for name in (LEFT, RIGHT)}
    fds = {}
    try:
        for name, namespace in namespaces.items():
            device = f"{name}{os.getpid()}"
            ip("netns", "add", namespace)
            fds[name] = open_tun(device)
            ip("link", "set", device, "netns", namespace)
            ip("-n", namespace, "link", "set", device, "mtu", str(MTU))
            ip("-n", namespace, "address", "add", f"{ADDRESSES[name][0]}/24", "dev", device)
            ip("-n", namespace, "address", "add", f"{ADDRESSES[name][1]}/64", "nodad", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        wire = Wire(fds)
        yield wire
        wire.close()
    finally:
        for fd in fds.values():
            os.close(fd)
        for namespace in namespaces.values():
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def inside(name: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", f"{name}-{os.getpid()}", sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def transfer(receiver_program: str, sender_program: str, address: str, amount: int) -> None:
    receiver = inside(RIGHT, receiver_program, address)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    sender = inside(LEFT, sender_program, address, str(amount))
    sent, errors = sender.communicate(timeout=60)
    assert sender.returncode == 0, errors
    received, errors = receiver.communicate(timeout=60)
    assert receiver.returncode == 0, errors
    assert received == sent


@pytest.mark.parametrize(("family", "gso_type"), [(0, GSO_TCPV4), (1, GSO_TCPV6)])
def test_a_tcp_stream_arrives_whole_in_superpackets(wire: Wire, family: int, gso_type: int) -> None:
    transfer(TCP_RECEIVER, TCP_SENDER, ADDRESSES[RIGHT][family], 40)
    assert wire.read[gso_type] > 100
    assert wire.written[gso_type] > 100
    # 40 MiB are some 30,700 segments: most of them travelled in company.
    assert wire.written[gso_type] + wire.written[GSO_NONE] < 15_000


@pytest.mark.parametrize("family", [0, 1])
def test_udp_superpackets_arrive_whole(wire: Wire, family: int) -> None:
    transfer(UDP_RECEIVER, UDP_SENDER, ADDRESSES[RIGHT][family], 200)
    assert wire.read[GSO_UDP_L4] == 200
    assert wire.written[GSO_UDP_L4] == 200
