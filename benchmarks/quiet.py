"""What does a mesh cost when nobody talks? CPU of an agent, and packets it sends, of all kinds.

sudo .venv/bin/python -m benchmarks.quiet                # 50 nodes, then one with 1,000 idle: 15 minutes
sudo .venv/bin/python -m benchmarks.quiet known          # the latter alone
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.machine import commit
from benchmarks.paths import cpu_seconds, status_mib
from benchmarks.results import align
from tests.netns.hosts import Host, Lab
from tests.netns.meeting import MeetingGround, RoutedInternet
from tests.netns.mesh import Node
from tests.netns.processes import wait_until

RESULT: Final = Path(__file__).with_name("results") / "quiet.json"
SETTLE: Final = 120.0
"""Seconds that a mesh has after its start, and after what happened to it: until every path was searched."""
PACKETS_GOAL: Final = 20.0
"""A second, sent by a node to all others together."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds that a mesh has to settle, and that it is measured after that."""

    settle: float
    measure: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Of one node, a second: the mean of all that were measured, and the worst."""

    what: str
    cpu_percent: float
    worst_cpu_percent: float
    packets: float
    worst_packets: float
    resident_mib: float


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(("one", "mesh", "known")))
@click.option("--nodes", default=50, help="Nodes of the mesh that is idle.")
@click.option("--peers", default=1000, help="Idle peers that one node knows.")
@click.option("--seconds", default=60.0, help="Seconds that are measured.")
@click.option("--write/--no-write", default=False, help=f"Write {RESULT.name}.")
def main(parts: tuple[str, ...], nodes: int, peers: int, seconds: float, write: bool) -> None:
    """Print a table; the exit code is 1 when a node sends more than 20 packets a second."""
    found: list[Silence] = []
    with Lab("quiet") as lab:
        ground = MeetingGround(lab, internet=RoutedInternet)
        span = Span(SETTLE, seconds)
        for silence in _measure(ground, parts or ("one", "mesh", "known"), nodes, peers, span):
            found.append(silence)
            print("  ".join(_row(silence)), file=sys.stderr)
            if write:
                _write([silence])
    print(align([["a node of", "CPU, %", "worst", "packets/s sent", "worst"], *map(_row, found)]))
    if any(silence.worst_packets > PACKETS_GOAL for silence in found):
        raise SystemExit(1)


def _measure(
    ground: MeetingGround, parts: Sequence[str], nodes: int, peers: int, span: Span
) -> Iterator[Silence]:
    if "one" in parts:
        yield from _measure_mesh(ground, 1, Span(10.0, 15.0))
    if "mesh" in parts:
        yield from _measure_mesh(ground, nodes, span)
    if "known" in parts:
        yield _measure_known(ground, peers, span)


def _row(silence: Silence) -> list[str]:
    figures = silence.cpu_percent, silence.worst_cpu_percent, silence.packets, silence.worst_packets
    return [silence.what, *(f"{figure:.2f}" for figure in figures)]


def _write(found: Sequence[Silence]) -> None:
    """What was measured replaces what the file has of the same; the rest of it stays."""
    rows = json.loads(RESULT.read_text())["silences"] if RESULT.exists() else []
    fresh = [asdict(silence) | {"commit": commit()} for silence in found]
    kept = [row for row in rows if all(row["what"] != new["what"] for new in fresh)]
    RESULT.write_text(json.dumps({"silences": kept + fresh}, indent=1) + "\n")


def _measure_mesh(ground: MeetingGround, count: int, span: Span) -> Iterator[Silence]:
    with ground.visitors():
        hosts = [ground.internet.host(f"node{number}") for number in range(count)]
        with ground.join(*hosts) as nodes:
            for node in nodes:
                _wait_reachable(node, count - 1)
            print(f"{count} nodes, and all tunnels are up", file=sys.stderr)
            yield _watch(f"a mesh of {count}", nodes, span)
            if count > 1:
                _disturb(ground, nodes)
                yield _watch(f"a mesh of {count}, after events", nodes, span)


def _disturb(ground: MeetingGround, nodes: Sequence[Node]) -> None:
    """Some move, an agent is killed and started again, and so is the coordinator with its relay."""
    assert isinstance(ground.internet, RoutedInternet)
    for node in nodes[::10]:
        ground.internet.move(node.host)
    ground.mesh.serving.kill()
    agent = nodes[1].agent
    assert agent is not None
    agent.kill()
    nodes[1].up()
    ground.mesh.serve()
    for node in nodes:
        _wait_reachable(node, len(nodes) - 1)


def _wait_reachable(node: Node, count: int) -> None:
    def is_reachable() -> bool:
        with contextlib.suppress(OSError):  # it was started a moment ago
            return sum(peer["path"] != "none" for peer in node.report()["peers"]) == count
        return False

    wait_until(is_reachable, f"all tunnels of {node.host.name}", timeout=240, interval=1)


def _measure_known(ground: MeetingGround, peers: int, span: Span) -> Silence:
    with ground.visitors(), ground.join(ground.internet.host("node")) as (node,):
        token = ground.mesh.token("--uses", str(peers), network=node.network)
        crowd = ground.mesh.coordinator.start(
            sys.executable, "-m", "benchmarks.light_crowd", token, str(peers), log="crowd", stdin=True
        )
        crowd.wait_text("ready", timeout=360)
        wait_until(lambda: len(node.report()["peers"]) == peers, "all are in the map", timeout=60)
        silence = _watch(f"a mesh of {peers + 1}, of which {peers} are known and idle", [node], span)
        crowd.kill()
        return silence


def _watch(what: str, nodes: Sequence[Node], span: Span) -> Silence:
    pids = [node.agent.pid for node in nodes if node.agent is not None]
    time.sleep(span.settle)
    began, cpu = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    packets = [_sent(node.host) for node in nodes]
    time.sleep(span.measure)
    took = time.monotonic() - began
    shares = [(cpu_seconds(pid) - before) / took * 100 for pid, before in zip(pids, cpu, strict=True)]
    rates = [(_sent(node.host) - before) / took for node, before in zip(nodes, packets, strict=True)]
    return Silence(
        what,
        sum(shares) / len(shares),
        max(shares),
        sum(rates) / len(rates),
        max(rates),
        max(status_mib(pid, "VmRSS") for pid in pids),
    )


def _sent(host: Host) -> int:
    """Packets that left its link, whatever they were."""
    return int(Path(f"/proc/{host.pid}/net/dev").read_text().partition("eth0:")[2].split()[9])


if __name__ == "__main__":
    main()
