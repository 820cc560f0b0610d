"""What does a mesh cost when nobody talks? CPU of an agent, and packets it sends, of all kinds.

sudo .venv/bin/python -m benchmarks.quiet                # 50 nodes, then one with 1,000 idle peers: 6 minutes
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.machine import commit
from benchmarks.paths import cpu_seconds, status_mib
from benchmarks.results import align
from tests.netns.hosts import Host, Lab
from tests.netns.meeting import MeetingGround
from tests.netns.mesh import Node
from tests.netns.processes import wait_until

RESULT: Final = Path(__file__).with_name("results") / "quiet.json"
PACKETS_GOAL: Final = 20.0
"""A second, sent by a node to all others together."""


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
@click.option("--nodes", default=50, help="Nodes of the mesh that is idle.")
@click.option("--peers", default=1000, help="Idle peers that one node knows.")
@click.option("--settle", default=60.0, help="Seconds before it is measured.")
@click.option("--seconds", default=60.0, help="Seconds that are measured.")
@click.option("--write/--no-write", default=False, help=f"Write {RESULT.name}.")
def main(nodes: int, peers: int, settle: float, seconds: float, write: bool) -> None:
    """Print a table; the exit code is 1 when a node sends more than 20 packets a second."""
    found = []
    with Lab("quiet") as lab:
        ground = MeetingGround(lab)
        found.append(_measure_mesh(ground, 1, settle / 4, seconds / 2))
        found.append(_measure_mesh(ground, nodes, settle, seconds))
        found.append(_measure_known(ground, peers, settle, seconds))
    rows = [
        [
            s.what,
            f"{s.cpu_percent:.2f}",
            f"{s.worst_cpu_percent:.2f}",
            f"{s.packets:.2f}",
            f"{s.worst_packets:.2f}",
        ]
        for s in found
    ]
    print(align([["a node of", "CPU, %", "worst", "packets/s sent", "worst"], *rows]))
    if write:
        document = {"commit": commit(), "silences": [asdict(silence) for silence in found]}
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    if any(silence.worst_packets > PACKETS_GOAL for silence in found):
        raise SystemExit(1)


def _measure_mesh(ground: MeetingGround, count: int, settle: float, seconds: float) -> Silence:
    with ground.visitors():
        hosts = [ground.internet.host(f"node{number}") for number in range(count)]
        with ground.join(*hosts) as nodes:
            for node in nodes:
                wait_until(
                    lambda node=node: _reachable(node) == count - 1, "all tunnels", timeout=240, interval=1
                )  # type: ignore[misc]
            return _watch(f"a mesh of {count}", nodes, settle, seconds)


def _reachable(node: Node) -> int:
    return sum(peer["path"] != "none" for peer in node.report()["peers"])


def _measure_known(ground: MeetingGround, peers: int, settle: float, seconds: float) -> Silence:
    with ground.visitors(), ground.join(ground.internet.host("node")) as (node,):
        token = ground.mesh.token("--uses", str(peers), network=node.network)
        crowd = ground.mesh.coordinator.start(
            sys.executable, "-m", "benchmarks.light_crowd", token, str(peers), log="crowd", stdin=True
        )
        crowd.wait_text("ready", timeout=300)
        wait_until(lambda: len(node.report()["peers"]) == peers, "all are in the map", timeout=60)
        silence = _watch(
            f"a mesh of {peers + 1}, of which {peers} are known and idle", [node], settle, seconds
        )
        crowd.kill()
        return silence


def _watch(what: str, nodes: Sequence[Node], settle: float, seconds: float) -> Silence:
    pids = [node.agent.pid for node in nodes if node.agent is not None]
    time.sleep(settle)
    began, cpu = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    packets = [_sent(node.host) for node in nodes]
    time.sleep(seconds)
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
