"""The UDP sockets of an interface: both families on one port, sticky source, ECN, and many datagrams a call.

Sending: `IP_PKTINFO` chooses the source address, `IP_TOS` the octet that carries ECN, `UDP_SEGMENT` makes one
call of a run of equal datagrams. Receiving: the same three told by the kernel, `UDP_GRO` joining datagrams of
one sender. Numbers that Python's socket module lacks are those of linux/udp.h, linux/in.h and
asm-generic/socket.h.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Endpoint, IPAddress
from wgpy.darwin import IS_DARWIN
from wgpy.protocol.actions import Origin

BIND_ATTEMPTS: Final = 100
"""How often a free port is looked for that both families have."""

BUFFER_SIZE: Final = 7 << 20
"""Octets asked for in each socket's queue, either way; a burst of superpackets has to fit."""

MOST_DATAGRAM: Final = 65535

_ORIGINS_REMEMBERED: Final = 4096

_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_MARK: Final = 36
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SO_RXQ_OVFL: Final = 40
_IP_PKTINFO: Final = 26 if IS_DARWIN else 8
_IP_MTU_DISCOVER: Final = 10
_IP_RECVTOS: Final = 27 if IS_DARWIN else 13
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0

_IN_PKTINFO: Final = struct.Struct("=i4s4s")  # interface, our address, destination in the header
_IN6_PKTINFO: Final = struct.Struct("=16sI")
_INT: Final = struct.Struct("=i")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(_IN6_PKTINFO.size) + 3 * socket.CMSG_SPACE(4)

_Ancillary = list[tuple[int, int, bytes]]

_SOURCE_ERRORS: Final = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH})
"""What a source address that we no longer have comes to, by family and kernel."""


def equal_tail_is_corrupted(release: str) -> bool:
    """Kernels 7.0 to 7.1.4 corrupt a UDP_SEGMENT send whose last datagram is as long as the others."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if found is None:
        return False
    version = tuple(int(part or 0) for part in found.groups())
    return (7, 0, 0) <= version < (7, 1, 5)


@dataclass(slots=True)
class Received:
    """`length` octets of the buffer, a datagram each `segment_size`, all of one origin and TOS."""

    length: int
    segment_size: int
    tos: int
    _socket: UdpSocket
    _address: tuple[str | int, ...]
    _pktinfo: bytes

    def origin(self) -> Origin:
        """Where from. Made when it is asked for: what strangers send is dropped without it."""
        return self._socket.origin(self._address, self._pktinfo)

    def source(self) -> tuple[bytes, int]:
        """The sender's address, 4 or 16 octets, and port."""
        host, port = str(self._address[0]), int(self._address[1])
        family = socket.AF_INET6 if self._socket.is_ipv6 else socket.AF_INET
        return socket.inet_pton(family, host.partition("%")[0]), port

    def answer(self, data: bytes) -> None:
        """Send back the way it came."""
        self._socket.answer_nowait(data, self._address, self._pktinfo)


