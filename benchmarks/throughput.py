"""How fast is a tunnel, and what does it cost? wgpy's engines and other WireGuards in user space, in one run.

    python -m benchmarks.throughput [--quick] [--rounds 3] [--only NAME]… [--measure udp]… [--size 64]…

Each contender has a tunnel between two hosts of its own (network namespaces joined by a cable), the same
program at both ends. In each round each figure is measured for each contender in turn, so that a machine
that slows down does so for all; the median of the rounds counts. Both ends share the machine's cores:
figures compare contenders and say nothing of two real machines. Needs root.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import contenders
from benchmarks.contenders import PLAIN, Contender
from benchmarks.panels import draw
from benchmarks.paths import Load, MeasuredPath
from benchmarks.results import Results, Row, progress
from benchmarks.search import loss_free_rate
from tests.interop.tunnel import Family
from tests.netns.hosts import Lab
from tests.netns.processes import HostFailure

MEASURES = ("tcp", "udp", "udp-gso", "rtt")
"""UDP from a sender that hands over each datagram alone, and from one with GSO."""
STREAMS = (1, 4, 16)
SIZES = (64, 512, 1392)
LARGEST_PIECE = 65507
MOST_SEGMENTS = 64
"""What every kernel with UDP_SEGMENT takes in one send."""
ECHO_INTERVAL = 0.005
RAMP = 0.2
"""Seconds that a TCP stream gets to fill the path before echoes are sent beside it."""
FIRST_RATE = 10_000.0
UDP_TRIALS_A_SECOND = 5


@dataclass(slots=True)
class Run:
    """What the measures need: samples go to `results`; searches begin near what the last one found."""

    results: Results
    seconds: float
    found: dict[tuple[str, int, int], float]

    def add(self, row: Row, path: MeasuredPath, value: float) -> None:
        self.results.add(row, path.contender.name, value)


Cell = Callable[[Run, MeasuredPath], None]


def tcp_cell(streams: int, back: bool, family: Family) -> Cell:
    number = f"{streams} stream{'s' if streams > 1 else ''}"
    where = f"{number}, {'back' if back else 'out'}, IP{family}"
    chart = f"TCP, {number}" if family == "v4" and not back else ""
    speed = Row(f"TCP, {where}", "Mbit/s", chart=chart)
    cost = Row(
        f"CPU, TCP, {number}", "s/GB", False, f"CPU of both ends, TCP, {number}" if streams == 1 else "", 1
    )
    again = Row(f"TCP retransmissions, {where}", "in all", False, in_table=False)

    def measure(run: Run, path: MeasuredPath) -> None:
        before = path.cpu_seconds()
        megabits, retransmissions = path.tcp(run.seconds, streams, family, back=back)
        spent = path.cpu_seconds() - before
        run.add(speed, path, megabits)
        run.add(again, path, retransmissions)
        if path.devices and megabits:
            run.add(cost, path, spent / (megabits * run.seconds / 8e3))

    return measure


def udp_cell(size: int, *, gso: bool) -> Cell:
    segments = min(MOST_SEGMENTS, LARGEST_PIECE // size) if gso else 1
    how = "sender GSO" if gso else "no sender GSO"
    speed = Row(
        f"UDP loss-free, {size} B, {how}", "Mbit/s", chart="" if size == 512 else f"UDP {size} B, {how}"
    )
    rate = Row(f"UDP loss-free, {size} B, {how}", "kpps")

    def measure(run: Run, path: MeasuredPath) -> None:
        key = (path.contender.name, size, segments)
        hint = run.found.get(key)
        found = loss_free_rate(
            lambda rate: path.udp(Load(rate, run.seconds / UDP_TRIALS_A_SECOND, size, segments)),
            hint or FIRST_RATE, growth=1.1 if hint else 2.0,
        )  # fmt: skip
        if found.rate:
            run.found[key] = found.rate
        run.add(speed, path, found.rate * size * 8 / 1e6)
        run.add(rate, path, found.rate / 1e3)

    return measure


def _add_echoes(run: Run, path: MeasuredPath, times: list[float], when: str) -> None:
    if not times:
        raise HostFailure(f"{path.contender.name}: no echo came back {when}")
    ordered = sorted(times)
    for what, value in (
        ("least", ordered[0]),
        ("median", statistics.median(ordered)),
        ("99 %", ordered[len(ordered) * 99 // 100]),
    ):
        chart = f"Round trip, {when}, median" if what == "median" else ""
        run.add(Row(f"RTT {when}, {what}", "ms", False, chart, 3), path, value)


def idle_echoes(run: Run, path: MeasuredPath) -> None:
    _add_echoes(run, path, path.echoes(int(run.seconds / ECHO_INTERVAL), ECHO_INTERVAL), "idle")


def loaded_echoes(run: Run, path: MeasuredPath) -> None:
    client = path.start_tcp(run.seconds + 3 * RAMP, 1, "v4", back=False)
    try:
        time.sleep(RAMP)
        times = path.echoes(int(run.seconds / ECHO_INTERVAL), ECHO_INTERVAL)
    finally:
        path.finish_tcp(client, run.seconds + 20)
    _add_echoes(run, path, times, "under TCP load")


def cells(
    measures: Sequence[str], streams_of: Sequence[int], sizes: Sequence[int], *, quick: bool
) -> list[Cell]:
    """What each round measures, in order."""
    chosen: list[Cell] = []
    if "tcp" in measures:
        for streams in (1, 4) if quick else streams_of:
            for back in (False,) if quick else (False, True):
                families: tuple[Family, ...] = ("v4",) if quick else ("v4", "v6")
                chosen += [tcp_cell(streams, back, family) for family in families]
    kinds = [gso for name, gso in (("udp-gso", True), ("udp", False)) if name in measures]
    for size in (1392,) if quick else sizes:
        chosen += [udp_cell(size, gso=gso) for gso in kinds]
    if "rtt" in measures:
        chosen += [idle_echoes, loaded_echoes]
    return chosen


def measure(lab: Lab, chosen: list[Contender], run: Run, rounds: int, to_do: list[Cell]) -> None:
    """Fill in the samples. A contender that fails is taken out, with the reason."""
    paths: list[MeasuredPath] = []

    def give_up(contender: Contender, error: Exception) -> None:
        progress(f"{contender.name}: {error}")
        run.results.notes.append(f"{contender.name} was given up: {error}")

    for number, contender in enumerate(chosen):
        try:
            paths.append(MeasuredPath(lab, number, contender))
        except HostFailure as error:
            give_up(contender, error)
    for turn in range(rounds):
        for count, cell in enumerate(to_do, 1):
            progress(f"round {turn + 1} of {rounds}, figure {count} of {len(to_do)}")
            for path in list(paths):
                try:
                    cell(run, path)
                except HostFailure as error:
                    give_up(path.contender, error)
                    paths.remove(path)
    peak = Row("Peak RSS, the larger end", "MiB", False, "Peak memory of the larger end", 1)
    for path in paths:
        if path.devices:
            run.add(peak, path, max(path.peak_resident_mib()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one round of the figures that matter most; no files"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="of each TCP run; a UDP trial is a fifth")
    parser.add_argument("--measure", action="append", choices=MEASURES, help="only these; default all")
    parser.add_argument("--streams", action="append", type=int, choices=STREAMS, help="only so many of TCP")
    parser.add_argument(
        "--size", action="append", type=int, choices=SIZES, help="only UDP payloads of so many octets"
    )
    parser.add_argument("--name", default="throughput", help="of the files; a run of a part gets its own")
    parser.add_argument("--no-write", action="store_true", help="print the table, write no files")
    contenders.add_options(parser)
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("benchmarks need root, for network namespaces: sudo make bench")
    rounds = 1 if arguments.quick else arguments.rounds
    results = Results("How fast is a tunnel, and what does it cost?")
    results.notes += arguments.note
    results.parameters = {"rounds": rounds, "seconds": arguments.seconds, "quick": arguments.quick}
    chosen = contenders.choose(arguments.only, results)
    if not chosen:
        sys.exit("throughput: nobody to measure; the names are: " + ", ".join(contenders.KNOWN))
    to_do = cells(
        arguments.measure or MEASURES, arguments.streams or STREAMS, arguments.size or SIZES,
        quick=arguments.quick,
    )  # fmt: skip
    try:
        with Lab("throughput") as lab:
            measure(lab, chosen, Run(results, arguments.seconds, {}), rounds, to_do)
    except HostFailure as error:
        sys.exit(f"throughput: {error}")
    if PLAIN in results.versions:
        results.notes.append(f"{PLAIN}: the same hosts without a tunnel, at the cable's MTU of 1500.")
    results.finish(
        arguments.name,
        draw("Userspace WireGuard on one machine", results, chosen),
        writes=not arguments.no_write and not arguments.quick,
    )


if __name__ == "__main__":
    main()
