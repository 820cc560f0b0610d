"""Which routes a file asks for: the most specific first, none for what is reached, policy for defaults."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.config import PeerConfig, TunnelConfig
from wgpy.host.policy import FIRST_POLICY_TABLE, Policy
from wgpy.keys import PublicKey
from wgpy.netlink import Netlink, Route, Rule
from wgpy.quick.routes import choose_policy, routes_for


def config(*prefixes: str, **settings: object) -> TunnelConfig:
    peer = PeerConfig(PublicKey(bytes(32)), allowed_ips=[ip_network(p) for p in prefixes])
    return TunnelConfig(peers=[peer], **settings)  # type: ignore[arg-type]


def wanted(
    config: TunnelConfig, policy: Policy | None = None, present: list[Route] | None = None
) -> list[str]:
    return [f"{r.prefix} {r.table}" for r in routes_for(config, policy, 7, present or [])]


def test_the_most_specific_come_first() -> None:
    assert wanted(config("10.0.0.0/8", "10.1.0.0/16", "fd00::/64", "10.1.0.0/16")) == [
        "fd00::/64 254",
        "10.1.0.0/16 254",
        "10.0.0.0/8 254",
    ]


def test_what_the_addresses_reach_needs_no_route() -> None:
    present = [Route(ip_network("10.0.0.0/24"), 7), Route(ip_network("fe80::/64"), 7)]
    prefixes = ("10.0.0.2/32", "10.0.0.0/24", "10.0.0.0/16", "::/128")
    assert wanted(config(*prefixes), present=present) == ["::/128 254", "10.0.0.0/16 254"]


def test_a_default_route_goes_into_the_table_of_its_policy() -> None:
    policy = Policy(51820, [4], 32765)
    assert wanted(config("0.0.0.0/0", "10.0.0.0/8"), policy) == ["10.0.0.0/8 254", "0.0.0.0/0 51820"]


def test_a_table_of_the_files_choice_takes_all() -> None:
    assert wanted(config("0.0.0.0/0", "10.0.0.0/8", table=99)) == ["10.0.0.0/8 99", "0.0.0.0/0 99"]


def test_table_off_means_no_routes() -> None:
    assert wanted(config("0.0.0.0/0", "10.0.0.0/8", table="off")) == []


def test_rules_send_all_but_the_tunnels_own_packets_to_its_table() -> None:
    assert Policy(51820, [4, 6], 99).rules() == {
        Rule(4, 51820, mark=51820, invert=True, priority=99),
        Rule(4, 254, suppress_prefix_length=0, priority=98),
        Rule(6, 51820, mark=51820, invert=True, priority=99),
        Rule(6, 254, suppress_prefix_length=0, priority=98),
    }


class Tables:
    """A netlink that knows only which tables have routes."""

    def __init__(self, *tables: int) -> None:
        self._tables = tables

    def routes(self, version: int) -> list[Route]:
        prefix = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        return [Route(prefix, 1, table) for table in self._tables]

    def rules(self, version: int) -> list[Rule]:
        return [Rule(version, 255, priority=0), Rule(version, 254, priority=32766)]


@pytest.mark.parametrize(
    ("config", "taken", "policy"),
    [
        (config("10.0.0.0/8"), [], None),
        (config("0.0.0.0/0", table="off"), [], None),
        (config("0.0.0.0/0", table=7), [], None),
        (config("0.0.0.0/0"), [254], Policy(FIRST_POLICY_TABLE, [4], 32765)),
        (config("::/0", "0.0.0.0/0"), [51820, 51821, 51823], Policy(51822, [4, 6], 32765)),
        (config("::/0", fwmark=51820), [51820], Policy(51820, [6], 32765)),
    ],
)
def test_the_policys_table_is_the_mark_or_the_first_free_one(
    config: TunnelConfig, taken: list[int], policy: Policy | None
) -> None:
    netlink: Netlink = Tables(*taken)  # type: ignore[assignment]
    assert choose_policy(config, netlink) == policy


networks = st.builds(
    lambda n, length: ip_network((n, length), strict=False),
    st.integers(0, 255).map(lambda n: n << 24),
    st.integers(1, 32),
)


@given(st.lists(networks), st.lists(networks))
def test_every_allowed_ip_is_routed_or_reached(allowed: list[object], reached: list[object]) -> None:
    present = [Route(prefix, 7) for prefix in reached]  # type: ignore[arg-type]
    routes = routes_for(config(*map(str, allowed)), None, 7, present)
    covered = [*[r.prefix for r in routes], *reached]
    assert all(any(prefix.subnet_of(c) for c in covered) for prefix in allowed)  # type: ignore[attr-defined]
    assert not any(r.prefix.subnet_of(p) for r in routes for p in reached)  # type: ignore[arg-type]
