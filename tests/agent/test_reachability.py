"""How a host is seen from outside, in words."""

from __future__ import annotations

import pytest

from wgpy.addresses import Endpoint
from wgpy.agent.checks import Verdict
from wgpy.agent.reachability import describe_reachability, reachability_to_json
from wgpy.mesh.discovery import Family, Mapping, View

OWN = [Endpoint.parse("192.168.1.11:4000"), Endpoint.parse("[2001:db8::11]:4000")]
SERVERS = [Endpoint.parse("198.51.100.1:443"), Endpoint.parse("[2001:db8::1]:443")]
OTHER = Endpoint.parse("198.51.100.1:444")


UNKNOWN = View(Mapping.UNKNOWN)


def views(four: View = UNKNOWN, six: View = UNKNOWN) -> dict[Family, View]:
    return {4: four, 6: six}


def seen(mapping: Mapping, *ports: int) -> View:
    places = zip((SERVERS[0], OTHER), ports, strict=False)
    return View(mapping, tuple((place, Endpoint.parse(f"203.0.113.5:{port}")) for place, port in places))


@pytest.mark.parametrize(
    ("four", "says", "paths"),
    [
        (seen(Mapping.NONE, 4000, 4000), "seen as 203.0.113.5:4000, its own address: no NAT", Verdict.GOOD),
        (seen(Mapping.INDEPENDENT, 9, 9), "by a NAT that has one port for all", Verdict.GOOD),
        (seen(Mapping.DEPENDENT, 9, 10), "and 203.0.113.5:10: by a symmetric NAT", Verdict.NOTE),
        (seen(Mapping.UNKNOWN, 9), "seen as 203.0.113.5:9, by one server", Verdict.NOTE),
        (View(Mapping.BLOCKED), "no answer from the server: UDP is blocked", Verdict.NOTE),
        (View(Mapping.UNKNOWN), "not asked yet", Verdict.NOTE),
    ],
)
def test_each_kind_of_nat_is_said_in_words_with_what_it_means(four: View, says: str, paths: Verdict) -> None:
    first, _, last = describe_reachability(views(four), OWN, SERVERS)
    assert says in first.text
    assert (last.check, last.verdict) == ("direct paths", paths)


def test_a_family_without_servers_or_addresses_is_said_to_be_so() -> None:
    _, six, _ = describe_reachability(views(), OWN, SERVERS[:1])
    assert six.text == "no server to be asked"
    _, six, _ = describe_reachability(views(six=View(Mapping.BLOCKED)), OWN[:1], SERVERS)
    assert six.text == "this host has no IPv6 address that others could reach"


def test_ipv6_without_nat_makes_up_for_a_symmetric_ipv4() -> None:
    six = View(Mapping.NONE, ((SERVERS[1], OWN[1]),))
    *_, last = describe_reachability(views(seen(Mapping.DEPENDENT, 9, 10), six), OWN, SERVERS)
    assert last.verdict is Verdict.GOOD


def test_programs_get_views_and_findings() -> None:
    found = views(seen(Mapping.DEPENDENT, 9, 10))
    document = reachability_to_json(found, describe_reachability(found, OWN, SERVERS))
    assert document["views"]["ipv4"] == {
        "nat": "symmetric",
        "endpoint": "203.0.113.5:9",
        "seen": [
            {"server": "198.51.100.1:443", "as": "203.0.113.5:9"},
            {"server": "198.51.100.1:444", "as": "203.0.113.5:10"},
        ],
    }
    assert [finding["check"] for finding in document["findings"]] == [
        "UDP over IPv4",
        "UDP over IPv6",
        "direct paths",
    ]
