"""Many peers in one process that knock at a device: how fast does it let them in?

    python -m benchmarks.crowd rate  PEERS ADDRESS HANDSHAKES
    python -m benchmarks.crowd burst PEERS ADDRESS SECONDS

Run in a host of its own by `handshakes.py`. `rate` has a few initiations under way all the time; `burst`
sends one of each peer at once and repeats as WireGuard does, after 5 s and a bit, with the cookie if it came.
Initiations are made before the clock starts, and answers are recognised by their index alone, so that it is
the device's time that is measured. Prints a line of JSON.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass

from benchmarks.identities import NEAR_NUMBER, PORT, outer_address, private_key
from wgpy.errors import InvalidMessage
from wgpy.keys import PublicKey
from wgpy.protocol import tai64n
from wgpy.protocol.constants import REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER_MAX
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.messages import (
    MessageType,
    encode_initiation,
    message_type_untrusted,
    receiver_index_untrusted,
)
from wgpy.protocol.noise import Handshake, Identity

UNDER_WAY = 16
"""Initiations that wait for an answer: enough to keep a device busy, too few to count as an attack."""
PATIENCE = 0.2
"""Seconds without an answer after which those under way are given up."""
TIMESTAMP_STEP_NS = 1 << 24
_IP_PKTINFO = 8


@dataclass(slots=True)
class Knocker:
    """One peer of the device."""

    number: int
    identity: Identity
    handshake: Handshake
    cookies: CookieGenerator
    stamp_ns: int

    @classmethod
    def make(cls, number: int, device: PublicKey) -> Knocker:
        identity = Identity.of(private_key(number))
        handshake = Handshake(device)
        handshake.precompute_static_static(identity)
        return cls(number, identity, handshake, CookieGenerator(bytes(device)), time.time_ns())

    def initiation(self) -> bytes:
        """Without macs. Its index is the peer's number."""
        self.stamp_ns += TIMESTAMP_STEP_NS
        message = self.handshake.create_initiation(
            self.identity, self.number, tai64n.encode(self.stamp_ns), random.SystemRandom(), 0.0
        )
        return encode_initiation(message)


class Crowd:
    """All peers, behind one socket that sends from each one's address."""

    def __init__(self, peers: int, address: str) -> None:
        device = private_key(NEAR_NUMBER).public_key()
        self.knockers = [Knocker.make(number, device) for number in range(1, peers + 1)]
        self.address = address
        self.cookies = 0
        self.sent = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("0.0.0.0", PORT))
        self.socket.setblocking(False)
        self._sources = [
            struct.pack("=i4s4s", 0, socket.inet_aton(outer_address(knocker.number)), bytes(4))
            for knocker in self.knockers
        ]

    def send(self, knocker: Knocker, initiation: bytes) -> None:
        message = knocker.cookies.add_macs(initiation, time.monotonic())
        source = (socket.IPPROTO_IP, _IP_PKTINFO, self._sources[knocker.number - 1])
        self.socket.sendmsg([message], [source], 0, (self.address, PORT))
        self.sent += 1

    def answered(self, timeout: float) -> list[int]:
        """The numbers of those that were answered meanwhile; cookies are kept for the next attempt."""
        numbers = []
        if not select.select([self.socket], [], [], max(timeout, 0.0))[0]:
            return []
        while True:
            try:
                data = self.socket.recv(2048)
                kind, number = message_type_untrusted(data), receiver_index_untrusted(data)
            except BlockingIOError:
                return numbers
            except InvalidMessage:
                continue
            if kind is MessageType.RESPONSE:
                numbers.append(number)
            elif kind is MessageType.COOKIE_REPLY:
                self.knockers[number - 1].cookies.consume_reply(data, time.monotonic())
                self.cookies += 1


def rate(crowd: Crowd, handshakes: int) -> dict[str, float]:
    """Handshakes answered a second, of `handshakes` in all."""
    peers = len(crowd.knockers)
    queue = [
        (crowd.knockers[at % peers], crowd.knockers[at % peers].initiation()) for at in range(handshakes)
    ]
    queue.reverse()
    under_way: set[int] = set()
    answers = 0
    started = heard = time.monotonic()
    while queue or under_way:
        while queue and len(under_way) < UNDER_WAY:
            knocker, initiation = queue.pop()
            under_way.add(knocker.number)
            crowd.send(knocker, initiation)
        cookies = crowd.cookies
        numbers = crowd.answered(PATIENCE)
        if numbers:
            heard = time.monotonic()
            answers += len(numbers)
            under_way.difference_update(numbers)
        if crowd.cookies > cookies or not numbers:
            # Put off by a cookie, or not answered at all: others get their turn.
            under_way.clear()
    return {"answered": answers, "seconds": heard - started, "cookies": crowd.cookies, "sent": crowd.sent}


def burst(crowd: Crowd, seconds: float) -> dict[str, float]:
    """When half, and when all of the peers were let in, seconds from the first knock; those that were not."""
    rng = random.Random(1)
    first = [(knocker, knocker.initiation()) for knocker in crowd.knockers]
    up: dict[int, float] = {}
    started = time.monotonic()
    retries: list[tuple[float, int]] = []
    for knocker, initiation in first:
        crowd.send(knocker, initiation)
        retries.append((started + REKEY_TIMEOUT + rng.uniform(0, REKEY_TIMEOUT_JITTER_MAX), knocker.number))
    heapq.heapify(retries)
    while len(up) < len(crowd.knockers) and time.monotonic() < started + seconds:
        due = min((retries[0][0] if retries else started + seconds), started + seconds)
        now = time.monotonic()
        for number in crowd.answered(min(due - now, 0.5)):
            up.setdefault(number, time.monotonic() - started)
        while retries and retries[0][0] <= time.monotonic():
            at, number = heapq.heappop(retries)
            if number not in up:
                knocker = crowd.knockers[number - 1]
                crowd.send(knocker, knocker.initiation())
                again = at + REKEY_TIMEOUT + rng.uniform(0, REKEY_TIMEOUT_JITTER_MAX)
                heapq.heappush(retries, (again, number))
    times = sorted(up.values()) + [seconds] * (len(crowd.knockers) - len(up))
    return {
        "half": times[len(times) // 2],
        "all": times[-1],
        "within_a_second": sum(value <= 1 for value in times),
        "never": len(crowd.knockers) - len(up),
        "cookies": crowd.cookies,
        "sent": crowd.sent,
    }


def main() -> None:
    mode, peers, address, amount = sys.argv[1:]
    crowd = Crowd(int(peers), address)
    print(json.dumps(rate(crowd, int(amount)) if mode == "rate" else burst(crowd, float(amount))))


if __name__ == "__main__":
    main()
