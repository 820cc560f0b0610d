"""`wgpy-device [-f] INTERFACE`: the drop-in for wireguard-go, driven by wg(8) and wg-quick(8).

Makes the TUN device and the socket, starts itself again in the background with both, and returns when that
one serves. Imports little: routers run it, and what is imported stays in memory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final, NoReturn

from wgpy import __version__
from wgpy.errors import HostError, InterfaceGone, WgpyError
from wgpy.protocol.constants import DEFAULT_MTU
from wgpy.tun_device import TunDevice, adopt_tun, create_tun
from wgpy.uapi.listener import UapiListener

USAGE: Final = """\
usage: wgpy-device [-f|--foreground] INTERFACE
       wgpy-device --version

Makes the WireGuard interface INTERFACE (wg%d: the first free number), to be configured by wg(8), and goes
to the background. It ends when the interface is deleted, its socket removed, or on SIGINT and SIGTERM.

Environment:
  LOG_LEVEL              verbose, error (as without it) or silent; in the background it logs only when set
  WG_PROCESS_FOREGROUND  1: like --foreground
  WG_TUN_FD, WG_UAPI_FD  descriptors of a TUN device and of a listening socket to use
  WG_TUN_NAME_FILE       file to write the interface's name to
  WGPY_MEMORY            MiB that packets may take (64), or small: 8, as hosts under 256 MiB have it
  WGPY_DISABLE_OFFLOADS  of vnet, tso, uso, gso, gro, with commas between, or all: do without
  WGPY_ENGINE            native or portable

WG_QUICK_USERSPACE_IMPLEMENTATION=wgpy-device makes wg-quick use this program.
"""

_READY: Final = b"\0"
_LOG_LEVELS: Final = {
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}


def main() -> NoReturn:
    """The program. Exit status 1 when set-up fails, with one line that says why."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(f"wgpy-device {__version__}")
        sys.exit(0)
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        sys.exit(0)
    foreground = arguments[:1] in (["-f"], ["--foreground"])
    names = arguments[1:] if foreground else arguments
    if len(names) != 1 or names[0].startswith("-"):
        print(USAGE, end="", file=sys.stderr)
        sys.exit(1)
    foreground = foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1"
    report = _take_descriptor(os.environ, "WGPY_READY_FD")
    # One that comes while we set up waits until it can be answered in good order.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        tun, listener = _set_up(names[0], os.environ)
        if foreground:
            _run(tun, listener, report)
        else:
            _start_in_background(tun, listener)
    except WgpyError as error:
        print(f"wgpy-device: {error}", file=sys.stderr)
        if report is not None:
            os.write(report, str(error).encode())
        sys.exit(1)
    sys.exit(0)


def _set_up(name: str, environment: Mapping[str, str]) -> tuple[TunDevice, UapiListener]:
    """The TUN device and the socket, inherited or new. Raises WgpyError, and leaves neither behind."""
    fd = _take_descriptor(environment, "WG_TUN_FD")
    # Every engine reads virtio headers; those that make use of them need the device made so.
    tun = create_tun(name, vnet_hdr=True, mtu=DEFAULT_MTU) if fd is None else adopt_tun(fd)
    listener = None
    try:
        fd = _take_descriptor(environment, "WG_UAPI_FD")
        listener = UapiListener.open(tun.name) if fd is None else UapiListener.adopt(fd, tun.name)
        if path := environment.get("WG_TUN_NAME_FILE"):
            _write_name(path, tun.name)
    except BaseException:
        tun.close()
        if listener is not None:
            listener.close()
        raise
    return tun, listener


def _take_descriptor(environment: Mapping[str, str], variable: str) -> int | None:
    text = environment.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise HostError(f"{variable} is the number of a file descriptor; got {text!r}")
    return int(text)


def _write_name(path: str, name: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{name}\n")
    except OSError as error:
        raise HostError(f"cannot write the interface's name to {path}: {error.strerror}") from error


def _start_in_background(tun: TunDevice, listener: UapiListener) -> None:
    """Start this program again with the descriptors. Raises HostError when it does not come to serve."""
    pipe, their_end = os.pipe()
    # Out of the way of the numbers they get.
    inherited = [
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
        for fd in (tun.fileno(), listener.socket.fileno(), their_end)
    ]
    os.close(their_end)
    level = os.environ.get("LOG_LEVEL", "")
    silent = level in ("", "silent")
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in ((0, 1, 2) if silent else (0,))
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, 3 + place) for place, fd in enumerate(inherited)]
    environment = os.environ | {
        "WG_TUN_FD": "3",
        "WG_UAPI_FD": "4",
        "WGPY_READY_FD": "5",
        "WG_PROCESS_FOREGROUND": "1",
    }
    os.posix_spawn(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        environment,
        file_actions=actions,
        setsid=True,
        setsigmask=(),
    )
    for fd in inherited:
        os.close(fd)
    message = _read_all(pipe)
    if message != _READY:
        # The other one is gone: what it did not remove is ours to remove.
        listener.close()
        tun.close()
        raise HostError(message.decode(errors="replace") or "it ended before it could serve; try -f")


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        return pipe.read()


def _run(tun: TunDevice, listener: UapiListener, report: int | None) -> None:
    """Serve until there is a reason to end. Raises WgpyError."""
    # Trio, the engine and the cryptography: not for the one who only starts another.
    from wgpy.daemon import run_trio, serve_device  # noqa: PLC0415
    from wgpy.device import open_device  # noqa: PLC0415

    level = _LOG_LEVELS.get(os.environ.get("LOG_LEVEL", ""), logging.ERROR)
    logging.basicConfig(level=level, format=f"%(levelname)s: ({tun.name}) %(asctime)s %(message)s")

    async def serve() -> None:
        with open_device(tun.name, tun=tun) as device:
            await serve_device(device, listener, task_status=status)

    class _Serving:
        def started(self, value: None = None) -> None:
            if report is not None:
                os.chdir("/")
                os.write(report, _READY)
                os.close(report)

    status = _Serving()
    try:
        run_trio(serve)
    except InterfaceGone:
        # An end like any other, but for one who was told to come back when it serves.
        if report is not None:
            raise
    finally:
        listener.close()
        tun.close()


if __name__ == "__main__":
    main()
