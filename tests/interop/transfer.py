"""Move random octets over TCP and say their number and SHA-256, at both ends.

python transfer.py receive ADDRESS PORT          says "listening", later "SIZE DIGEST"
python transfer.py send ADDRESS PORT SIZE        says "SIZE DIGEST"
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

_BLOCK = 1 << 20


def receive(address: str, port: int) -> tuple[int, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:
        print("listening", flush=True)
        connection, _ = server.accept()
    digest, size = hashlib.sha256(), 0
    with connection:
        while block := connection.recv(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def send(address: str, port: int, size: int) -> tuple[int, str]:
    digest, left = hashlib.sha256(), size
    with socket.create_connection((address, port), timeout=60) as connection:
        while left:
            block = os.urandom(min(left, _BLOCK))
            connection.sendall(block)
            digest.update(block)
            left -= len(block)
        connection.shutdown(socket.SHUT_WR)
        # Until the receiver has closed, too: all has arrived then.
        connection.recv(1)
    return size, digest.hexdigest()


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        print(*receive(sys.argv[2], int(sys.argv[3])), flush=True)
    else:
        print(*send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), flush=True)
