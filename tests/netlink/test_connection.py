"""Requests, dumps and errors against a real kernel, with `ip` and pyroute2 as witnesses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from wgpy.netlink import Netlink, NetlinkError, Route, Rule, add_route, delete_route

pytestmark = pytest.mark.root


class Namespace:
    """A network namespace with a veth `dvn0`, up, and a connection to its netlink."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.netlink = Netlink(self.fd)

    def ip(self, *arguments: str) -> list[dict[str, object]]:
        command = ["ip", "-n", self.name, "-j", "-d", *arguments]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(output) if output.strip() else []

    def close(self) -> None:
        self.netlink.close()
        os.close(self.fd)


@pytest.fixture
def ns() -> Iterator[Namespace]:
    name = f"dvn{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        namespace = Namespace(name)
        namespace.ip("link", "add", "dvn0", "type", "veth", "peer", "dvp0")
        namespace.ip("link", "set", "dvp0", "up")
        namespace.ip("link", "set", "dvn0", "up")
        try:
            yield namespace
        finally:
            namespace.close()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def index(ns: Namespace) -> int:
    return ns.netlink.link("dvn0").index


def test_links_are_as_ip_shows_them(ns: Namespace) -> None:
    ours = {link.index: (link.name, link.is_up, link.mtu) for link in ns.netlink.links()}
    theirs = {
        link["ifindex"]: (link["ifname"], "UP" in link["flags"], link["mtu"])  # type: ignore[operator]
        for link in ns.ip("link", "show")
    }
    assert ours == theirs
    assert ns.netlink.link("dvn0").kind == "veth"
    assert ns.netlink.link("lo").kind == ""


def test_a_link_is_found_by_name_and_by_index_or_not_at_all(ns: Namespace, index: int) -> None:
    assert ns.netlink.link(index) == ns.netlink.link("dvn0")
    assert ns.netlink.find_link("nothere") is None
    assert ns.netlink.find_link(123456) is None
    with pytest.raises(NetlinkError, match="looking up the interface nothere: No such device"):
        ns.netlink.link("nothere")


def test_a_link_changes_only_what_was_asked(ns: Namespace, index: int) -> None:
    ns.netlink.set_link(index, mtu=1400)
    assert (ns.netlink.link(index).mtu, ns.netlink.link(index).is_up) == (1400, True)
    ns.netlink.set_link(index, up=False)
    assert (ns.netlink.link(index).mtu, ns.netlink.link(index).is_up) == (1400, False)
    ns.netlink.set_link(index, up=True, mtu=1380, name="dvn1")
    [shown] = ns.ip("link", "show", "dvn1")
    assert (shown["mtu"], "UP" in shown["flags"]) == (1380, True)  # type: ignore[operator]
    ns.netlink.delete_link(index)
    assert ns.netlink.find_link("dvn1") is None


@pytest.mark.parametrize("text", ["10.1.2.3/24", "10.1.2.3/32", "fd00::1/64", "fd00::1/128"])
def test_an_address_is_added_once_and_removed(ns: Namespace, index: int, text: str) -> None:
    address = ip_interface(text)
    ns.netlink.add_address(index, address)
    ns.netlink.add_address(index, address)
    assert address in [a.address for a in ns.netlink.addresses(index)]
    [shown] = ns.ip("addr", "show", "dvn0")
    infos: list[dict[str, object]] = shown["addr_info"]  # type: ignore[assignment]
    [found] = [info for info in infos if f"{info['local']}/{info['prefixlen']}" == text]
    assert "tentative" not in found
    ns.netlink.delete_address(index, address)
    ns.netlink.delete_address(index, address)
    assert address not in [a.address for a in ns.netlink.addresses()]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("table", [254, 100, 51820])
def test_routes_are_added_replaced_listed_and_removed(
    ns: Namespace, index: int, version: int, table: int
) -> None:
    prefix = ip_network("10.9.0.0/16" if version == 4 else "fd09::/48")
    default = ip_network("0.0.0.0/0" if version == 4 else "::/0")
    for wanted in (prefix, default):
        ns.netlink.add_route(Route(wanted, index, table))
        with pytest.raises(NetlinkError) as caught:
            ns.netlink.add_route(Route(wanted, index, table))
        assert caught.value.errno == errno.EEXIST
        ns.netlink.replace_route(Route(wanted, index, table, mtu=1300))
    shown = ns.ip(f"-{version}", "route", "show", "table", str(table), "dev", "dvn0")
    metrics = {r["dst"]: r["metrics"][0]["mtu"] for r in shown if "metrics" in r}  # type: ignore[index]
    assert metrics == {str(prefix): 1300, "default": 1300}
    ours = {r.prefix: r.mtu for r in ns.netlink.routes(version, table=table, interface=index) if r.mtu}
    assert ours == {prefix: 1300, default: 1300}
    for wanted in (prefix, default):
        ns.netlink.delete_route(Route(wanted, index, table))
        ns.netlink.delete_route(Route(wanted, index, table))
    assert not [r for r in ns.netlink.routes(version, table=table) if r.prefix in (prefix, default)]


