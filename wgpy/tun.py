"""A TUN device: made here, used by the engine through its file descriptor.

python-pytun makes it where that has a wheel, our own ioctl elsewhere; from then on both are the same
descriptor, set non-blocking and close-on-exec. Constants are linux/if_tun.h's.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import select
import socket
import struct
from typing import Final, Self

from wgpy.descriptor import OwnedDescriptor
from wgpy.errors import ConfigError, HostError

try:
    import pytun
except ImportError:
    pytun = None

NAME_SIZE: Final = 15
"""Octets in an interface's name, at most (IFNAMSIZ less its final zero)."""

_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNGETIFF: Final = 0x800454D2
_TUNGETDEVNETNS: Final = 0x54E3
_IFF_TUN: Final = 0x0001
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_SIOCSIFMTU: Final = 0x8922
_IFREQ: Final = struct.Struct("16sH22x")
_IFREQ_INT: Final = struct.Struct("16si20x")


class Offload(enum.IntFlag):
    """What the kernel may hand over unfinished on a device with virtio headers (TUN_F_…)."""

    CSUM = 0x01
    TSO4 = 0x02
    TSO6 = 0x04
    TSO_ECN = 0x08
    USO4 = 0x20
    USO6 = 0x40


def check_name(name: str) -> str:
    """The name, if an interface may have it; `%d` stands for the first free number. Raises ConfigError."""
    encoded = os.fsencode(name)
    if not 1 <= len(encoded) <= NAME_SIZE:
        raise ConfigError(f"an interface name has 1 to {NAME_SIZE} characters; {name!r} has {len(encoded)}")
    if name in (".", "..") or any(c in "/:" or c.isspace() or not c.isprintable() for c in name):
        raise ConfigError(f"an interface name has no spaces, slashes or colons; got {name!r}")
    if name.count("%") != name.count("%d") or name.count("%") > 1:
        raise ConfigError(f"an interface name has no % but one %d, for a free number; got {name!r}")
    return name


class Tun(OwnedDescriptor):
    """A descriptor of a TUN device. Closing the last one deletes the device, unless it is persistent."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`. Raises HostError when it is not an attached TUN device."""
        super().__init__(fd)
        try:
            name, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
        except OSError as error:
            raise HostError(f"file descriptor {fd} is not a TUN device: {error.strerror}") from error
        if not flags & _IFF_TUN:
            raise HostError(
                f"file descriptor {fd} is a TAP device; WireGuard carries IP packets and needs a TUN"
            )
        if not flags & _IFF_NO_PI:
            raise HostError(f"file descriptor {fd} is a TUN device without IFF_NO_PI; make it with that flag")
        self.name = os.fsdecode(name.rstrip(b"\0"))
        self.vnet_hdr = bool(flags & _IFF_VNET_HDR)
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)

    @classmethod
    def create(
        cls, name: str, *, vnet_hdr: bool = False, multi_queue: bool = False, mtu: int | None = None
    ) -> Self:
        """Make the device, or attach to a persistent one of that name; `mtu` None leaves the kernel's.

        `vnet_hdr`: each packet has a virtio header before it. `multi_queue`: more descriptors may join, one a
        queue.
        Raises ConfigError for a name that cannot be, HostError for what the host refuses.
        """
        check_name(name)
        flags = (
            _IFF_TUN
            | _IFF_NO_PI
            | (_IFF_VNET_HDR if vnet_hdr else 0)
            | (_IFF_MULTI_QUEUE if multi_queue else 0)
        )
        try:
            fd = _open(name, flags)
        except OSError as error:
            raise HostError(_refusal(name, error.errno)) from error
        try:
            tun = cls(fd)
            if mtu is not None:
                tun._set_mtu(mtu)
        except OSError as error:
            os.close(fd)
            raise HostError(f"cannot set the MTU of {name} to {mtu}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        return tun

    def _set_mtu(self, mtu: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFMTU, _IFREQ_INT.pack(os.fsencode(self.name), mtu))

    def set_offload(self, offload: Offload) -> bool:
        """Let the kernel hand over superpackets and unfinished checksums; False when it knows none such.

        Only a device with virtio headers can say which packet is one.
        """
        if not self.vnet_hdr:
            raise ValueError("offloads need a TUN device made with vnet_hdr")
        try:
            fcntl.ioctl(self._fd, _TUNSETOFFLOAD, int(offload))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        return True

    def current_name(self) -> str:
        """The device's name now: it may have been renamed. Raises OSError when it is gone."""
        name, _ = _IFREQ.unpack(fcntl.ioctl(self._fd, _TUNGETIFF, bytes(_IFREQ.size)))
        return os.fsdecode(name.rstrip(b"\0"))

    def exists(self) -> bool:
        """Whether the device is still there, in whichever network namespace."""
        try:
            fcntl.ioctl(self._fd, _TUNGETIFF, bytes(_IFREQ.size))
        except OSError as error:
            if error.errno == errno.EBADFD:
                return False
            raise
        return True

    def is_up(self) -> bool:
        """Whether the device is up, told without netlink, in whichever namespace it is.

        The driver calls a device writable only when it is up (drivers/net/tun.c, tun_sock_writeable).
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def network_namespace(self) -> int | None:
        """A descriptor of the namespace the device is in, the caller's to close.

        None when the kernel will not tell: it takes CAP_NET_ADMIN there, and Linux 5.2.
        """
        try:
            return fcntl.ioctl(self._fd, _TUNGETDEVNETNS)
        except OSError:
            return None


def _open(name: str, flags: int) -> int:
    """A descriptor attached to the device. Raises OSError."""
    if pytun is None:
        return open_by_ioctl(name, flags)
    try:
        device = pytun.TunTapDevice(name=name, flags=flags)
    except pytun.Error as error:
        raise OSError(*error.args) from error
    try:
        # Its object closes its own descriptor when dropped, so we keep a duplicate: the same open file.
        return fcntl.fcntl(device.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        device.close()


def open_by_ioctl(name: str, flags: int) -> int:
    """What pytun does, for hosts without it. Raises OSError."""
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(os.fsencode(name), flags))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refusal(name: str, number: int | None) -> str:
    """Why the host refuses a TUN device, and what to do about it."""
    match number:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return (
                f"cannot make {name}: this host has no {_DEVICE}; "
                f"load the module (modprobe tun) or give the container that device"
            )
        case errno.EPERM | errno.EACCES:
            return f"cannot make {name}: a TUN device needs root or CAP_NET_ADMIN"
        case errno.EBUSY:
            return f"cannot make {name}: a TUN device of that name is in use by another process"
        case errno.EINVAL | errno.EEXIST:
            return f"cannot make {name}: an interface of that name exists and is of another kind"
    return f"cannot make {name}: {os.strerror(number or errno.EIO)}"
