"""What many nodes cost a coordinator: memory and CPU a node, how soon a change is everywhere, how it takes a
storm of reconnects, how many join a second.

One coordinator process and, in this process, light nodes of the real protocol over real TLS. The figures of
both are told: they share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.light_node import LightNode, Wire, client_context
from benchmarks.machine import commit, describe
from coordinator.client import open_client
from coordinator.state_dir import StateDir
from tests.coordinator.postgres import PostgresServer
from tests.coordinator.process import Coordinator
from wgpy.mesh.token import Token

RESULTS = Path(__file__).parent / "results"
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Shape:
    """How many nodes, and how many of them are in one network."""

    nodes: int
    per_network: int

    @property
    def networks(self) -> int:
        return -(-self.nodes // self.per_network)


class Server:
    """The coordinator's process, from outside."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator

    @property
    def pid(self) -> int:
        assert self.coordinator.process is not None
        return self.coordinator.process.pid

    def cpu(self) -> float:
        """Seconds so far, user and kernel, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> int:
        """Octets that are its alone and resident."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return sum(
            int(line.split()[1]) * 1024
            for line in text.splitlines()
            if line.startswith(("Private_", "Swap:"))
        )


class Meter:
    """CPU of both sides and the time, since it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._server_began, self._own_began = server.cpu(), _own_cpu()
        self._began = time.perf_counter()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(time.perf_counter() - self._began, 3),
            "server_cpu": round(self._server.cpu() - self._server_began, 3),
            "client_cpu": round(_own_cpu() - self._own_began, 3),
        }


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system


async def at_once(
    count: int, work: Callable[[LightNode], Awaitable[None]], nodes: Sequence[LightNode]
) -> None:
    """`work` for every node, `count` of them at a time."""
    waiting = iter(nodes)

    async def worker() -> None:
        for node in waiting:
            await work(node)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(worker())


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def changes(nodes: Sequence[LightNode], shape: Shape, count: int) -> dict[str, float]:
    """How long from a node's new record to the last, and to each, of those that hear of it."""
    lasts, each = [], []
    for turn in range(count):
        author = nodes[turn * shape.per_network % len(nodes)]
        wire = await author.connect()
        began = time.perf_counter()
        revision = await author.sign(wire, 2 + turn)
        first = author.host.number // shape.per_network * shape.per_network
        peers = nodes[first : first + shape.per_network]
        while any(node.revision < revision for node in peers):
            if time.perf_counter() > began + 60:
                raise TimeoutError("a change did not reach every node within a minute")
            await asyncio.sleep(0.002)
        delays = [node.at - began for node in peers]
        lasts.append(max(delays))
        each += delays
        assert wire.transport is not None
        wire.transport.close()
        await asyncio.sleep(0.2)
    return {
        "changes": count,
        "last_p50": round(statistics.median(lasts), 4),
        "last_p99": round(percentile(lasts, 0.99), 4),
        "each_p50": round(statistics.median(each), 4),
        "each_p99": round(percentile(each, 0.99), 4),
    }


async def storm(server: Server, nodes: Sequence[LightNode], *, cold: bool) -> dict[str, Any]:
    """The coordinator is killed and started again, and every node comes back at once."""
    for node in nodes:
        node.kinds.clear()
        if cold:
            node.epoch, node.follower = "", None
    await asyncio.to_thread(server.coordinator.stop, 9)
    await asyncio.gather(*(node.lost.wait() for node in nodes))
    await asyncio.to_thread(server.coordinator.start)
    meter = Meter(server)
    watching = asyncio.create_task(admins(server.coordinator))
    await at_once(500, _come_back, nodes)
    figures: dict[str, Any] = dict(meter.read())
    watching.cancel()
    kinds: dict[str, int] = {}
    for node in nodes:
        for kind, number in node.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + number
    return figures | {"frames": kinds, "admins": await watching}


async def _come_back(node: LightNode) -> None:
    """As agents do: again after a short while, when it was refused."""
    for attempt in range(100):
        try:
            await node.watch()
        except OSError:
            await asyncio.sleep(0.1 * (attempt + 1))
        else:
            return
    raise TimeoutError("a node did not come back")


async def admins(coordinator: Coordinator) -> dict[str, float]:
    """What somebody at the page gets until cancelled: one request after the other."""
    key = json.loads((coordinator.state_dir / "admin.json").read_text())["key"]
    times: list[float] = []
    errors = 0
    try:
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: Wire(lambda _: None, lambda: None), "127.0.0.1", coordinator.port,
            ssl=client_context(), server_hostname="c", local_addr=("127.9.9.9", 0),
        )  # fmt: skip
        while True:
            began = time.perf_counter()
            status, _ = await wire.ask("GET", "/v1/admin/networks", None, key)
            times.append(time.perf_counter() - began)
            errors += status != 200
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return {"asked": len(times), "errors": errors, "slowest": round(max(times, default=0.0), 3)}


