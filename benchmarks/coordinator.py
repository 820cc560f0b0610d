"""What many nodes cost a coordinator: memory and CPU a node, how soon a change is everywhere, how it takes a
storm of reconnects, how many join a second.

One coordinator process and, in this process, light nodes of the real protocol over real TLS. The figures of
both are told: they share the machine's cores. `--keep DIR` leaves coordinator and nodes there, so that one
run can join them and another look at their streams.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.light_node import LightNode, Refused, Wire, client_context
from benchmarks.machine import commit, describe
from benchmarks.population import Shape, at_once, fill, load, make_networks, make_nodes, save
from tests.coordinator.postgres import PostgresServer
from tests.coordinator.process import Coordinator

RESULTS: Final = Path(__file__).parent / "results"
TICK: Final = os.sysconf("SC_CLK_TCK")
WARM: Final = 0.1
"""The share of the nodes that is there before memory is counted, so that what the process takes once,
whatever their number, is not counted as theirs.
"""
BY_PROXY: Final = ("--tls-by-proxy", "--trusted-proxy", "127.0.0.0/8")


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


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Admin:
    """Somebody at the page: one connection with the key of admin.json."""

    def __init__(self, coordinator: Coordinator, context: ssl.SSLContext | None) -> None:
        self._key = json.loads((coordinator.state_dir / "admin.json").read_text())["key"]
        self._port, self._context = coordinator.port, context
        self._wire: Wire | None = None

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Raises Refused, OSError."""
        if self._wire is None:
            _, self._wire = await asyncio.get_running_loop().create_connection(
                lambda: Wire(lambda _: None, lambda: None), "127.0.0.1", self._port, ssl=self._context,
                server_hostname="c" if self._context else None, local_addr=("127.9.9.9", 0),
            )  # fmt: skip
        headers = "if-match: *\r\n" if method == "PATCH" else ""
        status, answer = await self._wire.ask(method, f"/v1/admin/{path}", body, self._key, headers)
        if status // 100 != 2:
            raise Refused(f"{method} {path}: {status} {answer[:200]!r}")
        return json.loads(answer)

    async def look(self) -> dict[str, float]:
        """What they get until cancelled: one request after the other."""
        times: list[float] = []
        errors = 0
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                began = time.perf_counter()
                try:
                    await self.ask("GET", "networks")
                except (Refused, OSError):
                    errors += 1
                times.append(time.perf_counter() - began)
                await asyncio.sleep(0.1)
        return {"asked": len(times), "errors": errors, "slowest": round(max(times, default=0.0), 3)}


async def edits(
    admin: Admin, nodes: Sequence[LightNode], shape: Shape, count: int, *, far: Callable[[LightNode], bool]
) -> dict[str, float]:
    """How long from an admin's request to the last, and to each, of the nodes that need it. By turns a
    setting of the network changes and the name of a node. `far` are those that are waited for.
    """
    lasts, each = [], []
    for turn in range(count):
        number = turn % shape.networks
        peers = nodes[number * shape.per_network : (number + 1) * shape.per_network]
        wanted = 1 + max(node.revision for node in peers)
        began = time.perf_counter()
        if turn // shape.networks % 2:
            member = peers[turn % len(peers)].host.membership
            assert member is not None
            path = f"networks/n{number}/nodes/{member.node}"
            await admin.ask("PATCH", path, {"name": f"renamed-{turn}-{time.time_ns()}"})
        else:
            row = await admin.ask("GET", f"networks/n{number}")
            began = time.perf_counter()
            await admin.ask("PATCH", f"networks/n{number}", {"mtu": 1300 + (row["mtu"] + 1) % 70})
        told = [node for node in peers if far(node)]
        while any(node.revision < wanted for node in told):
            if time.perf_counter() > began + 60:
                raise TimeoutError("a change did not reach every node within a minute")
            await asyncio.sleep(0.002)
        delays = [node.at - began for node in told]
        lasts.append(max(delays))
        each += delays
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
    watching = asyncio.create_task(Admin(server.coordinator, nodes[0].context).look())
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


async def join(server: Server, shape: Shape, keep: Path) -> dict[str, Any]:
    """All nodes join, 64 at a time; they and their tokens are kept."""
    coordinator, context = server.coordinator, client_context()
    tokens = await asyncio.to_thread(make_networks, coordinator, shape)
    nodes = make_nodes(shape, tokens, [coordinator.url], context)
    meter = Meter(server)
    await at_once(64, LightNode.join, nodes)
    figures = meter.read()
    figures["a_second"] = round(shape.nodes / figures["seconds"], 1)
    save(keep, coordinator.port, tokens, nodes)
    return figures


async def watch(server: Server, nodes: Sequence[LightNode], options: argparse.Namespace) -> dict[str, Any]:
    """All nodes begin their streams, and are left in peace."""
    warm = max(1, int(WARM * len(nodes)))
    base = server.memory()
    await at_once(64, LightNode.watch, nodes[:warm])
    await asyncio.sleep(3)
    before = server.memory()
    meter = Meter(server)
    await at_once(128, LightNode.watch, nodes[warm:])
    figures: dict[str, Any] = {"connect": meter.read()}
    say("connect", figures["connect"])
    await asyncio.sleep(3)
    meter = Meter(server)
    await asyncio.sleep(options.idle)
    idle: dict[str, Any] = dict(meter.read())
    memory = server.memory()
    idle["octets_a_node"] = (memory - before) // (len(nodes) - warm)
    idle["octets_of_process"] = memory
    idle["octets_without_nodes"] = base
    idle["cpu_percent"] = round(100 * idle["server_cpu"] / idle["seconds"], 2)
    say("idle", idle)
    return figures | {"idle": idle}


