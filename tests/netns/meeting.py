"""Two nodes that never met, behind routers of all kinds: which path they find, and how soon.

with Lab("nat") as lab:
    ground = MeetingGround(lab)
    print(ground.meet(ground.place(Pair(Nat.SYMMETRIC, Nat.FULL_CONE)), patience=10))
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from coordinator.tls import Leaf
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Carrier, Home, Nat, allows_direct
from tests.netns.processes import HostFailure, Process, wait_until

PathClass = Literal["lan", "direct", "relayed", "none"]
_REPLY: Final = re.compile(r"^\[([\d.]+)\] \d+ bytes from", re.MULTILINE)
PING_INTERVAL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """Two places to be in, and the best path between them that their routers allow."""

    name: str
    expected: PathClass
    place: Callable[[Internet], tuple[Host, Host]]


def _apart(one: Nat, other: Nat) -> Pair:
    def place(internet: Internet) -> tuple[Host, Host]:
        return Home(internet, "home1", one).host("node1"), Home(internet, "home2", other).host("node2")

    return Pair(f"{one.value} – {other.value}", "direct" if allows_direct(one, other) else "relayed", place)


def _one_home(nat: Nat) -> Pair:
    def place(internet: Internet) -> tuple[Host, Host]:
        home = Home(internet, "home1", nat)
        return home.host("node1"), home.host("node2")

    return Pair(f"one LAN behind {nat.value}", "lan", place)


def _one_carrier(*, hairpins: bool) -> Pair:
    def place(internet: Internet) -> tuple[Host, Host]:
        carrier = Carrier(internet, "isp", Nat.FULL_CONE, hairpins=hairpins)
        first, second = (Home(carrier, f"home{number}", Nat.PORT_RESTRICTED) for number in (1, 2))
        return first.host("node1"), second.host("node2")

    name = f"two homes of one carrier, {'hairpin' if hairpins else 'no hairpin'}"
    return Pair(name, "direct" if hairpins else "relayed", place)


APART: Final = tuple(_apart(*nats) for nats in itertools.combinations_with_replacement(Nat, 2))
TOGETHER: Final = (
    _one_home(Nat.PORT_RESTRICTED),
    _one_home(Nat.SYMMETRIC),
    _one_carrier(hairpins=True),
    _one_carrier(hairpins=False),
)
PAIRS: Final = {pair.name: pair for pair in (*APART, *TOGETHER)}


@dataclass(frozen=True, slots=True)
class Meeting:
    """What came of it. Seconds since both had their addresses; None: it did not come."""

    pair: str
    expected: PathClass
    found: PathClass
    """The worse of what the two say."""
    first_ping: float | None
    best_path: float | None
    """Until both use what is expected."""
    reason: str

    @property
    def is_as_expected(self) -> bool:
        return self.found == self.expected


class Pings:
    """An echo each `interval` seconds, from now on."""

    def __init__(self, source: Host, address: str, interval: float = PING_INTERVAL) -> None:
        self.process: Process = source.start(
            "ping", "-n", "-D", "-i", f"{interval:g}", address, log=f"ping-{time.monotonic_ns()}"
        )

    def answers(self) -> list[float]:
        """Unix times at which answers came."""
        return [float(at) for at in _REPLY.findall(self.process.text())]

    def stop(self) -> list[float]:
        self.process.stop()
        return self.answers()


def make_certificate() -> tuple[str, str]:
    """A new certificate and its key, PEM."""
    leaf = Leaf.generate()
    key = load_der_private_key(leaf.key, None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ssl.DER_cert_to_PEM_cert(leaf.certificate), pem.decode()


class WideInternet(Internet):
    """With room for two homes of every pair, and addresses for which routers map ports."""

    IPV4 = ipaddress.IPv4Network("23.1.0.0/16")


class RoutedInternet(WideInternet):
    """Hosts reach each other by way of one router. The kernel has 1,024 neighbours for all namespaces
    together, too few where fifty hosts on one link know each other.
    """

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._routers = self.IPV4[-2], self.IPV6[0xFFFF]
        v4, v6 = self._routers
        self.switch.ip(
            f"address add {v4}/{self.IPV4.prefixlen} dev br0",
            f"address add {v6}/{self.IPV6.prefixlen} dev br0 nodad",
        )
        self.switch.run(
            "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.br0.send_redirects=0",
        )  # fmt: skip

    def host(self, name: str, line: Callable[[Internet, int], str] | None = None) -> Host:
        host = super().host(name, line)
        host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_redirects=0")
        self._route(host)
        return host

    def move(self, host: Host) -> None:
        """Another address of the internet, as after a change of network."""
        host.readdress(*self.next_addresses())
        self._route(host)

    def _route(self, host: Host) -> None:
        host.ip(*(f"route replace default via {router} dev eth0 onlink" for router in self._routers))

    def addresses(self, number: int) -> tuple[str, str]:
        return f"{self.IPV4[number]}/32", f"{self.IPV6[number]}/128"


class MeetingGround:
    """A coordinator, and a network of its own for each pair. `relays`: so many, each on a host of its own,
    and none beside the coordinator; by default it is the other way round.
    """

    def __init__(
        self, lab: Lab, *, relays: int = 0, internet: Callable[[Lab], Internet] = WideInternet
    ) -> None:
        self._lab = lab
        self.internet = internet(lab)
        self.mesh = Mesh(self.internet, "ground", is_public=True, has_relay=not relays)
        self._count = 0
        self.relays: dict[str, Process] = {}
        for number in range(1, relays + 1):
            self._make_relay(f"relay{number}")

    def _make_relay(self, name: str) -> None:
        host = self.internet.host(name)
        places = "--endpoint", f"{host.ipv4}:3478", "--url", f"https://{host.ipv4}"
        key = self.mesh.admin("relay", "create", name, *places).strip()
        certificate, private = make_certificate()
        for path, text in (("relay.key", key), ("tls.crt", certificate), ("tls.key", private)):
            host.run("sh", "-c", f"umask 077; cat > /run/{path}", input=text)
        self.start_relay(name)

    def start_relay(self, name: str) -> None:
        """Start it, or start it again."""
        log = f"relay-{time.monotonic_ns()}"
        self.relays[name] = self._lab.hosts[name].start(
            "wgpy", "relay", "serve", "/run/relay.key", "--tls-port", "443",
            "--tls-cert", "/run/tls.crt", "--tls-key", "/run/tls.key", log=log,
        )  # fmt: skip
        self.relays[name].wait_text("on UDP port 3478")

    @contextlib.contextmanager
    def visitors(self) -> Iterator[None]:
        """Hosts that are made meanwhile are gone at the end."""
        before = set(self._lab.hosts)
        try:
            yield
        finally:
            for name in set(self._lab.hosts) - before:
                host = self._lab.hosts.pop(name)
                host.close()
                shutil.rmtree(host.path)

    @contextlib.contextmanager
    def join(self, *hosts: Host) -> Iterator[list[Node]]:
        """These hosts as nodes of a new network, all begun at once, all with their addresses."""
        self._count += 1
        network = f"net{self._count}"
        self.mesh.admin("network", "create", network)
        nodes = [Node(host, network) for host in hosts]
        tokens = [self.mesh.token(network=network) for _ in nodes]
        for node, token in zip(nodes, tokens, strict=True):
            node.up(token)
        for node in nodes:
            node.wait_up()
        yield nodes

    def meet(self, pair: Pair, patience: float) -> Meeting:
        """Bring two new nodes up at once, and look for `patience` seconds; hosts are gone afterwards."""
        with self.visitors(), self.join(*pair.place(self.internet)) as (first, second):
            return _watch(pair, first, second, patience)


def _watch(pair: Pair, first: Node, second: Node, patience: float) -> Meeting:
    began = time.time()
    pings = Pings(first.host, second.address("v4"))
    best_path = None

    def is_proven() -> bool:
        says = [first.peer(second) or {}, second.peer(first) or {}]
        return all(
            peer.get("path") == pair.expected and "it answers there" in peer["reason"] for peer in says
        )

    with contextlib.suppress(HostFailure):
        wait_until(is_proven, "the best path", patience)
        best_path = time.time() - began
    with contextlib.suppress(HostFailure):
        wait_until(pings.answers, "an answer", max(0.0, began + patience - time.time()))
    answers = pings.stop()
    return Meeting(
        pair=pair.name,
        expected=pair.expected,
        found=_worse(first, second),
        first_ping=answers[0] - began if answers else None,
        best_path=best_path,
        reason=_reason(first, second),
    )


def path_class(node: Node, other: Node) -> PathClass:
    peer = node.peer(other)
    found: PathClass = "none" if peer is None else peer["path"]
    return found


def _worse(first: Node, second: Node) -> PathClass:
    order: tuple[PathClass, ...] = ("lan", "direct", "relayed", "none")
    return max(path_class(first, second), path_class(second, first), key=order.index)


def _reason(first: Node, second: Node) -> str:
    peer = first.peer(second)
    return "the peer is not in the map yet" if peer is None else json.dumps(peer["reason"]).strip('"')
