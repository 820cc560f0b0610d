"""The portable engine on a real host: trio moves packets between the TUN and the sockets, a batch a turn.

Each descriptor has a task that reads until it is empty, but only so much before the others get their turn:
control is never starved by packets. Nothing is awaited for a single packet.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from typing import Final

import trio

from wgpy import _engine
from wgpy.addresses import Endpoint
from wgpy.clock import boottime
from wgpy.darwin import IS_DARWIN, framing
from wgpy.engine.ends import Run
from wgpy.engine.portable import PortableEngine
from wgpy.engine.tuples import to_origin
from wgpy.protocol.actions import Origin, PeerId
from wgpy.udp import MOST_DATAGRAM, UdpSocket, bind_sockets

SIFTED_A_CALL: Final = 16
"""Datagrams of strangers that one receive deals with during a flood."""

FLOOD_HOLD: Final = 1.0
"""Seconds for which strangers are sifted after the last that was told to be one."""

_ORIGINS_REMEMBERED: Final = 4096
PACKETS_A_TURN: Final = 64
"""Reads of the TUN, or of a socket, before others get their turn."""

_MOST_PACKET: Final = MOST_DATAGRAM + _engine.VIRTIO_NET_HDR_SIZE

READ_FAILURES_IN_A_ROW: Final = 100
"""After some five seconds of nothing but errors the TUN is given up."""

_TUN_GONE: Final = frozenset({errno.EBADF, getattr(errno, "EBADFD", errno.EBADF), errno.ENODEV, errno.ENXIO})
_GSO_NONE: Final = 0
_NO_OFFLOAD: Final = bytes(_engine.VIRTIO_NET_HDR_SIZE)


class _HostEnds:
    """The TUN and the sockets."""

    def __init__(self, is_utun: bool) -> None:
        self._is_utun = is_utun
        self.tun_fd: int | None = None
        self.vnet_hdr = False
        self.sockets: list[UdpSocket] = []
        self.tun_drops = 0
        self._ipv4: UdpSocket | None = None
        self._ipv6: UdpSocket | None = None
        self._splits_superpackets = False

    def set_sockets(self, sockets: Sequence[UdpSocket]) -> None:
        self.sockets = list(sockets)
        self._ipv4 = next((each for each in sockets if not each.is_ipv6), None)
        self._ipv6 = next((each for each in sockets if each.is_ipv6), None)

    def send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        sock = self._ipv4 if to.address.version == 4 else self._ipv6
        return sock is not None and sock.send_nowait(data, to, source, tos)

    def send_run(self, run: Run, to: Endpoint, source: Origin | None) -> int:
        sock = self._ipv4 if to.address.version == 4 else self._ipv6
        datagrams, segment_size, tos = run
        return 0 if sock is None else sock.send_run_nowait(datagrams, segment_size, to, source, tos)

    def write_tun(self, packet: bytes) -> None:
        if self.tun_fd is None:
            self.tun_drops += 1
            return
        if self._splits_superpackets and packet[1] != _GSO_NONE:
            self._write_split(packet)
            return
        try:
            (framing.write_packet if self._is_utun else os.write)(self.tun_fd, packet)
        except OSError as error:
            if error.errno == errno.EINVAL and self.vnet_hdr and packet[1] != _GSO_NONE:
                self._splits_superpackets = True  # some kernels refuse what they once took (6.6.44)
                self._write_split(packet)
            else:  # down, or gone, which whoever reads will be told
                self.tun_drops += 1

    def _write_split(self, packet: bytes) -> None:
        for each in _engine.split_superpacket(packet):
            self.write_tun(_NO_OFFLOAD + each)


class _Sifted:
    """Where a datagram came from that Rust has received: made into an origin when it is asked for."""

    __slots__ = ("_engine", "_raw", "_socket")

    def __init__(self, engine: PortableDeviceEngine, sock: UdpSocket, raw: _engine._OriginTuple) -> None:
        self._engine = engine
        self._socket = sock
        self._raw = raw

    def origin(self) -> Origin:
        origin = self._engine.origin_of(self._raw)
        self._socket.note_heard(origin)
        return origin

    def source(self) -> tuple[bytes, int]:
        return self._raw[0], self._raw[1]

    def answer(self, data: bytes) -> None:
        origin = self.origin()
        self._engine.send_datagram(data, origin.remote, origin)


class PortableDeviceEngine(PortableEngine):
    """See `wgpy.engine.DeviceEngine`."""

    wants_vnet_hdr: bool

    def __init__(self, *, offload: bool = True, is_utun: bool = IS_DARWIN) -> None:
        """Without `offload` each packet has its own system call both ways. `is_utun`: packets of the TUN have
        macOS' header.
        """
        self._host = _HostEnds(is_utun)
        self._is_utun = is_utun
        strangers = _engine.FirstDefence()
        super().__init__(
            self._host, boottime, random.SystemRandom(),
            run_ends=self._host if offload else None, defence=strangers,
        )  # fmt: skip
        self._sieve: _engine.Sieve | None = None
        if hasattr(_engine, "Sieve"):
            self._sieve = _engine.Sieve(strangers, self._indices.entries, self._sessions)
        self._origins: dict[_engine._OriginTuple, Origin] = {}
        self._offload = offload
        self.wants_vnet_hdr = offload
        self._buffer = bytearray(MOST_DATAGRAM + 1)
        self._nursery: trio.Nursery | None = None
        self.tun_read_errors = 0
        """Reads of the TUN that failed and were tried again."""
        self._closed = trio.Event()
        self._something_happened = trio.Event()
        self.events.wake = self._wake

    @property
    def tun_drops(self) -> int:
        """Packets that the host did not take: the interface was down, or it disliked them."""
        return self._host.tun_drops

    @property
    def sockets(self) -> Sequence[UdpSocket]:
        """Those bound, for what they count and which offloads they found."""
        return self._host.sockets

    # --- life cycle ---

    def open(self, tun_fd: int, mtu: int, vnet_hdr: bool) -> None:
        self._host.tun_fd = tun_fd
        self._host.vnet_hdr = self.vnet_hdr = vnet_hdr
        self.mtu = mtu
        if self._nursery is not None:
            self._nursery.start_soon(self._pump_tun, tun_fd)

    def bind(self, port: int, fwmark: int) -> int:
        self.unbind()
        sockets = bind_sockets(port, fwmark, offload=self._offload)
        self._host.set_sockets(sockets)
        self.listen_port = sockets[0].port
        if self._nursery is not None:
            for sock in sockets:
                self._nursery.start_soon(self._pump_socket, sock)
        return self.listen_port

    def unbind(self) -> None:
        for sock in self._host.sockets:
            if self._nursery is not None:
                trio.lowlevel.notify_closing(sock)
            sock.close()
        self._host.set_sockets(())
        self.listen_port = 0
        self.events.discard_handshakes()
        self.forget_source(None)

    def set_fwmark(self, mark: int) -> None:
        for sock in self._host.sockets:
            sock.set_fwmark(mark)
        self.forget_source(None)

    def set_mtu(self, mtu: int) -> None:
        self.mtu = mtu

    def forget_source(self, peer: PeerId | None) -> None:
        super().forget_source(peer)
        if peer is None:
            for sock in self._host.sockets:
                sock.forget_routes()

    def close(self) -> None:
        self.unbind()
        self._host.tun_fd = None
        self.wipe()
        self._closed.set()
        self._wake()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                if self._host.tun_fd is not None:
                    nursery.start_soon(self._pump_tun, self._host.tun_fd)
                for sock in self._host.sockets:
                    nursery.start_soon(self._pump_socket, sock)
                task_status.started()
                await self._closed.wait()
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    # --- events ---

    def _wake(self) -> None:
        self._something_happened.set()

    async def wait_events(self) -> None:
        if self.events:
            await trio.lowlevel.checkpoint()
            return
        self._something_happened = trio.Event()
        await self._something_happened.wait()

    # --- packets ---

    async def _pump_tun(self, fd: int) -> None:
        failures = 0
        while self._host.tun_fd == fd:
            packets: list[bytes] = []
            failure = 0
            read = framing.read_packet if self._is_utun else os.read
            try:
                while len(packets) < PACKETS_A_TURN:
                    packets.append(read(fd, _MOST_PACKET))
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                failure = error.errno or errno.EIO
            if packets:
                failures = 0
                self.receive_packets(packets)
            if failure:
                # One packet that the driver cannot give to us (EINVAL), or no memory now: the next may come.
                self.tun_read_errors += 1
                failures += 1
                if failure in _TUN_GONE or failures >= READ_FAILURES_IN_A_ROW:
                    self._tun_failed(os.strerror(failure))
                    return
                await trio.sleep(failures / 1000)
            elif len(packets) == PACKETS_A_TURN:
                await trio.lowlevel.checkpoint()
            else:
                try:
                    await trio.lowlevel.wait_readable(fd)
                except (trio.ClosedResourceError, OSError):
                    self._tun_failed("its descriptor was closed")
                    return

    def _tun_failed(self, why: str) -> None:
        if self._host.tun_fd is not None:
            self._host.tun_fd = None
            self.events.put_failure(f"the TUN device is gone: {why}")

    def _receive_from(self, sock: UdpSocket) -> bool:
        """Take in what one call brings. False: there is nothing more now."""
        if self.flooded_at > 0.0 and self._sieve is not None and not self._relays:
            now = boottime()
            if now - self.flooded_at < FLOOD_HOLD:
                return self._sift(self._sieve, sock, now)
        received = sock.receive_nowait(self._buffer)
        if received is None:
            return False
        self.receive_datagrams(self._buffer, received.length, received.segment_size, received, received.tos)
        return True

    def _sift(self, sieve: _engine.Sieve, sock: UdpSocket, now: float) -> bool:
        """As `_receive_from`, during a flood: Rust receives, and answers strangers meanwhile."""
        received, kept, overflows = sieve.receive(
            sock.fileno(), sock.is_ipv6, self._buffer, self.events.handshake_depth, now,
            not self._expected, SIFTED_A_CALL,
        )  # fmt: skip
        if overflows:
            sock.drops = overflows
        for reason, count in kept:
            self.flooded_at = now
            self.drops[reason] += count
        if received is None:
            return bool(kept)
        length, segment_size, tos, raw, is_judged = received
        heard = _Sifted(self, sock, raw)
        if is_judged:
            self.receive_judged(bytes(self._buffer[:length]), heard.origin())
        else:
            self.receive_datagrams(self._buffer, length, segment_size, heard, tos)
        return True

    def origin_of(self, raw: _engine._OriginTuple) -> Origin:
        """The same object for the same path, as long as it is remembered."""
        origin = self._origins.get(raw)
        if origin is None:
            if len(self._origins) >= _ORIGINS_REMEMBERED:
                self._origins.clear()
            origin = self._origins[raw] = to_origin(raw)
        return origin

    async def _pump_socket(self, sock: UdpSocket) -> None:
        while sock in self._host.sockets:
            for _ in range(PACKETS_A_TURN):
                if not self._receive_from(sock):
                    break
            else:
                await trio.lowlevel.checkpoint()
                continue
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
