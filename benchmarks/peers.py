"""What do many peers cost? Memory, the time of `wg setconf`, and the throughput spread over 100 of them.

    python -m benchmarks.peers [--quick] [--only NAME]… [--peers 10000]… [--no-traffic]

Each contender's device gets 1, 100, 1,000 and 10,000 peers. Of those, up to 100 are there: wireguard-go
devices on the other host, the same for all contenders (their cost dilutes the ratios). Needs root.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks import contenders
from benchmarks.builds import Unavailable
from benchmarks.contenders import Contender
from benchmarks.identities import NEAR_NUMBER, PORT, configuration, inner_address, private_key
from benchmarks.panels import draw
from benchmarks.paths import Cable, Load, cpu_seconds, load_peers, start_device, status_mib, udp_load
from benchmarks.results import Results, Row, progress
from benchmarks.search import Trial, loss_free_rate
from tests.netns.hosts import Host, Lab
from tests.netns.processes import HostFailure, Process, wait_until

COUNTS = (1, 100, 1000, 10_000)
LIVE = 100
NEAR_INNER = "10.77.0.1"
SIZE = 1392
TRIAL_SECONDS = 0.4
SETTLE_SECONDS = 15.0
PIECE = 44


def count_of(peers: int, kind: str = "") -> str:
    return f"{peers:,} {kind}peer{'s' if peers > 1 else ''}"


def set_up_row(peers: int) -> Row:
    return Row(
        f"{count_of(peers)}: wg setconf",
        "s",
        False,
        f"wg setconf of {count_of(peers)}" if peers > 1 else "",
        3,
    )


def memory_row(peers: int) -> Row:
    return Row(f"{count_of(peers)}: RSS", "MiB", False, f"Memory with {count_of(peers, 'idle ')}", 1)


def traffic_row(peers: int, segments: int) -> Row:
    live = min(peers, LIVE)
    how = "sender GSO" if segments > 1 else "no sender GSO"
    chart = f"UDP over {live} of {count_of(peers)}, {how}" if peers in (100, 10_000) else ""
    return Row(f"{count_of(peers)}: UDP {SIZE} B over {live}, {how}", "Mbit/s", chart=chart)


class FarEnds:
    """100 wireguard-go devices on the far host, one a peer, that stay for all contenders."""

    def __init__(self, host: Host, program: tuple[str, ...], count: int) -> None:
        self.host = host
        near = private_key(NEAR_NUMBER).public_key()

        def start(number: int) -> None:
            name = f"wg{number}"
            process = host.start(*program, name, log=name, env={"LOG_LEVEL": "silent"})
            wait_until(
                lambda: host.run("wg", "show", name, check=False).returncode == 0,
                f"{name} answers",
                timeout=30,
            )
            assert process.returncode is None
            path = host.path / f"{name}.conf"
            path.touch(0o600)
            path.write_text(
                f"[Interface]\nPrivateKey = {private_key(number).to_base64()}\nListenPort = {PORT + number}\n"
                f"[Peer]\nPublicKey = {near}\nAllowedIPs = {NEAR_INNER}/32\n"
            )
            host.run("wg", "setconf", name, path)
            host.ip(f"address add {inner_address(number)}/32 dev {name}", f"link set {name} mtu 1420 up")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start, range(1, count + 1)))

    def endpoints(self, count: int) -> dict[int, str]:
        return {number: f"{self.host.ipv4}:{PORT + number}" for number in range(1, count + 1)}


def measure_one(near: Host, far: FarEnds | None, contender: Contender, peers: int, results: Results) -> None:
    """A fresh device with so many peers. Raises HostFailure."""
    live = min(peers, LIVE) if far else 0
    assert contender.implementation is not None
    device = start_device(near, contender.implementation)
    try:
        text = configuration(peers, far.endpoints(live) if far else {})
        started = time.monotonic()
        load_peers(near, text)
        results.add(set_up_row(peers), contender.name, time.monotonic() - started)
        wait_idle(device)
        results.add(memory_row(peers), contender.name, status_mib(device.pid, "VmRSS"))
        if far:
            near.ip(f"address add {NEAR_INNER}/32 dev wg0", "link set wg0 mtu 1420 up")
            near.ip("route add 10.78.0.0/16 dev wg0 src " + NEAR_INNER)
            for row, megabits in measure_traffic(near, far, contender.name, peers):
                results.add(row, contender.name, megabits)
    finally:
        if device.returncode is None:
            device.stop()
        wait_until(
            lambda: near.run("ip", "link", "show", "wg0", check=False).returncode != 0,
            "the interface is gone",
        )


def wait_idle(device: Process) -> None:
    """Until a quarter of a second passes in which the device does next to nothing."""

    def is_idle() -> bool:
        before = cpu_seconds(device.pid)
        time.sleep(0.25)
        return cpu_seconds(device.pid) - before < 0.03

    wait_until(is_idle, f"{device.words[0]} becomes idle", timeout=60)


def measure_traffic(near: Host, far: FarEnds, name: str, peers: int) -> Iterator[tuple[Row, float]]:
    """Mbit/s without loss, the live peers taking turns. Raises HostFailure when one of them stays silent."""
    live = min(peers, LIVE)

    def try_rate(rate: float, segments: int) -> Trial:
        load = Load(rate, TRIAL_SECONDS, SIZE, segments, live)
        return udp_load(near, far.host, inner_address(1), load)

    wait_until(
        lambda: try_rate(1000, 1).is_loss_free, f"{name}: {live} peers have a session", timeout=SETTLE_SECONDS
    )
    for segments in (1, PIECE):
        found = loss_free_rate(partial(try_rate, segments=segments), 5000)
        yield traffic_row(peers, segments), found.rate * SIZE * 8 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1 and 1,000 peers, no traffic; no files")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--peers", action="append", type=int, choices=COUNTS, help="only so many; default all of them"
    )
    parser.add_argument("--no-traffic", action="store_true", help="memory and set-up time only")
    parser.add_argument("--no-write", action="store_true", help="print the table, write no files")
    contenders.add_options(parser)
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("benchmarks need root, for network namespaces")
    counts = (1, 1000) if arguments.quick else arguments.peers or COUNTS
    results = Results("What do many peers cost?")
    results.notes += arguments.note
    results.parameters = {"rounds": arguments.rounds, "peers": list(counts), "live": LIVE}
    chosen = contenders.choose(arguments.only, results, without_plain=True)
    try:
        with Lab("peers") as lab:
            cable = Cable(lab)
            near, far_host = cable.host("near"), cable.host("far")
            far = None
            if not arguments.quick and not arguments.no_traffic:
                program = contenders.KNOWN[contenders.BASE]().implementation
                assert program is not None
                progress(f"starting {LIVE} far ends")
                far = FarEnds(far_host, program.command, LIVE)
            for turn in range(arguments.rounds):
                for peers in counts:
                    for contender in chosen:
                        progress(f"round {turn + 1}: {peers:,} peers: {contender.name}")
                        try:
                            measure_one(near, far, contender, peers, results)
                        except HostFailure as error:
                            results.notes.append(f"{contender.name}, {peers:,} peers: {error}")
                            progress(results.notes[-1])
    except (HostFailure, Unavailable) as error:
        sys.exit(f"peers: {error}")
    writes = not arguments.no_write and not arguments.quick
    results.finish(
        "peers", draw("What many peers cost a userspace WireGuard", results, chosen), writes=writes
    )


if __name__ == "__main__":
    main()
