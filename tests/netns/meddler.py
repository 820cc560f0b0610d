"""A relay that reads, changes, repeats and makes up what it carries: between the nodes and an honest one.

meddler.py PORT RELAY_PORT CAPTURE

Every DATA goes on as it is, so that tunnels stand, and beside it go: it with an octet changed, it in the name
of another node, an old one again, and one that is made up for the same receiver. All that is seen is appended
to the file CAPTURE; each datagram that is sent beside the true ones is a line on standard output.
"""

from __future__ import annotations

import random
import select
import socket
import sys
from collections import deque

RELAY, DATA, HEADER = 0xD7, 8, 20
FAKES = ("changed", "of another", "repeated", "made up")


class Meddler:
    def __init__(self, port: int, relay: int, capture: str) -> None:
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("", port))
        self._relay = ("127.0.0.1", relay)
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self._ids: set[bytes] = set()
        self._old: dict[tuple[str, int], deque[bytes]] = {}
        self._capture = open(capture, "ab", buffering=0)  # noqa: SIM115 (as long as the program)
        self._random = random.Random(7)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._front, select.POLLIN)
        clients: dict[int, tuple[str, int]] = {}
        print("ready", flush=True)
        while True:
            for number, _ in poll.poll():
                if number == self._front.fileno():
                    data, client = self._front.recvfrom(65536)
                    if client not in self._backs:
                        back = self._backs[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        back.connect(self._relay)
                        poll.register(back, select.POLLIN)
                        clients[back.fileno()] = client
                    self._capture.write(data)
                    self._backs[client].send(data)
                else:
                    client = clients[number]
                    self._to_client(client, self._backs[client].recv(65536))

    def _to_client(self, client: tuple[str, int], data: bytes) -> None:
        self._front.sendto(data, client)
        if len(data) < HEADER + 32 or data[0] != RELAY or data[1] != DATA:
            return
        self._ids.add(data[12:20])
        old = self._old.setdefault(client, deque(maxlen=200))
        changed = bytearray(data)
        changed[self._random.randrange(HEADER, len(data))] ^= 1 << self._random.randrange(8)
        another = self._random.choice(sorted(self._ids - {data[12:20]}) or [data[12:20]])
        made_up = data[: HEADER + 8] + self._random.randbytes(len(data) - HEADER - 8)
        fakes = (
            bytes(changed),
            data[:12] + another + data[20:],
            self._random.choice(old) if old else data,
            made_up,
        )
        for what, fake in zip(FAKES, fakes, strict=True):
            self._front.sendto(fake, client)
            print(what, flush=True)
        old.append(data)


if __name__ == "__main__":
    Meddler(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()