async def measure(shape: Shape, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    keep = folder / "nodes.json"
    figures: dict[str, Any] = {}
    if options.fill and not keep.exists():
        coordinator = Coordinator(folder / "state", _free_port())
        await asyncio.to_thread(fill, coordinator, shape, keep)
    if not keep.exists():
        async with running(folder, _free_port()) as server:
            figures["join"] = await join(server, shape, keep)
            say("join", figures["join"])
    if options.join_only:
        return figures
    context = None if options.proxy else client_context()
    port, nodes = load(keep, shape, context)
    # A fresh process: what joining left in memory is not the streams'.
    async with running(folder, port, *(BY_PROXY if options.proxy else ())) as server:
        try:
            figures |= await watch(server, nodes, options)
            admin = Admin(server.coordinator, context)
            meter = Meter(server)
            figures["edit"] = await edits(admin, nodes, shape, options.changes, far=lambda _node: True)
            figures["edit"] |= {name: value for name, value in meter.read().items() if name != "seconds"}
            say("edit", figures["edit"])
            for name, cold in () if options.calm else (("storm", False), ("cold_storm", True)):
                figures[name] = await storm(server, nodes, cold=cold)
                say(name, figures[name])
                await asyncio.sleep(2)
        finally:
            for node in nodes:
                node.hang_up()
    return figures


@contextlib.asynccontextmanager
async def running(folder: Path, port: int, *words: str) -> AsyncIterator[Server]:
    coordinator = Coordinator(folder / "state", port, *words)
    await asyncio.to_thread(coordinator.start)
    try:
        yield Server(coordinator)
    finally:
        await asyncio.to_thread(coordinator.stop)


async def measure_two(shape: Shape, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Two processes over one PostgreSQL: every other node of each network follows the other one. Admins ask
    the first; the nodes of the second are waited for.
    """
    with tempfile.TemporaryDirectory(prefix="wgpy-postgres-") as place:
        postgres = PostgresServer(place)
        await asyncio.to_thread(postgres.start)
        servers: list[Server] = []
        nodes: list[LightNode] = []
        figures: dict[str, Any] = {"processes": 2}
        try:
            database = ("--database", await asyncio.to_thread(postgres.create, "wgpy"))
            for number in range(2):
                own = folder / str(number)
                own.mkdir()
                coordinator = Coordinator(own / "state", _free_port(), *database)
                if servers:
                    coordinator.state_dir.mkdir(mode=0o700)
                    shutil.copy(servers[0].coordinator.state_dir / "secrets.key", coordinator.state_dir)
                    coordinator.options += ("--url", servers[0].coordinator.url)
                await asyncio.to_thread(coordinator.start)
                servers.append(Server(coordinator))
            context = client_context()
            tokens = await asyncio.to_thread(make_networks, servers[0].coordinator, shape)
            urls = [server.coordinator.url for server in servers]
            nodes = make_nodes(shape, tokens, urls, context)
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
            admin = Admin(servers[0].coordinator, context)
            figures["edit"] = await edits(
                admin, nodes, shape, options.changes, far=lambda node: node.url == urls[1]
            )
            say("edit", figures["edit"])
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def say(what: str, figures: dict[str, Any]) -> None:
    print(f"{what:12}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def write(path: Path, shape: Shape, load_before: float, figures: dict[str, Any]) -> None:
    """Beside what other runs of the same shape found, each with the commit and the load that it had."""
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("machine") != describe():
        known = {}  # another machine's figures would be taken for this one's
    stamp = {"commit": commit(), "load_before": round(load_before, 2)}
    found = {name: value | stamp for name, value in figures.items() if isinstance(value, dict)}
    value = {
        "machine": describe(),
        "nodes": shape.nodes,
        "per_network": shape.per_network,
        "figures": known.get("figures", {}) | found,
    }
    path.write_text(json.dumps(value, indent=2) + "\n")
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--per-network", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to look at idle streams")
    parser.add_argument("--changes", type=int, default=60)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="joined nodes stay there, and are taken from there"
    )
    parser.add_argument("--join-only", action="store_true", help="with --keep: the rest is another run's")
    parser.add_argument(
        "--fill",
        action="store_true",
        help="put nodes that were not kept into the database: none joins",
    )
    parser.add_argument("--calm", action="store_true", help="no storms of reconnects")
    parser.add_argument("--proxy", action="store_true", help="TLS ends before the coordinator: plain HTTP")
    parser.add_argument("--postgres", action="store_true", help="two processes over one PostgreSQL")
    parser.add_argument("--no-write", action="store_true", help="keep no file of it")
    options = parser.parse_args()
    shape = Shape(options.nodes, options.per_network)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="wgpy-benchmark-") as temporary:
        folder: Path = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        work = measure_two if options.postgres else measure
        figures = uvloop.run(work(shape, options, folder))
    if not options.no_write:
        what = "-postgres" if options.postgres else "-proxy" if options.proxy else ""
        write(
            RESULTS / f"coordinator-{shape.nodes}x{shape.per_network}{what}.json", shape, load_before, figures
        )


if __name__ == "__main__":
    main()
