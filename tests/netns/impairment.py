"""A bad line: frames between a host and the switch are delayed, lost, doubled, reordered or cut.

    line = Line(Impairment(delay=0.1))
    node = internet.host("node", line)
    line.set(Impairment(cut=True))

Hosts that address each other directly go through it: it is the host's uplink, not a relay that they must
know. The host's eth0 and the switch's port are two TAP devices of one process, which copies frames between
them. (The kernel's netem would do the same, where it is built in.)

As a program (`python impairment.py PORT UPLINK SEED`) it creates the two devices in the namespace it runs
in, says "ready", and then takes one JSON object a line on standard input, each answered by "ok".
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.netns.hosts import Internet
    from tests.netns.processes import Process

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_FRAME = 65536
_HELD = 10_000


@dataclass(frozen=True, slots=True)
class Impairment:
    """What the line does, in each direction. Times in seconds, the rest are probabilities.

    `reorder` frames are held for another `delay` (at least 5 ms): later ones overtake them. `cut` loses all.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    cut: bool = False


class Line:
    """A host's uplink: pass it to `Internet.host`. `seed` makes its bad luck repeatable."""

    def __init__(self, impairment: Impairment, *, seed: int = 0) -> None:
        self._impairment = impairment
        self._seed = seed
        self._process: Process | None = None

    def __call__(self, internet: Internet, number: int) -> str:
        """Create port and uplink in the switch; the uplink's name."""
        port, uplink = f"port{number}", f"uplink{number}"
        self._process = internet.switch.start(
            sys.executable, __file__, port, uplink, str(self._seed),
            log=f"line{number}", stdin=True,
        )  # fmt: skip
        self._process.wait_text("ready\n")
        self.set(self._impairment)
        return uplink

    def set(self, impairment: Impairment) -> None:
        """From the next frame on. What is under way stays so."""
        assert self._process is not None, "the line is not attached to a host yet"
        answers = self._process.text().count("ok\n")
        self._process.write(json.dumps(asdict(impairment)) + "\n")
        self._process.wait_for(lambda text: text.count("ok\n") > answers, "ok")


def open_tap(name: str) -> int:
    """Create the TAP device `name` in this namespace; its descriptor. OSError as the kernel says."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


def forward(port: int, uplink: int, rng: random.Random) -> None:
    """Copy frames both ways until standard input ends."""
    impairment = Impairment()
    other = {port: uplink, uplink: port}
    held: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        # select waits to the microsecond, epoll rounds up to milliseconds: an agent would be blamed for them.
        wait = None if not held else max(0.0, held[0][0] - time.monotonic())
        for descriptor in select.select((0, port, uplink), (), (), wait)[0]:
            if descriptor == 0:
                line = os.read(0, 4096)
                if not line:
                    return
                impairment = Impairment(**json.loads(line))
                print("ok", flush=True)
                continue
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = os.read(descriptor, _FRAME)
                    now = time.monotonic()
                    for due in _due(impairment, now, rng):
                        number += 1
                        if len(held) < _HELD:
                            heapq.heappush(held, (due, number, other[descriptor], frame))
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, _, descriptor, frame = heapq.heappop(held)
            # EIO: the device is down. EAGAIN: its queue is full. A line drops then.
            with contextlib.suppress(OSError):
                os.write(descriptor, frame)


def _due(impairment: Impairment, now: float, rng: random.Random) -> list[float]:
    """When each copy of a frame leaves the line."""
    if impairment.cut or rng.random() < impairment.loss:
        return []
    due = now + impairment.delay + rng.random() * impairment.jitter
    if rng.random() < impairment.reorder:
        due += max(impairment.delay, 0.005)
    return [due, due] if rng.random() < impairment.duplicate else [due]


def main() -> None:
    port, uplink, seed = sys.argv[1:]
    port_descriptor, uplink_descriptor = open_tap(port), open_tap(uplink)
    # A cable does not wait for the processor of the hosts that it joins.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    print("ready", flush=True)
    forward(port_descriptor, uplink_descriptor, random.Random(int(seed)))


if __name__ == "__main__":
    main()
