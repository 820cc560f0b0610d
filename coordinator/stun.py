"""STUN beside the API: nodes ask, from their tunnel's own socket, where they are seen from outside.

It answers on the UDP port of the API's number, and on the next one, which each answer names: a node that is
seen with two ports there is behind a NAT that maps by destination. Who names himself gets a receipt.
Nothing is kept of who asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from wgpy.addresses import Endpoint, IPAddress
from wgpy.mesh.receipt import ReceiptKey
from wgpy.mesh.stun import encode_binding_answer, parse_binding_request_untrusted

logger = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""Requests answered before others get their turn."""
PAUSE: Final = 0.02
"""Seconds without answers after that many: what a flood brings beyond that, the kernel drops."""
_MAX_REQUEST: Final = 1024
_PKTINFO4: Final = struct.Struct("=I4s4s")
_PKTINFO6: Final = struct.Struct("=16sI")
_IP_PKTINFO: Final = 8  # <linux/in.h>; Python 3.11 does not name it


def open_stun_sockets(listener: socket.socket) -> list[socket.socket]:
    """The API's address and port, over UDP, and the next port; fewer when they are taken, which is logged."""
    host, port = listener.getsockname()[:2]
    opened: list[socket.socket] = []
    for number in (port, port + 1):
        udp = socket.socket(listener.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if listener.family == socket.AF_INET6:
                only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            udp.bind((host, number))
        except (OSError, OverflowError) as error:
            udp.close()
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            logger.warning(
                "no STUN at UDP port %d (%s): nodes behind NATs find fewer direct paths", number, reason
            )
            break
        opened.append(udp)
    return opened


class StunServer:
    """Answers at these sockets, on the running event loop, until it is closed."""

    def __init__(self, sockets: list[socket.socket], receipts: ReceiptKey) -> None:
        self._receipts = receipts
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        ports = [one.getsockname()[1] for one in sockets]
        self._others = dict(zip(sockets, reversed(ports), strict=True)) if len(ports) > 1 else {}
        for one in sockets:
            self._listen(one)

    def close(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one.fileno())
            one.close()

    def _listen(self, udp: socket.socket) -> None:
        if udp.fileno() >= 0:
            self._loop.add_reader(udp.fileno(), self._answer, udp)

    def _answer(self, udp: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                request, ancillary, _, source = udp.recvmsg(_MAX_REQUEST, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error that an answer caused
            answer = self._make_answer(udp, request, ancillary, source)
            if answer is not None and len(answer) <= len(request):  # nobody's amplifier
                with contextlib.suppress(OSError):
                    udp.sendmsg([answer], list(_same_source(ancillary)), 0, source)
        self._loop.remove_reader(udp.fileno())
        self._loop.call_later(PAUSE, self._listen, udp)

    def _make_answer(
        self,
        udp: socket.socket,
        request: bytes,
        ancillary: list[tuple[int, int, bytes]],
        source: tuple[str, int],
    ) -> bytes | None:
        question = parse_binding_request_untrusted(request)
        if question is None:
            return None
        mapped = Endpoint(_address(ipaddress.ip_address(source[0].partition("%")[0])), source[1])
        asked = next((_local_address(data) for _, _, data in ancillary), None)
        other = self._others.get(udp)
        receipt = b""
        if question.tag:
            receipt = self._receipts.make(question.tag, mapped.address, int(time.time()))
        named = None if other is None or asked is None else Endpoint(asked, other)
        return encode_binding_answer(question.transaction, mapped, named, receipt)


def _local_address(pktinfo: bytes) -> IPAddress | None:
    """Where a request was sent to."""
    if len(pktinfo) == _PKTINFO4.size:
        return ipaddress.IPv4Address(_PKTINFO4.unpack(pktinfo)[2])
    if len(pktinfo) == _PKTINFO6.size:
        return _address(ipaddress.IPv6Address(_PKTINFO6.unpack(pktinfo)[0]))
    return None


def _same_source(ancillary: list[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """Answer from the address that was asked: NATs let no other in."""
    for level, kind, data in ancillary:
        if len(data) == _PKTINFO4.size:
            _, local, _ = _PKTINFO4.unpack(data)
            yield level, kind, _PKTINFO4.pack(0, local, bytes(4))
        elif len(data) == _PKTINFO6.size:
            yield level, kind, data


def _address(address: IPAddress) -> IPAddress:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
