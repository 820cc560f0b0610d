"""Nodes for the page to show: they join and report over the real wire, their tunnels are as a test says."""

from __future__ import annotations

import itertools
import time

from tests.coordinator.process import Coordinator, RemoteHost
from wgpy.addresses import Endpoint
from wgpy.mesh.tunnels import MAX_TUNNELS, Tunnel, TunnelReport


class Crowd:
    """Nodes of one network that hold their streams; `tunnels[i, j]` is what i says of j."""

    def __init__(
        self, coordinator: Coordinator, network: str, names: list[str], first: int = 0, pause: float = 0.0
    ) -> None:
        """`first`: the number of the first, which decides its keys; `pause`: seconds between joins, of which
        one address may not have too many at once.
        """
        token = coordinator.token(network, "--uses", "0")
        self.hosts = [RemoteHost(first + number, token) for number in range(len(names))]
        self.tunnels: dict[tuple[int, int], Tunnel] = {}
        self._sequences = itertools.count(1)
        for host, name in zip(self.hosts, names, strict=True):
            host.name = name
            host.join()
            time.sleep(pause)

    def watch(self) -> None:
        for host in self.hosts:
            host.watch()

    def say(self, one: int, other: int, here: Tunnel, there: Tunnel | None = None) -> None:
        """Both ends' word of a tunnel; the same of either unless told otherwise."""
        self.tunnels[one, other] = here
        self.tunnels[other, one] = there or here

    def report(self, *numbers: int) -> None:
        """Have these tell all of their tunnels, or everybody."""
        for number in numbers or range(len(self.hosts)):
            told = [(j, tunnel) for (i, j), tunnel in self.tunnels.items() if i == number]
            for first in range(0, max(len(told), 1), MAX_TUNNELS):
                part = {self.hosts[j].id: tunnel for j, tunnel in told[first : first + MAX_TUNNELS]}
                body = TunnelReport(first == 0, part).to_json()
                endpoint = f"198.51.100.{number % 250 + 1}:51820"
                status, answer = self.hosts[number].check_in(
                    next(self._sequences), endpoint, tunnels=body, brief=True
                )
                assert status == 200, answer

    def close(self) -> None:
        for host in self.hosts:
            host.hang_up()


def direct(rtt: float, octets: int = 1_000_000, age: int = 20) -> Tunnel:
    """A tunnel that is up; `rtt` in milliseconds."""
    endpoint = Endpoint.parse("198.51.100.9:51820")
    return Tunnel("direct", "", endpoint, age, int(rtt * 1000), octets, octets // 2)


def lost(reason: str = "no answer from 198.51.100.9:51820; is UDP blocked in between?") -> Tunnel:
    return Tunnel("none", reason, None, 900, None, 10_000, 20_000)
