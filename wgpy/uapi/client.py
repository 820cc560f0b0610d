"""Asking a device over its socket, as wg(8) does. Synchronous; for commands."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Final

from wgpy.errors import HostError
from wgpy.uapi.listener import SOCKET_DIRECTORY, socket_path
from wgpy.uapi.messages import DeviceReport, Operation, UapiError, encode_set, parse_get

_TIMEOUT: Final = 10.0


def interfaces() -> list[str]:
    """Names of the devices whose sockets answer, in order."""
    try:
        names = sorted(os.listdir(SOCKET_DIRECTORY))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"cannot read {SOCKET_DIRECTORY}: {error.strerror}") from error
    return [name.removesuffix(".sock") for name in names if name.endswith(".sock") and _answers(name)]


def _answers(file: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TIMEOUT)
        try:
            probe.connect(f"{SOCKET_DIRECTORY}/{file}")
        except PermissionError as error:
            raise HostError("WireGuard devices are for root to see: run as root") from error
        except OSError:
            return False
    return True


def get_device(name: str) -> DeviceReport:
    """What the device is and does. Raises HostError."""
    try:
        return parse_get(_exchange(name, b"get=1\n\n"), socket.if_nametoindex)
    except UapiError as error:
        raise HostError(f"{name}: {error}") from error


def set_device(name: str, operations: Iterable[Operation]) -> None:
    """Raises HostError when the device refuses one; those before it are applied."""
    for line in _exchange(name, encode_set(operations)).splitlines():
        key, _, value = line.partition("=")
        if key == "errno" and value.lstrip("-").isdigit() and int(value):
            raise HostError(f"{name}: the device refused: {os.strerror(abs(int(value)))}")


def _exchange(name: str, request: bytes) -> str:
    reply = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(socket_path(name))
            connection.sendall(request)
            while not reply.endswith(b"\n\n") and (data := connection.recv(1 << 16)):
                reply += data
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise HostError(f"there is no WireGuard device {name} here") from error
        except PermissionError as error:
            raise HostError(f"{name} is for root to see: run as root") from error
        except OSError as error:
            raise HostError(f"{name} does not answer: {error.strerror or error}") from error
    return reply.decode(errors="replace")
