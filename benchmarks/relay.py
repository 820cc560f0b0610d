"""What a gigabyte through a relay costs in CPU, ours and one in Python. `python -m benchmarks.relay`

One sender gives DATA of a session to the relay over loopback at a fixed rate, a receiver counts what comes.
Each relay is a process of its own, whose user and system time is read before and after. Rounds take turns.

- `wgpy`: the thread of Rust behind `wgpy relay serve`;
- `python`: receives, looks up, changes the header and sends one datagram at a time, as relays in Python do;
- `python, offload`: the same with UDP_GRO and UDP_SEGMENT, by the sockets of the portable engine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import machine
from wgpy.mesh.relay import encode_data_header

RESULTS: Final = Path(__file__).parent / "results" / "relay.json"
RELAYS: Final = ("wgpy", "python", "python, offload")
PAYLOAD: Final = 1452
"""Octets of a WireGuard message in a datagram, with the header 1472: a path of 1500."""
BURST: Final = 44
"""Datagrams that the sender hands over at once, as an engine does."""
NETWORK: Final = bytes(16)
ONE, OTHER = 1, 2
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104


# --- the relays, each a process: one line in (ports of both ends), one out (its port and the session) ------


def serve(kind: str) -> None:
    one, other = map(int, sys.stdin.readline().split())
    loops = {"wgpy": _serve_wgpy, "python": _serve_python, "python, offload": _serve_offload}
    loops[kind](one, other)


def _answer(port: int, session: int) -> None:
    print(port, session, flush=True)


def _report() -> None:
    """After each line on standard input, the CPU seconds so far."""
    for _ in iter(sys.stdin.readline, ""):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime + usage.ru_stime, flush=True)


def _serve_wgpy(one: int, other: int) -> None:
    from wgpy import _engine  # noqa: PLC0415

    relay = _engine.Relay(0, 0, most_sessions=16, rate_of_each=0, rate_of_all=0, receipt_key=bytes(32))
    loopback = socket.inet_aton("127.0.0.1")
    session = relay.admit(NETWORK, ONE, bytes(32), (loopback, one, 0, None, 0))
    relay.admit(NETWORK, OTHER, bytes(32), (loopback, other, 0, None, 0))
    assert session is not None
    _answer(relay.ports()[0], session)
    _report()


def _sessions(one: int, other: int) -> dict[int, tuple[tuple[str, int], int]]:
    """Where each session's node is, and who it is."""
    return {7: (("127.0.0.1", one), ONE), 8: (("127.0.0.1", other), OTHER)}


def _serve_python(one: int, other: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    _widen(sock)
    sock.bind(("127.0.0.1", 0))
    sessions, receivers = _sessions(one, other), {ONE: 7, OTHER: 8}
    _answer(sock.getsockname()[1], 7)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    numbers, header = struct.Struct("!QQ"), struct.Struct("!4sQQ")
    sock.setblocking(False)
    while True:
        for fd, _ in poll.poll():
            if fd != sock.fileno():
                if not _report_once():
                    return
                continue
            for _ in range(256):
                try:
                    data, sender = sock.recvfrom(2048)
                except BlockingIOError:
                    break
                session, receiver = numbers.unpack_from(data, 4)
                address, node = sessions[session]
                if address != sender:
                    continue
                to = receivers[receiver]
                sock.sendto(header.pack(data[:4], to, node) + data[20:], sessions[to][0])


def _serve_offload(one: int, other: int) -> None:
    from ipaddress import IPv4Address  # noqa: PLC0415

    from wgpy.addresses import Endpoint  # noqa: PLC0415
    from wgpy.udp import UdpSocket  # noqa: PLC0415

    sock = UdpSocket.bind(socket.AF_INET, 0, 0)
    sessions, receivers = _sessions(one, other), {ONE: 7, OTHER: 8}
    endpoints = {s: Endpoint(IPv4Address(host), port) for s, ((host, port), _) in sessions.items()}
    _answer(sock.port, 7)
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    numbers, buffer = struct.Struct("!QQ"), bytearray(65536)
    while True:
        for fd, _ in poll.poll():
            if fd != sock.fileno():
                if not _report_once():
                    return
                continue
            for _ in range(64):
                received = sock.receive_nowait(buffer)
                if received is None:
                    break
                session, receiver = numbers.unpack_from(buffer, 4)
                (_, port), node = sessions[session]
                if received.source()[1] != port:
                    continue
                to, size = receivers[receiver], received.segment_size
                changed = numbers.pack(to, node)
                for at in range(4, received.length, size):
                    buffer[at : at + 16] = changed
                run = bytes(memoryview(buffer)[: received.length])
                sock.send_run_nowait(run, size, endpoints[to], None, 0)


def _report_once() -> bool:
    if not sys.stdin.readline():
        return False
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, flush=True)
    return True


