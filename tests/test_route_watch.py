"""Whose source is forgotten when a route changes: theirs to whom it may be the way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest
import trio
import trio.testing

from tests.own_network import own_network
from wgpy.addresses import Endpoint
from wgpy.netlink import Link, Route, Rule
from wgpy.netlink.monitor import LinkChanged, Overrun, RouteChanged, RuleChanged
from wgpy.protocol.actions import PeerId, PeerSnapshot
from wgpy.route_watch import forget_sources, watch_routes

OWN = 9


@dataclass
class Engine:
    """Three peers: at 192.0.2.1, at 2001:db8::1, and nowhere yet."""

    forgotten: list[PeerId | None] = field(default_factory=list)
    forgotten_at: list[int] = field(default_factory=list)

    def snapshot(self) -> list[PeerSnapshot]:
        places = ("192.0.2.1", "2001:db8::1", None)
        return [
            PeerSnapshot(PeerId(n), None if place is None else Endpoint(ip_address(place), 7), 0, 0)
            for n, place in enumerate(places)
        ]

    def forget_source(self, peer: PeerId | None) -> None:
        self.forgotten.append(peer)

    def forget_sources_at(self, interface_index: int) -> None:
        self.forgotten_at.append(interface_index)


@pytest.mark.parametrize(
    ("prefix", "forgotten"),
    [
        ("192.0.2.0/24", [0]),
        ("192.0.2.1/32", [0]),
        ("0.0.0.0/0", [0]),
        ("::/0", [1]),
        ("2001:db8::/32", [1]),
        ("198.51.100.0/24", []),
    ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_a_route_that_covers_the_endpoint_counts(prefix: str, forgotten: list[int], gone: bool) -> None:
    engine = Engine()
    forget_sources(engine, [RouteChanged(Route(ip_network(prefix), 3), gone)], OWN)  # type: ignore[arg-type]
    assert engine.forgotten == forgotten


def test_a_route_into_the_tunnel_does_not_count() -> None:
    engine = Engine()
    forget_sources(engine, [RouteChanged(Route(ip_network("0.0.0.0/0"), OWN), False)], OWN)  # type: ignore[arg-type]
    assert engine.forgotten == []


def test_after_lost_changes_all_are_forgotten() -> None:
    engine = Engine()
    forget_sources(engine, [Overrun()], OWN)  # type: ignore[arg-type]
    assert engine.forgotten == [None]


def test_sources_at_a_link_that_goes_down_are_forgotten() -> None:
    engine = Engine()
    links = [Link(index, f"eth{index}", index > 4, 1500, "veth") for index in (3, 4, 5)]
    forget_sources(engine, [LinkChanged(link, False) for link in links], OWN)  # type: ignore[arg-type]
    assert sorted(engine.forgotten_at) == [3, 4]
    assert engine.forgotten == []


@pytest.mark.parametrize("gone", [True, False])
def test_after_a_change_of_rules_all_are_forgotten(gone: bool) -> None:
    engine = Engine()
    forget_sources(engine, [RuleChanged(Rule(4, 99), gone)], OWN)  # type: ignore[arg-type]
    assert engine.forgotten == [None]


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.mark.root
async def test_the_kernels_changes_arrive(network: None) -> None:
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_routes, engine, "wg0")
        await trio.testing.wait_all_tasks_blocked()
        for words, is_told in (
            ("route add 192.0.2.0/24 dev lo", lambda: engine.forgotten == [0]),
            ("rule add to 192.0.2.1 table 99", lambda: engine.forgotten == [0, None]),
            ("link set lo down", lambda: engine.forgotten_at == [1]),
        ):
            subprocess.run(["ip", *words.split()], check=True)  # noqa: ASYNC221
            with trio.fail_after(10):
                while not is_told():  # noqa: ASYNC110
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
