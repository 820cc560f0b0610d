"""A link in the middle carries packets of 1,280 octets and says nothing when it drops a longer one.

one --- router: towards each other 1,280 octets, no ICMP --- two

Small packets pass, so there is a path and a session; a connection that fills its packets hangs, unless
somebody finds out how long they may be.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.netns.hosts import Host, Lab
from tests.netns.meeting import Pings, RoutedInternet
from tests.netns.mesh import Family, Mesh, Node
from tests.netns.processes import wait_until
from wgpy.engine import ENGINES

LINK: Final = 1280
ROOM: Final = 1200
"""What of it is left for a packet in the tunnel, of the sizes that are tried: 60 or 80 octets go around."""
SIZE: Final = 300_000
TRANSFER: Final = Path(__file__).parents[1] / "interop" / "transfer.py"
TIMEOUT: Final = 20.0
"""Seconds, for what takes a second or, while the size is searched, three."""
DATAGRAM: Final = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as one:
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: it may be fragmented
    one.sendto(bytes(int(sys.argv[2])), (sys.argv[1], 9000))
"""
LISTENER: Final = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as one:
    one.bind((sys.argv[1], 9000))
    print("ready", flush=True)
    while True:
        print("got", len(one.recv(65535)), flush=True)
"""
_numbers = itertools.count(1)


class SilentRouter(RoutedInternet):
    """Two hosts reach each other over the family `outer` alone, by a link that may be, or become, narrow."""

    def part(self, one: Host, two: Host, outer: Family) -> None:
        self._rule("v6" if outer == "v4" else "v4", one, two, "blackhole")

    def narrow(self, one: Host, two: Host, outer: Family, *, passes_fragments: bool = False) -> None:
        self.switch.run("nft", "-f", "-", input=_SILENT + ("" if passes_fragments else _WHOLE))
        for to in (one, two):
            address = to.ipv4 if outer == "v4" else to.ipv6
            route = (f"{address}", "dev", "br0", "mtu", f"{LINK}", "table", "100")
            self.switch.run("ip", f"-{outer[1]}", "route", "add", *route)
        self._rule(outer, one, two, "lookup", "100")

    def _rule(self, family: Family, one: Host, two: Host, *table: str) -> None:
        pair = (one.ipv4, two.ipv4) if family == "v4" else (one.ipv6, two.ipv6)
        for source, to in (pair, pair[::-1]):
            rule = ("from", f"{source}", "to", f"{to}", *table)
            self.switch.run("ip", f"-{family[1]}", "rule", "add", *rule)


_SILENT: Final = """
table inet silent {
    chain output {
        type filter hook output priority filter;
        icmp type destination-unreachable drop
        icmpv6 type packet-too-big drop
    }
}
"""

_WHOLE: Final = """
table bridge whole {
    chain output {
        type filter hook output priority filter;
        ip frag-off & 0x3fff != 0 drop
    }
}
"""


@contextlib.contextmanager
def nodes(
    outer: Family, engine: str, *, is_narrow: bool = True, passes_fragments: bool = False
) -> Iterator[tuple[SilentRouter, Node, Node]]:
    """Two with a direct path between them, that is narrow or may become so."""
    with Lab("mtu") as lab:
        internet = SilentRouter(lab)
        mesh = Mesh(internet)
        one, two = (mesh.node(name) for name in ("one", "two"))
        internet.part(one.host, two.host, outer)
        if is_narrow:
            internet.narrow(one.host, two.host, outer, passes_fragments=passes_fragments)
        for node in (one, two):
            node.up(mesh.token(), env={"WGPY_ENGINE": engine})
        for node in (one, two):
            node.wait_up()
        wait_until(lambda: is_direct(one, two, outer) and is_direct(two, one, outer), "a direct path")
        yield internet, one, two


def is_direct(node: Node, other: Node, outer: Family) -> bool:
    peer = node.peer(other)
    address = other.host.ipv4 if outer == "v4" else other.host.ipv6
    return peer is not None and peer["path"] == "direct" and f"{address}" in peer["endpoint"]


def path_mtu(node: Node, other: Node) -> int | None:
    peer = node.peer(other)
    assert peer is not None
    mtu: int | None = peer["mtu"]
    return mtu


def transfer(one: Node, two: Node, family: Family) -> None:
    """Random octets over TCP; HostFailure unless the same arrive."""
    address, port = two.address(family), str(20000 + secrets.randbelow(10000))
    receiver = two.host.start(
        sys.executable, TRANSFER, "receive", address, port, log=f"receive-{next(_numbers)}"
    )
    receiver.wait_text("listening\n")
    sent = one.host.run(sys.executable, TRANSFER, "send", address, port, f"{SIZE}", timeout=TIMEOUT).stdout
    receiver.wait(TIMEOUT)
    assert receiver.text().removeprefix("listening\n") == sent


def send_datagrams(one: Node, two: Node, family: Family, *sizes: int) -> None:
    """UDP payloads whose packets may be fragmented; HostFailure unless all arrive."""
    address = two.address(family)
    listener = two.host.start(sys.executable, "-c", LISTENER, address, log=f"listener-{next(_numbers)}")
    listener.wait_text("ready")
    for size in sizes:
        one.host.run(sys.executable, "-c", DATAGRAM, address, f"{size}")
        listener.wait_text(f"got {size}\n")


@pytest.mark.parametrize("outer", ["v6", "v4"])
@pytest.mark.parametrize("engine", ENGINES)
def test_connections_go_on_where_long_packets_vanish(outer: Family, engine: str) -> None:
    with nodes(outer, engine) as (_, *pair):
        for one, two in (pair, pair[::-1]):
            transfer(one, two, "v4")
            transfer(one, two, "v6")
        one, two = pair
        assert (path_mtu(one, two), path_mtu(two, one)) == (ROOM, ROOM)
        said = one.host.run("wgpy", "status").stdout
        assert f"MTU {ROOM}, for longer packets are lost there" in said
        # 28 octets of headers around it: one that must not be fragmented is answered, others arrive.
        echo = one.host.run("ping", "-c1", "-W5", "-Mdo", "-s1300", two.address("v4"), check=False)
        assert f"mtu = {ROOM}" in echo.stdout + echo.stderr or f"mtu={ROOM}" in echo.stdout + echo.stderr
        send_datagrams(one, two, "v4", 1300, 1352, 4000)
        send_datagrams(one, two, "v6", 1200, 1232, 4000)


def test_nothing_changes_where_fragments_pass() -> None:
    with nodes("v4", ENGINES[0], passes_fragments=True) as (_, one, two):
        transfer(one, two, "v4")
        echo = one.host.run("ping", "-c1", "-W5", "-Mdo", "-s1352", two.address("v4")).stdout
        assert "1 received" in echo
        assert (path_mtu(one, two), path_mtu(two, one)) == (None, None)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_path_that_shrinks_under_a_connection_is_found_out_in_seconds(engine: str) -> None:
    with nodes("v6", engine, is_narrow=False) as (internet, one, two):
        for first, second in ((one, two), (two, one)):
            transfer(first, second, "v4")
        assert (path_mtu(one, two), path_mtu(two, one)) == (None, None)
        internet.narrow(one.host, two.host, "v6")
        began = time.monotonic()
        # A kernel that was told of an MTU offers less the other way, too: that goes by the other family.
        ways: tuple[tuple[Node, Node, Family], ...] = ((one, two, "v4"), (two, one, "v6"))
        for first, second, family in ways:
            transfer(first, second, family)
        print(f"both transfers took {time.monotonic() - began:.1f} s")
        assert (path_mtu(one, two), path_mtu(two, one)) == (ROOM, ROOM)


def test_a_path_that_shrinks_while_short_packets_still_pass_is_found_out_as_soon() -> None:
    with nodes("v6", ENGINES[0], is_narrow=False) as (internet, one, two):
        transfer(one, two, "v4")
        pings = Pings(one.host, two.address("v4"))
        wait_until(lambda: len(pings.answers()) > 20, "echoes come back")
        internet.narrow(one.host, two.host, "v6")
        transfer(one, two, "v4")
        answers = pings.stop()
        assert max(later - earlier for earlier, later in itertools.pairwise(answers)) < 1
