"""The socket that wg(8) looks for, /var/run/wireguard/NAME.sock: made, taken over, watched, removed.

Imports no trio: `wgpy-device` makes it before it goes to the background.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import sys
from typing import Final, Self

from wgpy.errors import HostError

SOCKET_DIRECTORY: Final = "/var/run/wireguard"

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP})
"""File systems without hard links, or without such of sockets."""

_IN_ATTRIB: Final = 0x4
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800


def socket_path(name: str) -> str:
    return f"{SOCKET_DIRECTORY}/{name}.sock"


class UapiListener:
    """A listening socket and the file that names it. Closing it removes the file, if it is still ours."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.socket = sock
        self.path = path
        self._identity = _identity(path)

    @classmethod
    def open(cls, name: str) -> Self:
        """Listen for the interface `name`. A socket that nobody listens at is replaced. Raises HostError."""
        path = socket_path(name)
        old_umask = os.umask(0o077)
        try:
            os.makedirs(SOCKET_DIRECTORY, mode=0o755, exist_ok=True)
            # makedirs minds the umask, which is for the socket: the directory is for everyone to list.
            if os.stat(SOCKET_DIRECTORY).st_uid == os.geteuid():
                os.chmod(SOCKET_DIRECTORY, 0o755)
            _clear_dead_socket(path)
            sock = _listen_at(path)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise HostError(f"{path} is in the way: {_what_is_at(path)}") from error
            raise HostError(f"cannot listen at {path}: {error.strerror}") from error
        finally:
            os.umask(old_umask)
        return cls(sock, path)

    @classmethod
    def adopt(cls, fd: int, name: str) -> Self:
        """Take over the descriptor of the socket that listens for the interface `name`. Raises HostError."""
        try:
            sock = socket.socket(fileno=fd)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise HostError(f"file descriptor {fd} is not a socket: {error.strerror}") from error
        if sock.family != socket.AF_UNIX or not listens:
            sock.detach()
            raise HostError(f"file descriptor {fd} is not a listening Unix socket")
        os.set_inheritable(fd, False)
        return cls(sock, socket_path(name))

    def is_ours(self) -> bool:
        """Whether the file is still the one of this socket."""
        return self._identity is not None and _identity(self.path) == self._identity

    def close(self) -> None:
        # As long as the socket is open no other file can have the number of its inode.
        if self.socket.fileno() >= 0 and self.is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.socket.close()

    def watch(self) -> int:
        """An inotify descriptor, non-blocking: readable when the file was removed, renamed or changed."""
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, "this host has no inotify", self.path)
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        mask = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF
        if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(self.path), mask) < 0:
            number = ctypes.get_errno()
            if fd >= 0:
                os.close(fd)
            raise OSError(number, os.strerror(number), self.path)
        return fd


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listen_at(path: str) -> socket.socket:
    """A socket that listens from the moment on at which `path` is there.

    One that is bound and does not listen yet refuses connections, and `wg` removes a socket that does. So it
    gets its name when it listens; a name that is taken is left alone (EEXIST).
    """
    nameless = f"{path.removesuffix('.sock')}.{os.getpid()}.new"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(nameless)
        sock.bind(nameless)
        try:
            sock.listen(128)
            try:
                os.link(nameless, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.rename(nameless, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(nameless)
    except BaseException:
        sock.close()
        raise
    return sock


def _what_is_at(path: str) -> str:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        is_socket = True
    return "another process made it at this moment" if is_socket else "it is no socket; remove it"


def _clear_dead_socket(path: str) -> None:
    """Raises HostError when somebody listens there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except (BlockingIOError, FileNotFoundError):
            pass
    name = os.path.basename(path).removesuffix(".sock")
    raise HostError(f"{name} is in use: another process answers at {path}")
