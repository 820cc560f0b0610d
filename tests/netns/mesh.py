"""A mesh of real processes: a coordinator and nodes, each on a host of its own.

with Lab("mesh") as lab:
    mesh = Mesh(Internet(lab))
    first, second = mesh.join("node1"), mesh.join("node2")
    first.wait_reach(second)
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
from collections.abc import Mapping
from typing import Any, Literal

from tests.netns.hosts import Host, Internet
from tests.netns.impairment import Line
from tests.netns.processes import HostFailure, Process, wait_until

Family = Literal["v4", "v6"]
TOKEN = re.compile(r"wgpy1_[\w-]+")


class Mesh:
    """A coordinator that serves one network. Everything is done by the commands that a user would type."""

    def __init__(
        self,
        internet: Internet,
        network: str = "home",
        *options: str,
        is_public: bool = False,
        coordinator: str = "coordinator",
        has_relay: bool = True,
        names: tuple[str, ...] = (),
    ) -> None:
        """`options` are those of `network create`. `is_public`: on port 443, and over IPv6 too. `coordinator`
        is the host that it runs on, `has_relay`: it runs one; `names` it has beside its addresses.
        """
        self._serving = () if has_relay else ("--relay-port", "0")
        self.internet = internet
        self.network = network
        self.nodes: dict[str, Node] = {}
        self.coordinator = internet.host(coordinator)
        if is_public:
            hosts, self._listen = (f"{self.coordinator.ipv4}", f"[{self.coordinator.ipv6}]"), ":443"
            self.urls = tuple(f"https://{host}" for host in hosts)
        else:
            self._listen = f"{self.coordinator.ipv4}:8443"
            self.urls = (f"https://{self._listen}", *(f"https://{name}:8443" for name in names))
        self.url = self.urls[0]
        self.serving = self.serve()
        self.admin("network", "create", network, *options)

    def serve(self) -> Process:
        """Start the coordinator, or start it again; waits until it answers."""
        self.serving = self.coordinator.start(*self.serve_command, log="coordinator")

        def answers() -> bool:
            if self.serving.returncode is not None:
                raise HostFailure(
                    f"the coordinator ended ({self.serving.returncode}):\n{self.serving.tail()}"
                )
            return self.coordinator.run(*ADMIN, "network", "list", check=False).returncode == 0

        wait_until(answers, "the coordinator answers", timeout=90)
        return self.serving

    @property
    def serve_command(self) -> tuple[str, ...]:
        urls = (word for url in self.urls for word in ("--url", url))
        return (*ADMIN, "serve", *urls, "--listen", self._listen, *self._serving)

    def admin(self, *words: str) -> str:
        """`wgpy coordinator WORDS…` on the coordinator's host; what it wrote."""
        return self.coordinator.run(*ADMIN, *words).stdout

    def token(self, *options: str, network: str | None = None) -> str:
        """A new token, good for one host unless `options` say otherwise."""
        output = self.admin("token", "create", network or self.network, *options)
        found = TOKEN.search(output)
        if found is None:
            raise HostFailure(f"token create wrote no token: {output!r}")
        return found[0]

    def node(self, name: str, line: Line | None = None) -> Node:
        """A host that has not joined yet."""
        node = Node(self.internet.host(name, line), self.network)
        self.nodes[name] = node
        return node

    def join(self, name: str, line: Line | None = None) -> Node:
        """A new host that has joined with a token of its own and is up."""
        node = self.node(name, line)
        node.up(self.token())
        node.wait_up()
        return node