def test_a_metric_a_gateway_and_a_source_are_kept(ns: Namespace, index: int) -> None:
    ns.netlink.add_address(index, ip_interface("10.1.0.2/24"))
    route = Route(
        ip_network("10.2.0.0/16"),
        index,
        metric=77,
        gateway=ip_address("10.1.0.1"),
        source=ip_address("10.1.0.2"),
    )
    ns.netlink.add_route(route)
    assert route in ns.netlink.routes(4)
    [shown] = ns.ip("route", "show", "10.2.0.0/16")
    assert (shown["metric"], shown["gateway"], shown["prefsrc"]) == (77, "10.1.0.1", "10.1.0.2")


def test_the_way_to_an_address_is_told(ns: Namespace, index: int) -> None:
    assert ns.netlink.route_to(ip_address("192.0.2.9")) is None
    ns.netlink.add_route(Route(ip_network("192.0.2.0/24"), index, mtu=1234))
    found = ns.netlink.route_to(ip_address("192.0.2.9"))
    assert found is not None
    assert (found.interface, found.mtu) == (index, 1234)
    ns.netlink.add_route(Route(ip_network("198.51.100.0/24"), index, table=99))
    ns.netlink.add_rule(Rule(4, 99, mark=7))
    assert ns.netlink.route_to(ip_address("198.51.100.1")) is None
    marked = ns.netlink.route_to(ip_address("198.51.100.1"), mark=7)
    assert marked is not None
    assert marked.table == 99


@pytest.mark.parametrize("version", [4, 6])
def test_rules_are_as_ip_shows_them(ns: Namespace, version: int) -> None:
    rules = [
        Rule(version, 51820, mark=0xCA6C, invert=True),
        Rule(version, 254, suppress_prefix_length=0),
        Rule(version, 200, mark=5, priority=77),
    ]
    for rule in rules:
        ns.netlink.add_rule(rule)
    shown = ns.ip(f"-{version}", "rule", "show")
    assert any("not" in r and r["fwmark"] == "0xca6c" and r["table"] == "51820" for r in shown)
    assert any(r.get("suppress_prefixlen") == 0 and r["table"] == "main" for r in shown)
    assert any(r["priority"] == 77 and r["fwmark"] == "0x5" for r in shown)
    ours = ns.netlink.rules(version)
    assert len(ours) == len(shown)
    for rule in rules:
        assert any(
            (r.table, r.mark, r.invert, r.suppress_prefix_length)
            == (rule.table, rule.mark, rule.invert, rule.suppress_prefix_length)
            for r in ours
        )
        ns.netlink.delete_rule(rule)
        ns.netlink.delete_rule(rule)
    assert len(ns.netlink.rules(version)) == len(shown) - 3


def test_a_batch_goes_on_past_an_error_and_names_the_first(ns: Namespace, index: int) -> None:
    bad = Route(ip_network("10.3.0.0/16"), 999999)
    routes = [Route(ip_network((0x0A640000 + (i << 8), 24)), index) for i in range(250)]
    with pytest.raises(NetlinkError, match=r"adding the route 10\.3\.0\.0/16 by interface 999999"):
        ns.netlink.apply(add_route(r) for r in [*routes[:120], bad, *routes[120:]])
    assert len(ns.ip("route", "show", "dev", "dvn0", "scope", "link")) == 250
    with pytest.raises(NetlinkError):
        ns.netlink.apply([add_route(routes[0])])
    ns.netlink.apply([add_route(routes[0])], ignore=[errno.EEXIST])


@pytest.mark.alone
def test_a_thousand_routes_take_less_than_a_tenth_of_a_second(ns: Namespace, index: int) -> None:
    routes = [Route(ip_network((0x0A000000 + i, 32)), index) for i in range(1000)]
    started = time.perf_counter()
    ns.netlink.apply(add_route(route) for route in routes)
    assert time.perf_counter() - started < 0.1
    assert len(ns.netlink.routes(4, interface=index)) == 1000
    ns.netlink.apply(delete_route(route) for route in routes)
    assert ns.netlink.routes(4, interface=index) == []


def test_routes_and_rules_are_as_pyroute2_reads_them(ns: Namespace, index: int) -> None:
    pyroute2 = pytest.importorskip("pyroute2")
    ns.netlink.add_route(Route(ip_network("10.4.0.0/16"), index, table=51820, metric=9))
    ns.netlink.add_rule(Rule(6, 51820, mark=51820, invert=True, priority=1000))
    with pyroute2.NetNS(ns.name) as witness:
        [route] = witness.get_routes(table=51820, family=2)
        assert route.get("dst") == "10.4.0.0"
        assert (route["dst_len"], route.get("priority"), route.get("oif")) == (16, 9, index)
        [rule] = [r for r in witness.get_rules(family=10) if r.get("priority") == 1000]
        assert (rule.get("fwmark"), rule.get("table")) == (51820, 51820)
        assert rule["flags"] & 2


def test_without_permission_the_error_says_what_it_takes() -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(65534)
            Netlink().set_link(1, mtu=1500)
        except NetlinkError as error:
            status = 0 if error.errno == errno.EPERM and "CAP_NET_ADMIN" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