async def measure(shape: Shape, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    port = await asyncio.to_thread(_free_port)
    coordinator = Coordinator(folder / "state", port)
    await asyncio.to_thread(coordinator.start)
    server = Server(coordinator)
    figures: dict[str, Any] = {"nodes": shape.nodes, "per_network": shape.per_network}
    try:
        context = client_context()
        nodes: list[LightNode] = []
        for token in await asyncio.to_thread(make_networks, coordinator, shape):
            numbers = range(len(nodes), min(len(nodes) + shape.per_network, shape.nodes))
            nodes += [LightNode(number, coordinator.url, token, context) for number in numbers]
        meter = Meter(server)
        await at_once(64, LightNode.join, nodes)
        figures["join"] = meter.read()
        figures["join"]["a_second"] = round(shape.nodes / figures["join"]["seconds"], 1)
        say("join", figures["join"])

        # From a fresh process: what joining left in memory is not the streams'.
        await asyncio.to_thread(coordinator.stop)
        await asyncio.to_thread(coordinator.start)
        await nodes[0].watch()
        before = server.memory()
        meter = Meter(server)
        await at_once(128, LightNode.watch, nodes[1:])
        figures["connect"] = meter.read()
        await asyncio.sleep(3)
        figures["connect"]["octets_a_node"] = (server.memory() - before) // (shape.nodes - 1)
        say("connect", figures["connect"])

        meter = Meter(server)
        await asyncio.sleep(options.idle)
        figures["idle"] = meter.read()
        figures["idle"]["octets_a_node"] = (server.memory() - before) // (shape.nodes - 1)
        figures["idle"]["cpu_percent"] = round(
            100 * figures["idle"]["server_cpu"] / figures["idle"]["seconds"], 2
        )
        say("idle", figures["idle"])

        meter = Meter(server)
        figures["change"] = await changes(nodes, shape, options.changes)
        figures["change"] |= {name: value for name, value in meter.read().items() if name != "seconds"}
        say("change", figures["change"])

        for name, cold in (("storm", False), ("cold_storm", True)):
            figures[name] = await storm(server, nodes, cold=cold)
            say(name, figures[name])
            await asyncio.sleep(2)
    finally:
        for node in nodes:
            node.hang_up()
        await asyncio.to_thread(coordinator.stop)
    return figures


async def measure_two(shape: Shape, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Two processes over one PostgreSQL: every other node of each network follows the other one."""
    with tempfile.TemporaryDirectory(prefix="wgpy-postgres-") as place:
        postgres = PostgresServer(place)
        await asyncio.to_thread(postgres.start)
        servers: list[Server] = []
        nodes: list[LightNode] = []
        figures: dict[str, Any] = {"nodes": shape.nodes, "per_network": shape.per_network, "processes": 2}
        try:
            database = ("--database", await asyncio.to_thread(postgres.create, "wgpy"))
            for number in range(2):
                own = folder / str(number)
                own.mkdir()
                coordinator = Coordinator(own / "state", await asyncio.to_thread(_free_port), *database)
                if servers:
                    coordinator.state_dir.mkdir(mode=0o700)
                    shutil.copy(servers[0].coordinator.state_dir / "secrets.key", coordinator.state_dir)
                    coordinator.options += ("--url", servers[0].coordinator.url)
                await asyncio.to_thread(coordinator.start)
                servers.append(Server(coordinator))
            context = client_context()
            for token in await asyncio.to_thread(make_networks, servers[0].coordinator, shape):
                numbers = range(len(nodes), min(len(nodes) + shape.per_network, shape.nodes))
                nodes += [
                    LightNode(number, servers[number % 2].coordinator.url, token, context)
                    for number in numbers
                ]
            meters = [Meter(server) for server in servers]
            await at_once(64, LightNode.join, nodes)
            figures["join"] = _both(meters)
            figures["join"]["a_second"] = round(shape.nodes / figures["join"]["seconds"], 1)
            say("join", figures["join"])
            await at_once(128, LightNode.watch, nodes)
            await asyncio.sleep(3)
            meters = [Meter(server) for server in servers]
            await asyncio.sleep(options.idle)
            figures["idle"] = _both(meters)
            say("idle", figures["idle"])
            figures["change"] = await changes(nodes, shape, options.changes)
            say("change", figures["change"])
        finally:
            for node in nodes:
                node.hang_up()
            for server in servers:
                await asyncio.to_thread(server.coordinator.stop)
            await asyncio.to_thread(postgres.stop)
    return figures


def _both(meters: Sequence[Meter]) -> dict[str, float]:
    first, second = (meter.read() for meter in meters)
    return first | {"server_cpu": round(first["server_cpu"] + second["server_cpu"], 3)}


def make_networks(coordinator: Coordinator, shape: Shape) -> list[Token]:
    """A token without limit for each."""
    tokens = []
    with open_client(StateDir(coordinator.state_dir)) as client:
        for network in range(shape.networks):
            name = f"n{network}"
            client.call("POST", "networks", body={"name": name, "ranges": [_range(network)]})
            made = client.call("POST", "networks", name, "tokens", body={"uses": 0})
            tokens.append(Token.decode(made["token"]))
    return tokens


def _range(network: int) -> str:
    return f"10.{network}.0.0/16" if network < 256 else f"172.{16 + network % 16}.0.0/16"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def say(what: str, figures: dict[str, Any]) -> None:
    print(f"{what:12}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--per-network", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to look at idle streams")
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--postgres", action="store_true", help="two processes over one PostgreSQL")
    parser.add_argument("--no-write", action="store_true", help="keep no file of it")
    options = parser.parse_args()
    shape = Shape(options.nodes, options.per_network)
    with tempfile.TemporaryDirectory(prefix="wgpy-benchmark-") as folder:
        load = os.getloadavg()[0]
        work = measure_two if options.postgres else measure
        figures = uvloop.run(work(shape, options, Path(folder)))
    if not options.no_write:
        value = {"machine": describe(), "commit": commit(), "load_before": load, "figures": figures}
        what = "-postgres" if options.postgres else ""
        path = RESULTS / f"coordinator-{shape.nodes}x{shape.per_network}{what}.json"
        path.write_text(json.dumps(value, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
