"""What does a flood by strangers cost an established tunnel, and does a new peer still get in?

    python -m benchmarks.flood [--quick] [--rounds 3] [--rate 20000] [--only NAME]… [--kind NAME]…
                              [--ipv6]

A tunnel between two hosts; a third floods its responder at a set rate from 60,000 addresses. Each figure is
measured twice, one after the other: the flood goes to a port of the same host that nobody listens at, and
then to WireGuard's. What is left is the quotient: what a flood costs the kernel and the sender is in both.
Through some floods a new peer knocks on a fourth host. Needs root.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import contenders
from benchmarks.contenders import Contender
from benchmarks.panels import draw
from benchmarks.paths import MeasuredPath, build_udp_load, cpu_seconds, status_mib
from benchmarks.results import Results, Row, progress
from tests.interop.tunnel import PORT, End, Family
from tests.netns import attack
from tests.netns.hosts import Host, Lab
from tests.netns.processes import HostFailure

SOURCES = 60_000
FIRST_SOURCE = {"v4": "198.18.0.1", "v6": "2001:db8:8000::1"}
"""IPv6: each from a /64 of its own."""
VICTIM: dict[Family, str] = {"v4": "203.0.113.1", "v6": "2001:db8:3::1"}
CLOSED_PORT = PORT + 1
DATAGRAMS = 2000
"""Different ones of each kind, sent over and over."""
REPLAYS = 200
KINDS = ("initiations", "garbage", "replays", "cookie replies", "unknown indices", "all of them")
WHO = ("wireguard-go", "wgpy portable", "wgpy native")
RAMP = 0.3
"""Seconds that a flood has to fill what it can fill."""
LONGEST_WAIT = 60
KNOCKED_THROUGH = ("initiations", "all of them")
"""Floods through which a new peer wants in."""
MEMORY = Row("Memory that the floods took", "MiB", False, "Memory that all floods together took", 1)

_DEAF = """
table netdev deaf {
    chain arrived {
        type filter hook ingress device "eth0" priority 0;
        meta l4proto udp drop
        icmp type destination-unreachable drop
        icmpv6 type destination-unreachable drop
    }
}
"""

_CAPTURE = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sock.bind(("eth0", 0x0800))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
print("ready", flush=True)
seen = 0
while seen < int(sys.argv[2]):
    packet, address = sock.recvfrom(65536)
    if address[2] == 4 or packet[9] != 17 or packet[22:24] != int(sys.argv[1]).to_bytes(2, "big"):
        continue
    if packet[28] == 4:
        print(packet[28:].hex(), flush=True)
        seen += 1
"""


