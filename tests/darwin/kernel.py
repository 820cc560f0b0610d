"""What stands in for macOS' kernel: a pair of sockets in the place of a utun, and what its ioctls answer.

It checks each request to the octet, and answers as xnu's headers say; whether those are read rightly only a
Mac can tell.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from wgpy.darwin.framing import HEADER_SIZE

CONTROL_ID = 7


class FakeKernel:
    """Of one host. `outside` has the kernel's end of each device, by name."""

    def __init__(self, *, refuses: int = 0) -> None:
        self.outside: dict[str, socket.socket] = {}
        self.flags: dict[str, int] = {}
        self.mtu: dict[str, int] = {}
        self._refuses = refuses
        self._names: dict[tuple[int, int], str] = {}
        self._new: socket.socket | None = None

    def close(self) -> None:
        for sock in (*self.outside.values(), self._new):
            if sock is not None:
                sock.close()

    # --- wgpy.darwin.utun.Control

    def open(self) -> socket.socket:
        ours, self._new = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return ours

    def control_id(self, sock: socket.socket, request: bytes) -> bytes:
        assert request == bytes(4) + b"com.apple.net.utun_control" + bytes(96 - 26)
        return struct.pack("=I", CONTROL_ID) + request[4:]

    def connect(self, sock: socket.socket, control_id: int, unit: int) -> None:
        assert control_id == CONTROL_ID
        if self._refuses:
            raise OSError(self._refuses, os.strerror(self._refuses))
        free = next(number for number in range(100) if f"utun{number}" not in self.outside)
        name = f"utun{free if unit == 0 else unit - 1}"
        if name in self.outside:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        assert self._new is not None
        self.outside[name], self._new = self._new, None
        self.flags[name], self.mtu[name] = 0x8050, 1500  # point to point, running, multicast
        self._names[_identity(sock)] = name

    def name(self, sock: socket.socket) -> bytes:
        name = self._names.get(_identity(sock))
        if name is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.fsencode(name) + b"\0"

    def ioctl(self, request: int, ifreq: bytes) -> bytes:
        assert len(ifreq) == 32
        name = os.fsdecode(ifreq[:16].rstrip(b"\0"))
        if name not in self.flags:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        match request:
            case 0xC0206911:
                return ifreq[:16] + struct.pack("=H", self.flags[name]) + bytes(14)
            case 0x80206910:
                self.flags[name] = struct.unpack("=H", ifreq[16:18])[0]
            case 0xC0206933:
                return ifreq[:16] + struct.pack("=i", self.mtu[name]) + bytes(12)
            case 0x80206934:
                self.mtu[name] = struct.unpack("=i", ifreq[16:20])[0]
            case _:
                raise OSError(errno.ENOTTY, hex(request))
        return ifreq

    # --- the host's side of a device

    def send(self, name: str, packet: bytes) -> None:
        """As programs of the host do."""
        family = 30 if packet[0] >> 4 == 6 else 2
        self.outside[name].send(family.to_bytes(HEADER_SIZE, "big") + packet)

    def received(self, name: str) -> bytes:
        """What the device gave to the host, with its header."""
        return self.outside[name].recv(65536)


def _identity(sock: socket.socket) -> tuple[int, int]:
    found = os.fstat(sock.fileno())
    return found.st_dev, found.st_ino
