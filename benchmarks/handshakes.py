"""How many handshakes a second, how soon the first byte, and how long until a crowd is let in?

    python -m benchmarks.handshakes [--quick] [--rounds 3] [--only NAME]…

Three questions to each contender, in interleaved rounds. `crowd.py` plays the peers of the first and third:
handshakes answered a second with a few under way, and 1,000 peers that come up in the same instant and repeat
as WireGuard does. The second is a first echo through a tunnel without session, the handshake included. Needs
root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from benchmarks import contenders
from benchmarks.contenders import Contender
from benchmarks.identities import OUTER_NETWORK, configuration
from benchmarks.panels import draw
from benchmarks.paths import Cable, MeasuredPath, cpu_seconds, load_peers, start_device
from benchmarks.results import Results, Row, progress
from tests.netns.hosts import REPOSITORY, Lab
from tests.netns.processes import HostFailure

ANSWERED = Row("Handshakes answered", "a second", chart="Handshakes answered a second")
COST = Row("CPU of one answer", "ms", False, "CPU of one answer", 3)
FIRST_BYTE = Row("First echo without a session", "ms", False, "First echo, handshake included", 2)
AT_ONCE = Row("Of the crowd let in within a second", "peers")
HALF = Row("Half of the crowd let in after", "s", False, "", 2)
ALL = Row("All of the crowd let in after", "s", False, "The last of 1,000 at once let in", 2)
LONGEST_BURST = 30


class Crowded:
    """A contender's device, and a host from which a crowd knocks."""

    def __init__(self, lab: Lab, number: int, contender: Contender, peers: int) -> None:
        assert contender.implementation is not None
        self.peers = peers
        cable = Cable(lab)
        self.near, self.far = cable.host(f"h{number}-device"), cable.host(f"h{number}-crowd")
        self.near.ip(f"route add {OUTER_NETWORK} via {self.far.ipv4}")
        self.far.ip(f"route add local {OUTER_NETWORK} dev lo")
        self.device = start_device(self.near, contender.implementation)
        load_peers(self.near, configuration(peers, {}))
        self.near.ip("address add 10.77.0.1/32 dev wg0", "link set wg0 mtu 1420 up")

    def close(self) -> None:
        """End both hosts."""
        self.near.close()
        self.far.close()

    def knock(self, mode: str, amount: float) -> dict[str, Any]:
        said = self.far.run(
            sys.executable, "-m", "benchmarks.crowd", mode, str(self.peers), str(self.near.ipv4),
            f"{amount:g}", timeout=180, env={"PYTHONPATH": str(REPOSITORY)},
        ).stdout  # fmt: skip
        result: dict[str, Any] = json.loads(said)
        return result


def first_echo_ms(path: MeasuredPath) -> float:
    """Both ends forget each other, meet anew, and the first echo is timed."""
    assert path.tunnel is not None
    ends = (path.tunnel.responder, path.tunnel.initiator)
    for end, other in (ends, reversed(ends)):
        end.wg("set", "wg0", "peer", other.keys.public, "remove")
    ends[0].add_peer(ends[1])
    ends[1].add_peer(ends[0], endpoint=ends[0].outer("v4"))
    times = path.echoes(1, 1.0, patience=10)
    if not times:
        raise HostFailure(f"{path.contender.name}: no first echo")
    return times[0]


def measure(lab: Lab, chosen: list[Contender], results: Results, arguments: argparse.Namespace) -> None:
    """Fill in the samples."""
    for turn in range(arguments.rounds):
        for number, contender in enumerate(chosen):
            progress(f"round {turn + 1} of {arguments.rounds}: {contender.name}")
            name, tag = contender.name, turn * len(chosen) + number
            try:
                path = MeasuredPath(lab, tag, contender)
                for _ in range(arguments.echoes):
                    results.add(FIRST_BYTE, name, first_echo_ms(path))
                path.close()
                # A device of its own for each, so that no load of the one is left for the other.
                crowded = Crowded(lab, 2 * tag, contender, arguments.peers)
                before = cpu_seconds(crowded.device.pid)
                rate = crowded.knock("rate", arguments.handshakes)
                spent = cpu_seconds(crowded.device.pid) - before
                crowded.close()
                if rate["answered"]:
                    results.add(ANSWERED, name, rate["answered"] / rate["seconds"])
                    results.add(COST, name, spent / rate["answered"] * 1e3)
                crowded = Crowded(lab, 2 * tag + 1, contender, arguments.peers)
                burst = crowded.knock("burst", LONGEST_BURST)
                crowded.close()
                results.add(AT_ONCE, name, burst["within_a_second"])
                results.add(HALF, name, burst["half"])
                results.add(ALL, name, burst["all"])
                if burst["never"]:
                    results.notes.append(f"{name}: {burst['never']} not let in within {LONGEST_BURST} s")
            except HostFailure as error:
                results.notes.append(f"{name}, round {turn + 1}: {error}")
                progress(results.notes[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, fewer handshakes; no files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=int, default=1000, help="the crowd")
    parser.add_argument("--handshakes", type=int, default=5000, help="of one measurement of the rate")
    parser.add_argument("--echoes", type=int, default=10, help="first echoes of a round")
    parser.add_argument("--no-write", action="store_true", help="print the table, write no files")
    contenders.add_options(parser)
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("benchmarks need root, for network namespaces")
    if arguments.quick:
        arguments.rounds, arguments.handshakes, arguments.echoes = 1, 1000, 3
    results = Results(
        "How many handshakes a second, how soon the first byte, how long until a crowd is let in?"
    )
    results.notes += arguments.note
    results.parameters = {
        name: getattr(arguments, name) for name in ("rounds", "peers", "handshakes", "echoes")
    }
    chosen = contenders.choose(arguments.only, results, without_plain=True)
    try:
        with Lab("handshakes") as lab:
            measure(lab, chosen, results, arguments)
    except HostFailure as error:
        sys.exit(f"handshakes: {error}")
    writes = not arguments.no_write and not arguments.quick
    results.finish("handshakes", draw("Handshakes of userspace WireGuards", results, chosen), writes=writes)


if __name__ == "__main__":
    main()
