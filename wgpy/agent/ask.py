"""Asking a running agent, for commands: plain sockets, so that `wgpy status` need not load trio."""

from __future__ import annotations

import errno
import socket
import time
from typing import Final

from wgpy.agent.places import control_socket
from wgpy.agent.state_file import locked
from wgpy.errors import HostError
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, decode_json, encode_json

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Octets in a line."""


class NotRunning(HostError):
    """No agent listens for this network."""


def ask(name: str, request: JsonObject, *, timeout: float = 30.0) -> Fields:
    """One request to the running agent of a network. Raises NotRunning; HostError for what it answers as an
    error.
    """
    path = control_socket(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(encode_json(request) + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(MAX_ANSWER)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"{name} is not running on this host (start it: wgpy up {name})") from None
        except TimeoutError:
            raise HostError(f"the agent of {name} does not answer within {timeout:.0f} s") from None
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise HostError(f"no permission to ask the agent of {name} ({path}): are you root?") from None
            raise HostError(f"cannot ask the agent of {name}: {error.strerror}") from None
    try:
        fields = Fields(decode_json(line, MAX_ANSWER), "answer")
        if fields.has("error"):
            raise HostError(fields.text("error", 4096))
    except MalformedMessage as error:
        raise HostError(f"the agent of {name} stopped, or is of another version ({error})") from None
    return fields


def running_names() -> list[str]:
    """The networks whose agent answers."""
    directory = control_socket("x").parent
    names = []
    for path in sorted(directory.glob("*.sock")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(path))
            except PermissionError:
                names.append(path.stem)
            except OSError:
                continue
            else:
                names.append(path.stem)
    return names


def wait_ended(name: str, timeout: float = 15.0) -> None:
    """Until the agent of a network, which was told to stop, is gone. Raises HostError."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with locked(name):
                return
        except HostError:
            if time.monotonic() > deadline:
                raise HostError(f"{name} was told to stop and still runs after {timeout:.0f} s") from None
        time.sleep(0.05)
