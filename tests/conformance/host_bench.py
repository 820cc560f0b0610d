"""An engine on a real TUN and real sockets, in a network namespace of its own.

The far end is a few sockets on the loopback, the host a packet socket on the TUN: what it sends is routed to
the engine, what it hears is what the engine gave to the kernel. The TUN has no address, so the kernel adds
nothing of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import trio

from tests.conformance.bench import Bench, Sent
from wgpy import _engine
from wgpy.addresses import Endpoint
from wgpy.clock import boottime
from wgpy.engine import DatagramFilter
from wgpy.engine.portable_io import PortableDeviceEngine
from wgpy.protocol import actions
from wgpy.protocol.actions import Origin, OtherDatagram
from wgpy.tun import Offload, Tun

SENDERS = 4
MTU = 1420
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_BARRIER = b"\x01\x01\x00\x00\x21\x12\xa4\x42conformance!"
"""To the engine an answer to a STUN request, whose transaction is always expected."""
_PLAIN = bytes(_engine.VIRTIO_NET_HDR_SIZE)


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """A network namespace for this thread, with nothing but a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if libc.setns(before.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


class HostBench(Bench):
    """Used within `private_network`; `start` first, `stop` last."""

    def __init__(self, engine: PortableDeviceEngine) -> None:
        self.rng = random.Random(21)
        self.engine = self.device_engine = engine
        self._events: list[actions.Event] = []
        self._barriers = 0

        self.tun = Tun.create("wgc0", vnet_hdr=engine.wants_vnet_hdr)
        if engine.wants_vnet_hdr:
            assert self.tun.set_offload(
                Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
            )
        with open("/proc/sys/net/ipv6/conf/wgc0/disable_ipv6", "w") as switch:
            switch.write("1")
        subprocess.run(["ip", "link", "set", "wgc0", "up", "mtu", str(MTU)], check=True)
        engine.open(self.tun.fileno(), MTU, engine.wants_vnet_hdr)
        # The far end first: its port might be the very one that the engine picks.
        self._senders = [self._make_sender(number) for number in range(SENDERS)]
        self.port = engine.bind(0, 0)

        self._host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._host.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._host.bind(("wgc0", _ETH_P_ALL))
        self._host.setblocking(False)
        self.expect(DatagramFilter())

    @staticmethod
    def _make_sender(number: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((f"127.0.0.{10 + number}", 51820))
        sock.setblocking(False)
        return sock

    def stop(self) -> None:
        self.device_engine.close()
        for sock in (*self._senders, self._host):
            sock.close()
        self.tun.close()

    @property
    def now(self) -> float:  # type: ignore[override]
        return boottime()

    def sender(self, number: int = 0) -> Endpoint:
        return Endpoint(IPv4Address("127.0.0.10") + number, 51820)

    async def arrives(self, *datagrams: bytes, sender: int = 0, tos: int = 0) -> None:
        ancillary = [(socket.IPPROTO_IP, socket.IP_TOS, struct.pack("=i", tos))]
        for datagram in datagrams:
            self._senders[sender].sendmsg([datagram], ancillary, 0, ("127.0.0.1", self.port))
        await self._settle()

    async def _settle(self) -> None:
        """Whatever reached the socket before now was dealt with: a datagram sent last came up."""
        self._barriers += 1
        barrier = _BARRIER + struct.pack("!I", self._barriers)
        self._senders[0].sendto(barrier, ("127.0.0.1", self.port))
        with trio.fail_after(5):
            while not any(isinstance(each, OtherDatagram) and each.data == barrier for each in self._events):
                await self.device_engine.wait_events()
                self._events += self.device_engine.drain_events()

    async def departed(self) -> list[Sent]:
        sent = []
        for number, sock in enumerate(self._senders):
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, ancillary, _, (host, port) = sock.recvmsg(65536, 64)
                    tos = next((info[0] for _, kind, info in ancillary if kind == socket.IP_TOS), None)
                    source = Origin(Endpoint(IPv4Address(host), port))
                    sent.append(Sent(data, self.sender(number), source, tos))
        return sent

    async def host_sends(self, *packets: bytes) -> None:
        for packet in packets:
            protocol = _ETH_P_IPV6 if packet[0] >> 4 == 6 else _ETH_P_IP
            self._host.sendto(_PLAIN + packet, ("wgc0", protocol))
        poll = select.poll()
        poll.register(self.tun.fileno(), select.POLLIN)
        with trio.fail_after(5):
            while poll.poll(0):  # what is read is dealt with before anyone else gets a turn
                await trio.lowlevel.checkpoint()

    async def host_got(self) -> list[bytes]:
        packets = []
        self._host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # tells once that the link was down
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = self._host.recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING:
                    packets += _engine.split_superpacket(packet)
        return packets

    async def events(self) -> list[actions.Event]:
        self._events += self.device_engine.drain_events()
        while self.device_engine.events:
            self._events += self.device_engine.drain_events()
        events, self._events = self._events, []
        return [
            each
            for each in events
            if not (isinstance(each, OtherDatagram) and each.data.startswith(_BARRIER))
        ]

    def expect(self, datagrams: DatagramFilter) -> None:
        transactions = datagrams.stun_transactions | {_BARRIER[8:]}
        self.device_engine.expect(DatagramFilter(transactions, datagrams.remotes))

    def drops(self) -> int:
        return self.device_engine.drops.total()
