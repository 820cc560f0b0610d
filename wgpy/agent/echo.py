"""An ICMP echo through the tunnel: what `wgpy ping` asks the agent for."""

from __future__ import annotations

import errno
import os
import struct
from ipaddress import IPv4Address
from typing import Final

import trio

from wgpy.addresses import IPAddress
from wgpy.errors import HostError

_HEADER: Final = struct.Struct("!BBHHH")
_PAYLOAD: Final = bytes(range(48))


def _checksum(data: bytes) -> int:
    """RFC 1071; `data` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def encode_echo(address: IPAddress, identifier: int, sequence: int) -> bytes:
    """An echo request; the kernel fills in the checksum of ICMPv6."""
    kind = 8 if isinstance(address, IPv4Address) else 128
    checksum = 0
    if kind == 8:
        checksum = _checksum(_HEADER.pack(kind, 0, 0, identifier, sequence) + _PAYLOAD)
    return _HEADER.pack(kind, 0, checksum, identifier, sequence) + _PAYLOAD


def is_reply_untrusted(data: bytes, address: IPAddress, identifier: int | None, sequence: int) -> bool:
    """Whether it answers that request. `identifier` None: the kernel chose it and filters by it."""
    if isinstance(address, IPv4Address) and data and data[0] >> 4 == 4:
        data = data[(data[0] & 15) * 4 :]  # a raw IPv4 socket shows the IP header
    if len(data) < _HEADER.size:
        return False
    kind, _, _, found, number = _HEADER.unpack_from(data)
    wanted = 0 if isinstance(address, IPv4Address) else 129
    return kind == wanted and number == sequence and identifier in (None, found)


def _open(address: IPAddress) -> tuple[trio.socket.SocketType, bool]:
    """An ICMP socket, and whether it is raw: the kind for everybody is tried first (ping_group_range)."""
    v4 = isinstance(address, IPv4Address)
    family = trio.socket.AF_INET if v4 else trio.socket.AF_INET6
    protocol = trio.socket.IPPROTO_ICMP if v4 else trio.socket.IPPROTO_ICMPV6
    for kind in (trio.socket.SOCK_DGRAM, trio.socket.SOCK_RAW):
        try:
            return trio.socket.socket(family, kind, protocol), kind == trio.socket.SOCK_RAW
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
                raise
    raise HostError(
        "no permission for an ICMP socket: the agent needs CAP_NET_RAW, or its group a place in "
        "net.ipv4.ping_group_range; or use: ping " + str(address)
    )


async def echo(address: IPAddress, sequence: int, timeout: float) -> float | None:
    """The round-trip time in seconds of one echo, None: no answer in time. Raises HostError."""
    socket, is_raw = _open(address)
    identifier = int.from_bytes(os.urandom(2), "big")
    with socket:
        try:
            started = trio.current_time()
            await socket.sendto(encode_echo(address, identifier, sequence & 0xFFFF), (str(address), 0))
            with trio.move_on_after(timeout):
                while True:
                    data, source = await socket.recvfrom(2048)
                    wanted = identifier if is_raw else None
                    is_from = source[0].partition("%")[0] == str(address)
                    if is_from and is_reply_untrusted(data, address, wanted, sequence & 0xFFFF):
                        return trio.current_time() - started
        except OSError as error:
            if error.errno in (errno.ENOKEY, errno.EDESTADDRREQ, errno.EHOSTUNREACH):
                return None  # what WireGuard says of a peer that it cannot reach (yet)
            raise HostError(f"cannot send an echo to {address}: {error.strerror}") from None
    return None
