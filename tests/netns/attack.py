"""An attacker, as a program: `python attack.py VICTIM PORT PUBLIC_KEY < PAYLOADS`.

Sends, in bursts, from 1000 addresses of 198.18.0.0/16 (which its host has): initiations with a right mac1,
garbage, cookie replies and data for indices it guesses, and the datagrams it is given, a hexadecimal line
each, again. Says "ready" before the first burst.
"""

from __future__ import annotations

import base64
import itertools
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

from wgpy.protocol.cookie import CookieGenerator

SOURCES = 1000
INITIATIONS, OTHERS = 800, 200
PAUSE = 0.1


def initiations(public: bytes, rng: random.Random) -> Iterator[bytes]:
    generator = CookieGenerator(public)
    while True:
        body = struct.pack("<II", 1, rng.getrandbits(32)) + rng.randbytes(108)
        yield generator.add_macs(body, 0.0)


def kinds(key: str, rng: random.Random) -> dict[str, Iterator[bytes]]:
    """Datagrams of each kind that a stranger can make who knows our public key, without end."""

    def numbered(kind: int, size: int) -> Iterator[bytes]:
        while True:
            yield struct.pack("<II", kind, rng.getrandbits(32)) + rng.randbytes(size - 8)

    def garbage() -> Iterator[bytes]:
        while True:
            yield rng.randbytes(rng.randrange(1, 1400))
            yield bytes([rng.choice([1, 2, 3, 4]), 0, 0, 0]) + rng.randbytes(rng.randrange(200))

    return {
        "initiations": initiations(base64.b64decode(key), rng),
        "garbage": garbage(),
        "cookie replies": numbered(3, 64),
        "unknown indices": numbered(4, 1040),
    }


def main() -> None:
    victim, port, key = sys.argv[1:]
    rng = random.Random(1)
    replays = [bytes.fromhex(line) for line in sys.stdin]
    sources = []
    for number in range(SOURCES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((str(IPv4Address("198.18.0.1") + number * 7), 0))
        sources.append(sock)
    # Made beforehand, so that sending is all there is to do.
    made = kinds(key, rng)
    prepared = list(itertools.islice(made.pop("initiations"), 4 * INITIATIONS))
    noise = [datagram for each in made.values() for datagram in itertools.islice(each, OTHERS)]
    noise += rng.choices(replays, k=OTHERS) if replays else []
    print("ready", flush=True)
    while True:
        for message in rng.sample(prepared, INITIATIONS) + rng.sample(noise, OTHERS):
            rng.choice(sources).sendto(message, (victim, int(port)))
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
