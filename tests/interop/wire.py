"""What is on a host's link: a program prints a line for each IP packet, and those lines as objects.

    wire = Wire(host)                       # eth0: the outside of a tunnel
    ...
    wire.wait_for(lambda seen: any(packet.kind == 4 for packet in seen))

As a program: `python wire.py INTERFACE`. Frames are parsed as Ethernet on eth0 and as bare IP on a TUN.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.netns.hosts import Host
    from tests.netns.processes import Process

_ETH_P_ALL = 3
_OUTGOING = 4
_UDP = 17


@dataclass(frozen=True, slots=True)
class Seen:
    """`kind` is the first octet of a UDP payload (WireGuard's message type) and `size` that payload's
    length; of anything else than UDP, `kind` is -1 and `size` the packet's. `tos`: DSCP and ECN.
    """

    outgoing: bool
    source: str
    destination: str
    tos: int
    protocol: int
    kind: int
    size: int
    dont_fragment: bool


class Wire:
    """Listens on `interface` of `host` from now on."""

    _count = 0

    def __init__(self, host: Host, interface: str = "eth0") -> None:
        Wire._count += 1
        self._process: Process = host.start(
            sys.executable, __file__, interface, log=f"wire{Wire._count}-{interface}"
        )
        self._process.wait_text("ready\n")

    def seen(self) -> list[Seen]:
        lines = [line.split() for line in self._process.text().splitlines(keepends=True) if line[-1] == "\n"]
        return [
            Seen(words[0] == "out", words[1], words[2], *map(int, words[3:7]), words[7] == "1")
            for words in lines
            if len(words) == 8
        ]

    def messages(self) -> list[Seen]:
        """Those of WireGuard."""
        return [packet for packet in self.seen() if packet.protocol == _UDP and packet.kind in (1, 2, 3, 4)]

    def wait_for(self, condition: Callable[[list[Seen]], object], what: str) -> None:
        """Until it is true of all that was seen."""
        self._process.wait_for(lambda _: bool(condition(self.seen())), what)

    def stop(self) -> None:
        self._process.kill()


def describe(packet: bytes) -> str | None:
    """The words of a line for an IP packet; None for what is none."""
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        header, tos, protocol = (packet[0] & 15) * 4, packet[1], packet[9]
        source, destination = (socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16))
        dont_fragment = bool(packet[6] & 0x40)
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        header, tos, protocol = 40, (packet[0] & 15) << 4 | packet[1] >> 4, packet[6]
        source, destination = (socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24))
        dont_fragment = False
    else:
        return None
    kind, size = -1, len(packet)
    if protocol == _UDP and len(packet) > header + 8:
        kind = packet[header + 8]
        size = struct.unpack_from(">H", packet, header + 4)[0] - 8
    return f"{source} {destination} {tos} {protocol} {kind} {size} {int(dont_fragment)}"


def main() -> None:
    [interface] = sys.argv[1:]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    sock.bind((interface, _ETH_P_ALL))
    print("ready", flush=True)
    while True:
        packet, address = sock.recvfrom(1 << 16)
        words = describe(packet) if packet else None
        if words:
            print("out" if address[2] == _OUTGOING else "in", words, flush=True)


if __name__ == "__main__":
    main()
