"""What a gateway costs: TCP from a node to a node, and through that node to a machine behind it.

    python -m benchmarks.gateway [--rounds 5] [--seconds 2] [--no-write]

Three hosts: a laptop, a gateway that forwards its LAN with NAT, and a machine on that LAN that knows nothing
of the mesh. Both figures are measured in turn in each round. Also, how long 500 ranges take to be routed on
a node, and one more. Needs root.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Final

from benchmarks import machine
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.places import Lan
from tests.netns.processes import wait_until

RESULTS: Final = Path(__file__).parent / "results" / "gateway.json"
RANGES: Final = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    with Lab("bench-gateway") as lab:
        mesh = Mesh(Internet(lab))
        lan = Lan(lab, "lan")
        nas = lan.machine("nas", 10)
        gateway, laptop = mesh.node("gateway"), mesh.node("laptop")
        lan.plug(gateway.host, 1)
        for node in (gateway, laptop):
            node.up(mesh.token())
            node.wait_up()
        gateway.host.run("wgpy", "set", "--advertise", "any")
        mesh.admin("gateway", "add", "gateway", "192.168.1.0/24")
        laptop.wait_reach(gateway)
        wait_until(lambda: _reaches(laptop.host, "192.168.1.10"), "the LAN is reached", 30)
        samples = _throughput(laptop, gateway, nas, options.rounds, options.seconds)
        medians = {name: statistics.median(values) for name, values in samples.items()}
        ratio = medians["through the gateway"] / medians["node to node"]
        routed = _route_many(mesh, laptop)
    for name, value in medians.items():
        print(f"{name:22} {value:8.0f} Mbit/s")
    print(f"ratio                  {ratio:8.2f}")
    for name, seconds in routed.items():
        print(f"{name:22} {seconds:8.2f} s")
    if not options.no_write:
        document = {"machine": machine.describe(), "mbit_s": samples, "ratio": ratio, "seconds": routed}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")


def _reaches(host: Host, address: str) -> bool:
    return host.run("ping", "-c1", "-W1", address, check=False).returncode == 0


def _throughput(laptop: Node, gateway: Node, nas: Host, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Mbit/s as the receiver counts, from the laptop out."""
    ends = {
        "node to node": (gateway.host, gateway.address("v4")),
        "through the gateway": (nas, "192.168.1.10"),
    }
    for host, _ in ends.values():
        host.start("iperf3", "-s", "--forceflush", log="iperf3").wait_text("listening")
    samples: dict[str, list[float]] = {name: [] for name in ends}
    for _ in range(rounds):
        for name, (_, address) in ends.items():
            output = laptop.host.run("iperf3", "-c", address, "-t", str(seconds), "-J", timeout=60).stdout
            samples[name].append(json.loads(output)["end"]["sum_received"]["bits_per_second"] / 1e6)
    return samples


def _route_many(mesh: Mesh, laptop: Node) -> dict[str, float]:
    """Seconds from the end of the admin's command until another node has the routes: the gateway has signed
    them by then.
    """

    def routes() -> int:
        return laptop.host.run("ip", "-4", "route").stdout.count(" dev wg-home")

    def until(ranges: str, count: int) -> float:
        wanted = routes() + count
        mesh.admin("gateway", "add", "gateway", ranges)
        began = time.monotonic()
        wait_until(lambda: routes() >= wanted, f"{count} routes more", 60, 0.02)
        return time.monotonic() - began

    many = ",".join(f"172.{16 + i // 250}.{i % 250}.0/24" for i in range(RANGES))
    mesh.nodes["gateway"].host.ip(
        "route add 172.16.0.0/12 via 192.168.1.10", "route add 10.222.0.0/16 via 192.168.1.10"
    )
    return {f"{RANGES} ranges": until(many, RANGES), "one range more": until("10.222.7.0/24", 1)}


if __name__ == "__main__":
    main()