class Siege:
    """A contender's tunnel, and the attacker beside it, on cables of their own."""

    def __init__(self, lab: Lab, number: int, contender: Contender, family: Family) -> None:
        assert contender.implementation is not None
        self._family = family
        self.path = path = MeasuredPath(lab, number, contender)
        assert path.tunnel is not None
        self.victim: End = path.tunnel.responder
        self.attacker = lab.host(f"a{number}")
        self.victim.host.ip(f"link add eth1 type veth peer name eth0 netns {self.attacker.pid}")
        self.victim.host.ip(
            "link set eth1 up", "address add 203.0.113.1/24 dev eth1",
            "address add 2001:db8:3::1/64 dev eth1 nodad",
        )  # fmt: skip
        self.attacker.ip(
            "link set eth0 up", "link set lo up", "address add 203.0.113.2/24 dev eth0",
            "address add 2001:db8:3::2/64 dev eth0 nodad", "route add local 198.18.0.0/15 dev lo",
            "route add local 2001:db8:8000::/33 dev lo",
        )  # fmt: skip
        self.victim.host.ip(
            "route add 198.18.0.0/15 via 203.0.113.2",
            "route add 2001:db8:8000::/33 via 2001:db8:3::2",
        )  # fmt: skip
        # Nobody of these addresses hears an answer. It is dropped where it arrives: the cable hands it over
        # in the victim's own time, who would pay for the attacker's receiving.
        self.attacker.run("nft", "-f", "-", input=_DEAF)
        # IPv4 lets one send from what is routed to oneself.
        self.attacker.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind")
        self.newcomer = self._newcomer(lab.host(f"n{number}"), contender)
        rng = random.Random(number)
        public = path.tunnel.responder.keys.public
        self._messages = {
            kind: list(itertools.islice(made, DATAGRAMS)) for kind, made in attack.kinds(public, rng).items()
        }

    def _newcomer(self, host: Host, contender: Contender) -> End:
        assert contender.implementation is not None
        self.victim.host.ip(
            f"link add eth2 type veth peer name eth0 netns {host.pid}",
            "link set eth2 up", "address add 192.0.2.1/24 dev eth2",
        )  # fmt: skip
        host.ip("link set eth0 up")
        host.readdress("192.0.2.2/24", "2001:db8:2::2/64")
        return End(host, contender.implementation, 3)

    def seconds_until_let_in(self) -> float:
        """Until the first echo of a peer that is made known on both sides now."""
        for end, other in ((self.victim, self.newcomer), (self.newcomer, self.victim)):
            end.wg("set", "wg0", "peer", other.keys.public, "remove")
        self.victim.add_peer(self.newcomer)
        self.newcomer.add_peer(self.victim, endpoint=f"192.0.2.1:{PORT}")
        ping = self.newcomer.host.start(
            "ping", "-c1", "-i0.05", f"-w{LONGEST_WAIT}", self.victim.inner["v4"],
            log=f"knock{time.monotonic_ns()}",
        )  # fmt: skip
        started = time.monotonic()
        if ping.wait(LONGEST_WAIT + 10):
            raise HostFailure(f"no new peer was let in within {LONGEST_WAIT} s")
        return time.monotonic() - started

    def messages(self, kind: str) -> list[bytes]:
        """Replays are captured anew: a session lives for minutes alone."""
        if kind in ("replays", "all of them"):
            self._messages["replays"] = self.captured()
        if kind == "all of them":
            in_turn = zip(*map(itertools.cycle, self._messages.values()), strict=False)
            return list(itertools.islice(itertools.chain.from_iterable(in_turn), DATAGRAMS))
        return self._messages[kind]

    def captured(self) -> list[bytes]:
        """Transport data that has just arrived at the victim."""
        capture = self.victim.host.start(
            sys.executable, "-c", _CAPTURE, str(PORT), str(REPLAYS), log=f"capture{time.monotonic_ns()}"
        )
        capture.wait_text("ready\n")
        while capture.returncode is None:
            self.path.near.run(
                "ping", "-q", "-f", "-c100", "-s1372", self.victim.inner["v4"], check=False, timeout=20
            )
        lines = capture.text().split()[1:]
        return [bytes.fromhex(line) for line in lines]

    @contextmanager
    def flood(self, datagrams: list[bytes], port: int, rate: float) -> Iterator[list[float]]:
        """As long as it is entered. Gives a list that has the rate that was reached afterwards."""
        program = build_udp_load().with_name("udp-flood")
        given = self.attacker.path / "datagrams"
        given.write_bytes(b"".join(len(each).to_bytes(2, "big") + each for each in datagrams))
        reached: list[float] = []
        with given.open("rb") as source:
            process = subprocess.Popen(
                [program, f"/proc/{self.attacker.pid}/ns/net", VICTIM[self._family], str(port),
                 FIRST_SOURCE[self._family], str(SOURCES), f"{rate:g}", str(LONGEST_WAIT * 2)],
                stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        started, before = time.monotonic(), self._sent()
        try:
            time.sleep(RAMP)
            yield reached
            if process.poll() is not None:
                raise HostFailure(f"the flood ended: {process.communicate()[1].strip()}")
            reached.append((self._sent() - before) / (time.monotonic() - started))
        finally:
            process.kill()
            process.communicate()

    def _sent(self) -> int:
        text = self.attacker.run("cat", "/sys/class/net/eth0/statistics/tx_packets").stdout
        return int(text)

    def close(self) -> None:
        self.path.close()
        self.attacker.close()
        self.newcomer.host.close()


def share_row(kind: str) -> Row:
    chart = f"Throughput left under {kind}"
    return Row(f"TCP left under {kind}", "%", chart=chart)


def cpu_a_datagram(siege: Siege, datagrams: list[bytes], rate: float) -> float:
    """µs that the device spends on one while it has nothing else to do: other programs hardly change that."""
    with siege.flood(datagrams, PORT, rate) as reached:
        started, before = time.monotonic(), cpu_seconds(siege.victim.device.pid)
        time.sleep(1)
        spent, seconds = cpu_seconds(siege.victim.device.pid) - before, time.monotonic() - started
    return spent / (reached[0] * seconds) * 1e6


def measure_kind(siege: Siege, kind: str, results: Results, arguments: argparse.Namespace, turn: int) -> None:
    """Both throughputs, one after the other, in another order each turn."""
    name = siege.path.contender.name
    datagrams = siege.messages(kind)
    cost = Row(f"CPU of the device, a datagram of {kind}", "µs", False, f"CPU of a datagram of {kind}", 1)
    results.add(cost, name, cpu_a_datagram(siege, datagrams, arguments.rate))
    found: dict[int, float] = {}
    ports = (CLOSED_PORT, PORT)
    for port in ports if turn % 2 else reversed(ports):
        with siege.flood(datagrams, port, arguments.rate) as reached:
            found[port], _ = siege.path.tcp(arguments.seconds, 1, "v4", back=False)
            if port == PORT and kind in KNOCKED_THROUGH:
                row = Row(
                    f"A new peer let in under {kind}, after", "s", False, f"A new peer let in under {kind}", 2
                )
                results.add(row, name, siege.seconds_until_let_in())
        where = "WireGuard's port" if port == PORT else "a closed port"
        results.add(Row(f"TCP, {kind} to {where}", "Mbit/s", in_table=port == PORT), name, found[port])
        results.add(Row(f"Rate of {kind} to {where}", "a second", in_table=False), name, reached[0])
    results.add(share_row(kind), name, 100 * found[PORT] / found[CLOSED_PORT])


def measure(lab: Lab, chosen: list[Contender], results: Results, arguments: argparse.Namespace) -> None:
    """Fill in the samples. A contender that fails is taken out, with the reason."""
    sieges: list[Siege] = []
    memory: dict[str, float] = {}
    for number, contender in enumerate(chosen):
        siege = Siege(lab, number, contender, "v6" if arguments.ipv6 else "v4")
        sieges.append(siege)
        # Traffic has filled what traffic fills.
        siege.path.tcp(arguments.seconds, 1, "v4", back=False)
        siege.path.tcp(arguments.seconds, 1, "v4", back=True)
        memory[contender.name] = status_mib(siege.victim.device.pid, "VmHWM")
    for turn in range(arguments.rounds):
        for kind in arguments.kind or KINDS:
            progress(f"round {turn + 1} of {arguments.rounds}: {kind}")
            for siege in list(sieges):
                try:
                    measure_kind(siege, kind, results, arguments, turn)
                except HostFailure as error:
                    results.notes.append(f"{siege.path.contender.name} under {kind}: {error}")
                    progress(results.notes[-1])
    for siege in sieges:
        name = siege.path.contender.name
        results.add(MEMORY, name, status_mib(siege.victim.device.pid, "VmHWM") - memory[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, ours and the base; no files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each TCP run")
    parser.add_argument("--rate", type=float, default=20_000, help="datagrams of the flood a second")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these; default all")
    parser.add_argument("--ipv6", action="store_true", help="from IPv6 addresses, each of a /64 of its own")
    parser.add_argument("--no-write", action="store_true", help="print the table, write no files")
    contenders.add_options(parser)
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("benchmarks need root, for network namespaces")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    results = Results("What does a flood by strangers cost a tunnel, and does a new peer get in?")
    results.notes += arguments.note
    results.parameters = {name: getattr(arguments, name) for name in ("rounds", "seconds", "rate", "ipv6")}
    chosen = contenders.choose(arguments.only or list(WHO), results, without_plain=True)
    try:
        with Lab("flood") as lab:
            measure(lab, chosen, results, arguments)
    except HostFailure as error:
        sys.exit(f"flood: {error}")
    results.notes.append(
        f"Left: of the throughput under the same flood to a closed port. {arguments.rate:,.0f} a second "
        f"from {SOURCES:,} IPv{6 if arguments.ipv6 else 4} addresses."
    )
    writes = not arguments.no_write and not arguments.quick
    name = "flood-ipv6" if arguments.ipv6 else "flood"
    chart = draw("Userspace WireGuard under a flood by strangers", results, chosen)
    results.finish(name, chart, writes=writes)


if __name__ == "__main__":
    main()