class Node:
    """A host and the agent on it. `interface` is its end of the mesh."""

    def __init__(self, host: Host, network: str) -> None:
        self.host = host
        self.network = network
        self.interface = f"wg-{network}"[:15]
        self.agent: Process | None = None

    def up(self, what: str | None = None, *, env: Mapping[str, str] | None = None) -> Process:
        """`wgpy up WHAT`, a token or (None) the network joined before, in the background."""
        self.agent = self.host.start("wgpy", "up", what or self.network, log="agent", env=env)
        return self.agent

    def wait_up(self, timeout: float = 30.0) -> None:
        """Until the interface has its addresses."""
        assert self.agent is not None
        agent = self.agent

        def has_addresses() -> bool:
            if agent.returncode is not None:
                raise HostFailure(f"{self.host.name}: wgpy up ended ({agent.returncode}):\n{agent.tail()}")
            return len(self._addresses()) == 2

        try:
            wait_until(has_addresses, f"{self.host.name} has both addresses", timeout)
        except HostFailure as error:
            raise HostFailure(f"{error}\n{agent.tail()}") from None

    def _addresses(self) -> dict[Family, str]:
        shown = self.host.run("ip", "-json", "address", "show", "dev", self.interface, check=False).stdout
        links = json.loads(shown) if shown.strip() else []
        found: dict[Family, str] = {}
        for address in (entry for link in links for entry in link["addr_info"]):
            if not ipaddress.ip_address(address["local"]).is_link_local:
                found["v4" if address["family"] == "inet" else "v6"] = address["local"]
        return found

    def address(self, family: Family) -> str:
        """Its address in the mesh."""
        return self._addresses()[family]

    def ping(self, other: Node, family: Family, *, timeout: int = 5) -> float | None:
        """One echo: the round trip in seconds, None when it did not come back."""
        output = self.host.run("ping", "-c1", f"-W{timeout}", other.address(family), check=False).stdout
        found = re.search(r"time=([\d.]+) ms", output)
        return float(found[1]) / 1000 if found else None

    def wait_reach(self, other: Node, timeout: float = 30.0) -> dict[Family, float]:
        """Until an echo comes back over both families; the round trips of those."""
        families: tuple[Family, ...] = ("v4", "v6")
        return {
            family: wait_until(
                lambda family=family: self.ping(other, family, timeout=1),  # type: ignore[misc]
                f"{self.host.name} reaches {other.host.name} over {family}",
                timeout,
            )
            for family in families
        }

    def status(self) -> dict[str, Any]:
        """`wgpy status --json`."""
        document = json.loads(self.host.run("wgpy", "status", "--json").stdout)
        assert isinstance(document, dict)
        return document

    def report(self) -> dict[str, Any]:
        """The same of its network alone, asked of the agent itself: costs no process."""
        assert self.agent is not None
        path = f"/proc/{self.agent.pid}/root/run/wgpy/{self.network}.sock"
        with socket.socket(socket.AF_UNIX) as connection, contextlib.ExitStack() as stack:
            connection.settimeout(5.0)
            connection.connect(path)
            connection.sendall(b'{"op": "status"}\n')
            stream = stack.enter_context(connection.makefile("rb"))
            document = json.loads(stream.readline())
        assert isinstance(document, dict)
        return document

    def peer(self, other: Node) -> dict[str, Any] | None:
        """What the agent says of the other node; None: nothing yet."""
        peers = self.report()["peers"]
        return next((peer for peer in peers if peer["name"] == other.host.name), None)

    def knows_by_itself(self, *others: Node) -> bool:
        """Are they and their places in its state file, so that it finds them without the coordinator?"""
        state = json.loads(self.host.run("cat", f"/var/lib/wgpy/{self.network}.json").stdout)
        peers = state["held"]["map"]["peers"].values()
        located = {peer["name"] for peer in peers if state["seen"].get(peer["id"])}
        return {other.host.name for other in others} <= located

    def wg(self, what: str) -> dict[str, list[str]]:
        """`wg show INTERFACE WHAT`: the columns after each peer's public key, by that key."""
        lines = self.host.run("wg", "show", self.interface, what).stdout.splitlines()
        return {columns[0]: columns[1:] for columns in map(str.split, lines)}


ADMIN = ("wgpy", "coordinator")
