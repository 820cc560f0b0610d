"""A utun device: a socket of the kernel's control `com.apple.net.utun_control`, with a name of its own.

Unit 0 is the first free number, N + 1 is utunN. The device goes with its last descriptor. What its packets
look like on it is in `framing.py`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
from typing import Final, Protocol, Self

from wgpy.darwin.interface import LinkState, host_ioctl, link_state, set_mtu, set_up
from wgpy.descriptor import OwnedDescriptor
from wgpy.errors import ConfigError, HostError

CONTROL_NAME: Final = b"com.apple.net.utun_control"
PF_SYSTEM: Final = 32
SYSPROTO_CONTROL: Final = 2
CTLIOCGINFO: Final = 0xC0644E03
"""_IOWR('N', 3, struct ctl_info), of 100 octets."""
UTUN_OPT_IFNAME: Final = 2
CTL_INFO: Final = struct.Struct("=I96s")
"""struct ctl_info (sys/kern_control.h): the control's number, its name."""

_NAME: Final = re.compile(r"utun(0|[1-9][0-9]{0,8})")
_ANY: Final = ("utun", "utun%d")


class Control(Protocol):
    """What is asked of the kernel; `HostControl` asks it."""

    def open(self) -> socket.socket:
        """A socket of kernel controls. Raises OSError."""

    def control_id(self, sock: socket.socket, request: bytes) -> bytes:
        """The ctl_info with its number filled in. Raises OSError."""

    def connect(self, sock: socket.socket, control_id: int, unit: int) -> None:
        """Make the device. Raises OSError."""

    def name(self, sock: socket.socket) -> bytes:
        """The device's, with a final zero. Raises OSError."""

    def ioctl(self, request: int, ifreq: bytes) -> bytes:
        """Of an interface: its ifreq → as the kernel filled it in. Raises OSError."""


class HostControl:
    """This host's kernel, if it is macOS'."""

    def open(self) -> socket.socket:
        return socket.socket(PF_SYSTEM, socket.SOCK_DGRAM, SYSPROTO_CONTROL)

    def control_id(self, sock: socket.socket, request: bytes) -> bytes:
        return fcntl.ioctl(sock.fileno(), CTLIOCGINFO, request)

    def connect(self, sock: socket.socket, control_id: int, unit: int) -> None:
        # Python makes the sockaddr_ctl of it.
        sock.connect((control_id, unit))

    def name(self, sock: socket.socket) -> bytes:
        return sock.getsockopt(SYSPROTO_CONTROL, UTUN_OPT_IFNAME, 16)

    def ioctl(self, request: int, ifreq: bytes) -> bytes:
        return host_ioctl(request, ifreq)


def unit_of(name: str) -> int:
    """The unit to ask for; `utun` and `utun%d` are the first free one. Raises ConfigError."""
    if name in _ANY:
        return 0
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigError(
            f"on macOS an interface is called utun and a number, or utun for the first free one; got {name!r}"
        )
    return int(found[1]) + 1


class Utun(OwnedDescriptor):
    """As `wgpy.tun.Tun`, of which it has no offloads and no network namespaces."""

    vnet_hdr: Final = False

    def __init__(self, fd: int, control: Control | None = None) -> None:
        """Take over `fd`. Raises HostError when it is not a utun's."""
        super().__init__(fd)
        self._control = control or HostControl()
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                self.name = os.fsdecode(self._control.name(sock).rstrip(b"\0"))
        except OSError as error:
            raise HostError(f"file descriptor {fd} is not a utun device: {error.strerror}") from error
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)

    @classmethod
    def create(cls, name: str, *, mtu: int | None = None, control: Control | None = None) -> Self:
        """Raises ConfigError for a name that cannot be, HostError for what the host refuses."""
        unit, control = unit_of(name), control or HostControl()
        try:
            with control.open() as sock:
                answer = control.control_id(sock, CTL_INFO.pack(0, CONTROL_NAME))
                control.connect(sock, CTL_INFO.unpack(answer)[0], unit)
                fd = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        except OSError as error:
            raise HostError(_refusal(name, error.errno)) from error
        try:
            tun = cls(fd, control)
            if mtu is not None:
                set_mtu(tun.name, mtu, control.ioctl)
        except OSError as error:
            os.close(fd)
            raise HostError(f"cannot set the MTU of {name} to {mtu}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        return tun

    def current_name(self) -> str:
        """A utun cannot be renamed."""
        return self.name

    def exists(self) -> bool:
        """Nobody can delete it as long as we hold its descriptor."""
        return self._fd >= 0

    def is_up(self) -> bool:
        return self.link_state().is_up

    def link_state(self) -> LinkState:
        """Raises OSError."""
        return link_state(self.name, self._control.ioctl)

    def set_up(self) -> None:
        """Raises OSError."""
        set_up(self.name, self._control.ioctl)


def _refusal(name: str, number: int | None) -> str:
    """Why the host refuses a utun device, and what to do about it."""
    match number:
        case errno.EPERM | errno.EACCES:
            return f"cannot make {name}: a utun device needs root; run it with sudo"
        case errno.EBUSY:
            return f"cannot make {name}: that number is in use; utun takes the first free one"
        case errno.EAFNOSUPPORT | errno.EPROTONOSUPPORT | errno.ENOENT:
            return f"cannot make {name}: this host has no {CONTROL_NAME.decode()}; it is macOS' since 10.6"
    return f"cannot make {name}: {os.strerror(number or errno.EIO)}"
