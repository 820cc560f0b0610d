"""Ranges of both families beside nodes that have addresses of one."""

from __future__ import annotations

import ipaddress

from coordinator.conflicts import Place, find_conflicts
from wgpy.addresses import Endpoint


def test_a_range_of_the_other_family_is_no_conflict_and_no_fault() -> None:
    home = Place.of("laptop", [Endpoint.parse("192.168.7.3:5")])
    gate = Place.of("gate", [Endpoint.parse("[2001:db8:51::16]:5")])
    gateways = {ipaddress.ip_network(text): ["g"] for text in ("192.168.7.0/24", "fd00:7::/64")}
    (found,) = find_conflicts(gateways, {"l": home, "g": gate})
    assert (str(found.range), found.sides) == ("192.168.7.0/24", ("gate", "laptop"))
