"""The door by which a browser of this machine reaches a host of the lab."""

from __future__ import annotations

import socket

import pytest

from tests.netns.doorway import Doorway
from tests.netns.hosts import Internet, Lab

pytestmark = [pytest.mark.root]


def test_a_port_of_a_host_is_reached_from_outside_while_the_door_is_open() -> None:
    with Lab("doorway") as lab:
        host = Internet(lab).host("server")
        server = host.start(
            "python", "-c",
            "import socket\n"
            f"s = socket.create_server(('{host.ipv4}', 7000)); print('ready', flush=True)\n"
            "while True:\n"
            "    c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()",
        )  # fmt: skip
        server.wait_text("ready")
        with (
            Doorway(host, (str(host.ipv4), 7000)) as door,
            Doorway(host, ("127.0.0.1", 9), door.port) as other,
        ):
            assert other.port != door.port
            for word in (b"one", b"two"):
                with socket.create_connection(("127.0.0.1", door.port), timeout=10) as client:
                    client.sendall(word)
                    client.shutdown(socket.SHUT_WR)
                    assert client.recv(100) == word.upper()
                    assert client.recv(1) == b""
            with socket.create_connection(("127.0.0.1", other.port), timeout=10) as client:
                assert client.recv(1) == b""  # nobody is there
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", door.port), timeout=10)