class UdpSocket:
    """One family's socket. `drops` counts what the kernel threw away unread, `send_failures` what it
    refused.
    """

    def __init__(self, sock: socket.socket, *, gso: bool, gro: bool) -> None:
        self._socket = sock
        self.is_ipv6 = sock.family == socket.AF_INET6
        self.gso = gso
        """Runs are sent by one call. Off for good once the device refused (EIO)."""
        self.gro = gro
        self.drops = 0
        self.receive_errors = 0
        self.send_failures = 0
        self._without_gso: set[Endpoint] = set()
        self._stale_sources: set[Origin] = set()
        self._origins: dict[tuple[tuple[str | int, ...], bytes], Origin] = {}
        self._addresses: dict[Endpoint, tuple[str | int, ...]] = {}
        # Hashing an address takes longer than a send's other work, so the last of each is kept at hand.
        self._last_to: Endpoint | None = None
        self._last_address: tuple[str | int, ...] = ()
        self._last_source: Origin | None = None
        self._last_ancillary: _Ancillary = []
        self._pad_tail = equal_tail_is_corrupted(os.uname().release)

    @classmethod
    def bind(cls, family: socket.AddressFamily, port: int, fwmark: int, *, offload: bool = True) -> UdpSocket:
        """Raises OSError."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if fwmark:
                _set_mark(sock, fwmark)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
                if not IS_DARWIN:  # where nothing is to be asked for: datagrams may be fragmented
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
                if not IS_DARWIN:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
            _size_buffers(sock)
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
            # Numbers of Linux: on macOS others may have them.
            offload = offload and not IS_DARWIN
            gso = offload and _accepts(sock, _UDP_SEGMENT, 0)
            gro = offload and _accepts(sock, _UDP_GRO, 1)
        except BaseException:
            sock.close()
            raise
        return cls(sock, gso=gso, gro=gro)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def port(self) -> int:
        name: tuple[str | int, ...] = self._socket.getsockname()
        return int(name[1])

    def close(self) -> None:
        self._socket.close()

    def set_fwmark(self, mark: int) -> None:
        """Raises OSError."""
        _set_mark(self._socket, mark)

    def forget_routes(self) -> None:
        """Routes or addresses changed: what was learned of them may be wrong."""
        self._without_gso.clear()
        self._stale_sources.clear()

    # --- in ---

    def receive_nowait(self, buffer: bytearray | memoryview) -> Received | None:
        """Read one datagram or, with GRO, several of one sender, into `buffer` (64 KiB). None: there is none
        now.

        Raises OSError when the socket is closed.
        """
        try:
            length, ancillary, _, address = self._socket.recvmsg_into([buffer], _ANCILLARY_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            if error.errno in (errno.EBADF, errno.ENOTSOCK):
                raise
            self.receive_errors += 1  # of one datagram, or of one sent before: the socket goes on
            return None
        tos, segment_size, pktinfo = 0, 0, b""
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                segment_size = _INT.unpack(data)[0]
            elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                self.drops = _U32.unpack(data)[0]
            elif kind in (_IP_PKTINFO, socket.IPV6_PKTINFO):
                pktinfo = data
            else:  # IP_TOS has one octet, IPV6_TCLASS four, in our byte order
                tos = int.from_bytes(data, "little" if struct.pack("=H", 1)[0] else "big")
        return Received(length, segment_size or length, tos, self, address, pktinfo)

    def origin(self, address: tuple[str | int, ...], pktinfo: bytes) -> Origin:
        """From what the kernel said; the same object for the same path, as long as it is remembered."""
        origin = self._origins.get((address, pktinfo))
        if origin is None:
            if len(self._origins) >= _ORIGINS_REMEMBERED:
                self._origins.clear()
            origin = self._origins[address, pktinfo] = _parse_origin(address, pktinfo)
        self.note_heard(origin)
        return origin

    def note_heard(self, origin: Origin) -> None:
        """A datagram came from there: its local address is ours."""
        if self._stale_sources:
            self._stale_sources.discard(origin)

    # --- out ---

    def send_nowait(self, data: bytes | memoryview, to: Endpoint, source: Origin | None, tos: int) -> bool:
        """Send one datagram; False if the host refused it. A source that is not ours any more is left out."""
        ancillary = self._tos(tos)
        address = self._address(to)
        if source is not None and not (self._stale_sources and source in self._stale_sources):
            failure = self._try(data, self._source(source) + ancillary, address)
            if failure == 0:
                return True
            if failure not in _SOURCE_ERRORS:
                self.send_failures += 1
                return False
            if self._try(data, ancillary, address) == 0:
                self._stale_sources.add(source)
                return True
        elif self._try(data, ancillary, address) == 0:
            return True
        self.send_failures += 1
        return False

    def answer_nowait(self, data: bytes, address: tuple[str | int, ...], pktinfo: bytes) -> None:
        """Send one datagram to where another came from, from the address that one was sent to."""
        if len(pktinfo) == _IN_PKTINFO.size:
            # As it was told, for strangers are many: no objects are made of their addresses.
            source = bytes(4) + pktinfo[4:8] + bytes(4)
            if self._try(data, [(socket.IPPROTO_IP, _IP_PKTINFO, source)], address) == 0:
                return
        origin = self.origin(address, pktinfo)
        self.send_nowait(data, origin.remote, origin, 0)

    def send_run_nowait(
        self, run: bytes, segment_size: int, to: Endpoint, source: Origin | None, tos: int
    ) -> int:
        """Send datagrams of `segment_size` octets, the last may have fewer. Returns the octets that left."""
        if len(run) <= segment_size:
            return len(run) if self.send_nowait(run, to, source, tos) else 0
        if self.gso and not (self._without_gso and to in self._without_gso):
            ancillary = [*self._tos(tos), (socket.IPPROTO_UDP, _UDP_SEGMENT, _U16.pack(segment_size))]
            if source is not None and not (self._stale_sources and source in self._stale_sources):
                ancillary += self._source(source)
            sentinel = b"\0" if self._pad_tail and len(run) % segment_size == 0 else b""
            failure = self._try(run + sentinel if sentinel else run, ancillary, self._address(to))
            if failure == 0:
                return len(run)
            if failure in (errno.EAGAIN, errno.ENOBUFS):
                self.send_failures += -(-len(run) // segment_size)
                return 0
            stale = len(self._stale_sources)
            sent = self._send_each(run, segment_size, to, source, tos)
            if failure == errno.EIO:
                self.gso = False
            elif sent and stale == len(self._stale_sources) and failure in (errno.EMSGSIZE, errno.EINVAL):
                self._without_gso.add(to)
            return sent
        return self._send_each(run, segment_size, to, source, tos)

    def _send_each(self, run: bytes, segment_size: int, to: Endpoint, source: Origin | None, tos: int) -> int:
        sent = 0
        with memoryview(run) as view:
            for start in range(0, len(run), segment_size):
                datagram = view[start : start + segment_size]
                if self.send_nowait(datagram, to, source, tos):
                    sent += len(datagram)
        return sent

    def _try(self, data: bytes | memoryview, ancillary: _Ancillary, address: tuple[str | int, ...]) -> int:
        """0, or the errno."""
        try:
            self._socket.sendmsg([data], ancillary, 0, address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _address(self, to: Endpoint) -> tuple[str | int, ...]:
        if to is self._last_to:
            return self._last_address
        address = self._addresses.get(to)
        if address is None:
            if len(self._addresses) >= _ORIGINS_REMEMBERED:
                self._addresses.clear()
            address = (
                (str(to.address), to.port, 0, to.scope_id) if self.is_ipv6 else (str(to.address), to.port)
            )
            self._addresses[to] = address
        self._last_to, self._last_address = to, address
        return address

    def _tos(self, tos: int) -> _Ancillary:
        if not tos:
            return []
        if self.is_ipv6:
            return [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(tos))]
        return [(socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(tos))]

    def _source(self, source: Origin) -> _Ancillary:
        """The address alone: which interface it leaves by is the routing table's to say."""
        if source is not self._last_source:
            self._last_source, self._last_ancillary = source, self._make_source(source)
        return self._last_ancillary

    def _make_source(self, source: Origin) -> _Ancillary:
        if source.local is None or (source.local.version == 6) != self.is_ipv6:
            return []
        if not self.is_ipv6:
            info = _IN_PKTINFO.pack(0, source.local.packed, bytes(4))
            return [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
        scope = source.interface_index if source.local.is_link_local else 0
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source.local.packed, scope))]