# --- the measurement ----------------------------------------------------------------------------------------


def _widen(sock: socket.socket) -> None:
    for forced, usual in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, 8 << 20)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, usual, 8 << 20)


def measure(kind: str, rate: float, seconds: float) -> dict[str, float]:
    """CPU seconds a gigabyte (10^9 octets of WireGuard) that arrived, at so many octets a second."""
    sender, receiver = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with sender, receiver:
        for sock in (sender, receiver):
            _widen(sock)
            sock.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        receiver.setblocking(False)
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, PAYLOAD + 20)
        command = [sys.executable, "-m", "benchmarks.relay", "--serve", kind]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdin is not None
            assert relay.stdout is not None
            relay.stdin.write(f"{sender.getsockname()[1]} {receiver.getsockname()[1]}\n")
            relay.stdin.flush()
            port, session = map(int, relay.stdout.readline().split())

            def cpu() -> float:
                assert relay.stdin is not None
                assert relay.stdout is not None
                relay.stdin.write("\n")
                relay.stdin.flush()
                return float(relay.stdout.readline())

            burst = (encode_data_header(session, OTHER) + os.urandom(PAYLOAD)) * BURST
            before = cpu()
            sent, got = _run(sender, receiver, burst, ("127.0.0.1", port), rate=rate, seconds=seconds)
            spent = cpu() - before
            relay.stdin.close()
    lost = 1 - got / sent
    return {
        "cpu_s_per_gb": spent / (got * PAYLOAD / 1e9),
        "lost": lost,
        "mbit_s": got * PAYLOAD * 8 / seconds / 1e6,
    }


def _run(
    sender: socket.socket,
    receiver: socket.socket,
    burst: bytes,
    to: tuple[str, int],
    *,
    rate: float,
    seconds: float,
) -> tuple[int, int]:
    """Datagrams sent and received."""
    buffer, size = bytearray(65536), PAYLOAD + 20
    sent = got = 0
    began = time.perf_counter()
    pause = BURST * PAYLOAD / rate

    def collect() -> int:
        count = 0
        while True:
            try:
                count += -(-receiver.recv_into(buffer) // size)
            except BlockingIOError:
                return count

    while (now := time.perf_counter() - began) < seconds:
        if now * rate >= sent * PAYLOAD:
            sender.sendto(burst, to)
            sent += BURST
        got += collect()
        time.sleep(pause / 4)
    deadline = time.perf_counter() + 0.5
    while got < sent and time.perf_counter() < deadline:
        got += collect()
        time.sleep(0.001)
    return sent, got


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", choices=RELAYS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=300.0, help="Mbit/s of WireGuard (default: 300)")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    samples: dict[str, list[dict[str, float]]] = {kind: [] for kind in RELAYS}
    for _ in range(options.rounds):
        for kind in RELAYS:
            samples[kind].append(measure(kind, options.rate * 1e6 / 8, options.seconds))
    base = statistics.median(each["cpu_s_per_gb"] for each in samples["wgpy"])
    print(f"{'relay':<18}{'CPU s/GB':>10}{'× wgpy':>9}{'Mbit/s':>9}{'lost':>8}")
    for kind, found in samples.items():
        cost, rate, lost = (
            statistics.median(each[name] for each in found) for name in ("cpu_s_per_gb", "mbit_s", "lost")
        )
        print(f"{kind:<18}{cost:>10.2f}{cost / base:>9.1f}{rate:>9.0f}{lost:>8.2%}")
    if not options.no_write:
        document = {
            "machine": machine.describe(),
            "commit": machine.commit(),
            "payload": PAYLOAD,
            "samples": samples,
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
