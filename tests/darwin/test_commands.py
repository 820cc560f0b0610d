"""Addresses and routes as commands, how each is taken back, and what is read of the host's answers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from wgpy.darwin.commands import (
    InterfaceAddress,
    default_gateway_query,
    parse_default_gateway,
    parse_ifconfig_mtu,
    parse_route_interface,
    route_query,
    set_mtu,
    tunnel_steps,
)

ADDRESSES = [InterfaceAddress(ip_address("10.0.0.2"), 24), InterfaceAddress(ip_address("fd00::2"), 64)]


def plan(prefixes: list[str], endpoints: list[str], gateways: dict[int, str]) -> list[tuple[str, str | None]]:
    steps = tunnel_steps("utun4", ADDRESSES, map(ip_network, prefixes), map(ip_address, endpoints), gateways)
    return [(" ".join(step.do), None if step.undo is None else " ".join(step.undo)) for step in steps]


ADDRESS_STEPS = [
    ("ifconfig utun4 inet 10.0.0.2/24 10.0.0.2 alias", "ifconfig utun4 inet 10.0.0.2 -alias"),
    ("ifconfig utun4 inet6 fd00::2/64 alias", "ifconfig utun4 inet6 fd00::2 -alias"),
]


def test_addresses_then_routes_the_most_specific_first() -> None:
    assert plan(["10.0.0.0/24", "fd00::/64", "192.0.2.7/32"], ["198.51.100.1"], {4: "192.168.1.1"}) == [
        *ADDRESS_STEPS,
        (
            "route -q -n add -inet6 fd00::/64 -interface utun4",
            "route -q -n delete -inet6 fd00::/64 -interface utun4",
        ),
        (
            "route -q -n add -inet 192.0.2.7/32 -interface utun4",
            "route -q -n delete -inet 192.0.2.7/32 -interface utun4",
        ),
        (
            "route -q -n add -inet 10.0.0.0/24 -interface utun4",
            "route -q -n delete -inet 10.0.0.0/24 -interface utun4",
        ),
    ]


def test_a_default_route_is_two_halves_and_endpoints_stay_outside() -> None:
    steps = plan(["0.0.0.0/0", "::/0"], ["198.51.100.1", "198.51.100.1", "2001:db8::1"], {4: "192.168.1.1"})
    assert [do for do, _ in steps[2:]] == [
        "route -q -n add -inet -host 198.51.100.1 -gateway 192.168.1.1",
        "route -q -n add -inet6 -host 2001:db8::1 ::1 -blackhole",
        "route -q -n add -inet 0.0.0.0/1 -interface utun4",
        "route -q -n add -inet 128.0.0.0/1 -interface utun4",
        "route -q -n add -inet6 ::/1 -interface utun4",
        "route -q -n add -inet6 8000::/1 -interface utun4",
    ]
    assert [undo for _, undo in steps[2:4]] == [
        "route -q -n delete -inet -host 198.51.100.1",
        "route -q -n delete -inet6 -host 2001:db8::1",
    ]


def test_endpoints_of_a_family_without_a_default_route_need_none_of_their_own() -> None:
    steps = plan(["0.0.0.0/0"], ["2001:db8::1"], {4: "192.168.1.1", 6: "fe80::1%en0"})
    assert [do for do, _ in steps[2:]] == [
        "route -q -n add -inet 0.0.0.0/1 -interface utun4",
        "route -q -n add -inet 128.0.0.0/1 -interface utun4",
    ]


def test_the_mtu_goes_with_the_interface() -> None:
    step = set_mtu("utun4", 1420)
    assert (" ".join(step.do), step.undo) == ("ifconfig utun4 mtu 1420", None)


NETSTAT = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            link#22            UCSIg               utun3
default            192.168.1.1        UGScg                 en0
127                127.0.0.1          UCS                   lo0
"""

NETSTAT6 = """\
Internet6:
Destination             Gateway                 Flags               Netif Expire
default                 fe80::1%en0             UGcg                  en0
"""


def test_the_default_gateway_is_read_of_netstat() -> None:
    assert " ".join(default_gateway_query(6)) == "netstat -n -r -f inet6"
    assert parse_default_gateway(NETSTAT) == "192.168.1.1"
    assert parse_default_gateway(NETSTAT6) == "fe80::1%en0"
    assert parse_default_gateway("") is None
    assert parse_default_gateway("default\ndefault link#3 U utun1\n") is None


def test_the_way_to_an_endpoint_and_its_mtu_are_read() -> None:
    assert " ".join(route_query(ip_address("2001:db8::1"))) == "route -n get -inet6 2001:db8::1"
    said = "   route to: 1.1.1.1\ndestination: default\n  interface: en0\n      flags: <UP>\n"
    assert parse_route_interface(said) == "en0"
    assert parse_route_interface("route: writing to routing socket: not in table\n") is None
    said = "en0: flags=8863<UP,BROADCAST> mtu 1500\n\tether 00:00:00:00:00:00\n"
    assert parse_ifconfig_mtu(said) == 1500
    assert parse_ifconfig_mtu("") is None