def bind_sockets(port: int, fwmark: int, *, offload: bool = True) -> list[UdpSocket]:
    """A socket for each family the host has, all on one port; 0 picks one. Raises OSError."""
    bind = _Binder(fwmark, offload)
    for attempt in range(1, BIND_ATTEMPTS + 1):
        ipv4 = bind(socket.AF_INET, port)
        try:
            ipv6 = bind(socket.AF_INET6, ipv4.port if ipv4 else port)
        except OSError as error:
            if ipv4:
                ipv4.close()
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < BIND_ATTEMPTS:
                continue  # another program has this port in IPv6 only
            raise
        sockets = [sock for sock in (ipv4, ipv6) if sock is not None]
        if not sockets:
            raise OSError(errno.EAFNOSUPPORT, "the host has neither IPv4 nor IPv6")
        return sockets
    raise AssertionError("the last attempt returns or raises")


class _Binder:
    """Binds one family, or gives None when the host doesn't have it."""

    def __init__(self, fwmark: int, offload: bool) -> None:
        self._fwmark = fwmark
        self._offload = offload

    def __call__(self, family: socket.AddressFamily, port: int) -> UdpSocket | None:
        try:
            return UdpSocket.bind(family, port, self._fwmark, offload=self._offload)
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                return None
            raise


def _set_mark(sock: socket.socket, mark: int) -> None:
    """Raises OSError: macOS has no marks, and none is none there, too."""
    if not IS_DARWIN:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
    elif mark:
        raise OSError(errno.ENOPROTOOPT, "macOS marks no packets: leave out FwMark")


def _size_buffers(sock: socket.socket) -> None:
    """Queues for bursts, as far as the host gives them, and word of what they lost."""
    if IS_DARWIN:
        # It refuses what is more than kern.ipc.maxsockbuf.
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            size = BUFFER_SIZE
            while size > 1 << 16 and not _takes(sock, option, size):
                size //= 2
        return
    for forced, usual in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        _set_first_possible(sock, (forced, usual), BUFFER_SIZE)
    _set_first_possible(sock, (_SO_RXQ_OVFL,), 1)


def _takes(sock: socket.socket, option: int, value: int) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError:
        return False
    return True


def _set_first_possible(sock: socket.socket, options: tuple[int, ...], value: int) -> None:
    for option in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, value)
            return


def _accepts(sock: socket.socket, option: int, value: int) -> bool:
    """Whether the kernel knows this option of UDP sockets."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, option, value)
    except OSError:
        return False
    return True


def _parse_origin(address: tuple[str | int, ...], pktinfo: bytes) -> Origin:
    host, port = str(address[0]), int(address[1])
    scope_id = int(address[3]) if len(address) == 4 else 0
    remote = Endpoint(ipaddress.ip_address(host.partition("%")[0]), port, scope_id)
    local: IPAddress | None = None
    interface_index = 0
    if len(pktinfo) == _IN_PKTINFO.size:
        interface_index, packed, _ = _IN_PKTINFO.unpack(pktinfo)
        local = ipaddress.IPv4Address(packed)
    elif len(pktinfo) == _IN6_PKTINFO.size:
        packed, interface_index = _IN6_PKTINFO.unpack(pktinfo)
        local = ipaddress.IPv6Address(packed)
    return Origin(remote, local, interface_index)
