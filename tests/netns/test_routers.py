"""The routers of the laboratory are what they are said to be: what nodes find behind them depends on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.nat import Carrier, Home, Nat
from tests.netns.processes import Process

SERVER = """
import json, socket
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for number, one in enumerate(sockets):
    one.bind(("", 5000 + number))
print("ready", flush=True)
while True:
    _, client = sockets[0].recvfrom(100)
    for one in sockets:
        one.sendto(json.dumps(client).encode(), client)
"""
"""Answers from the port that was asked and from another, with the client's address as it is seen."""

CLIENT = """
import json, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("", 4000))
    one.settimeout(0.4)
    seen, ports = [], set()
    for server in sys.argv[1:]:
        one.sendto(b"?", (server, 5000))
        try:
            while True:
                data, (_, port) = one.recvfrom(100)
                seen.append(tuple(json.loads(data)))
                ports.add(port)
        except TimeoutError:
            pass
    print(json.dumps([sorted(set(seen)), sorted(ports)]))
"""

OUTSIDER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("", 6000))
    one.sendto(b"unasked", (sys.argv[1], int(sys.argv[2])))
"""

LISTENER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("", 4000))
    print("ready", flush=True)
    print(one.recvfrom(100)[0].decode(), flush=True)
"""


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Lab("routers") as lab:
        internet = Internet(lab)
        for name in ("server1", "server2"):
            internet.host(name).start(sys.executable, "-c", SERVER).wait_text("ready")
        yield internet


def ask(internet: Internet, host: Host) -> tuple[list[tuple[str, int]], list[int]]:
    """Our places as two servers see them, and the ports from which answers came."""
    servers = [str(internet.lab.hosts[name].ipv4) for name in ("server1", "server2")]
    seen, ports = json.loads(host.run(sys.executable, "-c", CLIENT, *servers).stdout)
    return [(address, port) for address, port in seen], ports


def first_heard(listener: Process, host: Host) -> str:
    """What arrived first, at last something that the host sends itself."""
    host.run(sys.executable, "-c", OUTSIDER.replace("unasked", "local"), "127.0.0.1", "4000")
    listener.wait_for(lambda text: "local" in text or "unasked" in text, "something heard")
    return listener.text().split()[-1]


@pytest.mark.parametrize(
    ("nat", "mappings", "keeps_port", "answering_ports"),
    [
        (Nat.NONE, 1, True, [5000, 5001]),
        (Nat.FIREWALL, 1, True, [5000]),
        (Nat.FULL_CONE, 1, False, [5000, 5001]),
        (Nat.ADDRESS_RESTRICTED, 1, False, [5000, 5001]),
        (Nat.PORT_RESTRICTED, 1, True, [5000]),
        (Nat.PORT_MOVED, 1, False, [5000]),
        (Nat.SYMMETRIC, 2, False, [5000]),
        (Nat.DOUBLE, 1, True, [5000]),
        (Nat.NARROW, 1, True, [5000]),
        (Nat.BROKEN_IPV6, 1, True, [5000]),
        (Nat.UDP_BLOCKED, 0, True, []),
        (Nat.TCP_443_ONLY, 0, True, []),
    ],
    ids=lambda value: value.value if isinstance(value, Nat) else None,
)
def test_a_router_maps_and_filters_as_its_kind_does(
    internet: Internet, nat: Nat, mappings: int, keeps_port: bool, answering_ports: list[int]
) -> None:
    home = Home(internet, f"home-{nat.name.lower()}", nat)
    seen, ports = ask(internet, home.host(f"host-{nat.name.lower()}"))
    assert len(seen) == mappings
    assert all((port == 4000) == keeps_port for _, port in seen)
    assert ports == answering_ports


@pytest.mark.parametrize("nat", [Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED], ids=lambda nat: nat.value)
def test_only_a_full_cone_admits_addresses_that_were_never_sent_to(internet: Internet, nat: Nat) -> None:
    home = Home(internet, f"cone-{nat.name.lower()}", nat)
    host = home.host(f"inside-{nat.name.lower()}")
    ((address, port),), _ = ask(internet, host)
    listener = host.start(sys.executable, "-c", LISTENER)
    listener.wait_text("ready")
    outsider = internet.host(f"outsider-{nat.name.lower()}")
    outsider.run(sys.executable, "-c", OUTSIDER, address, str(port))
    assert first_heard(listener, host) == ("unasked" if nat is Nat.FULL_CONE else "local")


def test_a_router_that_forgets_its_mappings_lets_nothing_in(internet: Internet) -> None:
    home = Home(internet, "home-forgetful", Nat.FULL_CONE)
    host = home.host("host-forgetful")
    ((address, port),), _ = ask(internet, host)
    home.reboot()
    listener = host.start(sys.executable, "-c", LISTENER)
    listener.wait_text("ready")
    outsider = internet.host("outsider-forgetful")
    outsider.run(sys.executable, "-c", OUTSIDER, address, str(port))
    assert first_heard(listener, host) == "local"


@pytest.mark.parametrize("hairpins", [True, False])
def test_a_carrier_lets_its_homes_reach_each_other_by_their_address_outside_if_it_hairpins(
    internet: Internet, hairpins: bool
) -> None:
    carrier = Carrier(internet, f"isp-{hairpins}", Nat.FULL_CONE, hairpins=hairpins)
    one, other = (
        Home(carrier, f"home{n}-{hairpins}", Nat.PORT_RESTRICTED).host(f"in{n}-{hairpins}") for n in (1, 2)
    )
    ((address, port),), _ = ask(internet, one)
    ((_, other_port),), _ = ask(internet, other)
    opener = OUTSIDER.replace("6000", "4000")
    # The home's own router lets in only where it was sent to: that end opens first.
    one.run(sys.executable, "-c", opener, address, str(other_port))
    listener = one.start(sys.executable, "-c", LISTENER)
    listener.wait_text("ready")
    other.run(sys.executable, "-c", opener, address, str(port))
    assert first_heard(listener, one) == ("unasked" if hairpins else "local")
