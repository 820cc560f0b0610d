"""From how a host is to how it is to be: what is changed, in which order, and nothing else."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network

import pytest

from wgpy.host.nft import Chain, NftSet, NftTable, changes
from wgpy.host.setting import NOTHING, GuestRule, HostSetting
from wgpy.host.steps import (
    AddGuest,
    AddHostRoute,
    AddRule,
    ChangeTables,
    RemoveGuest,
    RemoveHostRoute,
    RemoveRule,
    RestoreSysctl,
    SetSysctl,
    make_steps,
)
from wgpy.netlink import Route, Rule

RULE = Rule(4, 51820, mark=51820, invert=True, priority=99)
ROUTE = Route(ip_network("0.0.0.0/0"), 7, 51820)
GUEST = GuestRule("ip", "filter", "DOCKER-USER", 'iifname "wg-home" accept', "wgpy home")
FORWARDING = "net/ipv4/conf/eth0/forwarding"


def table(*ranges: str, rule: str = "accept") -> NftTable:
    chain = Chain("forward", "filter hook forward priority 0; policy accept;", (rule,))
    return NftTable("wgpy-wg-home", (chain,), (NftSet("ranges4", "ipv4_addr", frozenset(ranges)),))


def setting(*ranges: str) -> HostSetting:
    tables = {"wgpy-wg-home": table(*ranges)}
    return HostSetting({FORWARDING: "1"}, tables, frozenset([ROUTE]), frozenset([RULE]), frozenset([GUEST]))


def test_what_is_as_wanted_takes_no_step() -> None:
    assert make_steps(setting("10.0.0.0/24"), setting("10.0.0.0/24")) == []


def test_the_firewall_is_there_before_anything_is_forwarded_and_rules_come_last() -> None:
    steps = make_steps(NOTHING, setting("10.0.0.0/24"))
    assert [type(step) for step in steps] == [ChangeTables, SetSysctl, AddGuest, AddHostRoute, AddRule]


def test_on_the_way_back_nothing_is_forwarded_without_the_firewall() -> None:
    steps = make_steps(setting("10.0.0.0/24"), NOTHING)
    assert [type(step) for step in steps] == [
        RemoveRule,
        RemoveHostRoute,
        RemoveGuest,
        RestoreSysctl,
        ChangeTables,
    ]


def test_one_range_more_touches_one_element() -> None:
    many = [f"10.{i // 256}.{i % 256}.0/24" for i in range(0, 1000, 2)]
    [step] = make_steps(setting(*many), setting(*many, "192.168.7.0/24"))
    assert isinstance(step, ChangeTables)
    assert step.text == "add element inet wgpy-wg-home ranges4 { 192.168.7.0/24 }\n"
    [back] = make_steps(setting(*many, "192.168.7.0/24"), setting(*many))
    assert isinstance(back, ChangeTables)
    assert back.text == "delete element inet wgpy-wg-home ranges4 { 192.168.7.0/24 }\n"
    assert str(back) == "change elements of the nftables table inet wgpy-wg-home"


def test_elements_of_a_map_go_by_their_keys() -> None:
    def with_map(*elements: str) -> NftTable:
        places = NftSet("places", "ipv4_addr : interval ipv4_addr", frozenset(elements), is_map=True)
        return dataclasses.replace(table(), sets=(places,))

    text = changes(with_map("10.9.1.0/24 : 192.168.1.0/24"), with_map("10.9.1.0/24 : 192.168.2.0/24"))
    assert text.splitlines() == [
        "delete element inet wgpy-wg-home places { 10.9.1.0/24 }",
        "add element inet wgpy-wg-home places { 10.9.1.0/24 : 192.168.2.0/24 }",
    ]


def test_another_rule_makes_the_table_anew_in_one_text() -> None:
    text = changes(table("10.0.0.0/24"), table("10.0.0.0/24", rule="drop"))
    assert text.startswith("table inet wgpy-wg-home {}\ndelete table inet wgpy-wg-home\ntable inet")
    assert text.endswith("add element inet wgpy-wg-home ranges4 { 10.0.0.0/24 }\n")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (SetSysctl(FORWARDING, "1"), "set net.ipv4.conf.eth0.forwarding to 1"),
        (RestoreSysctl(FORWARDING), "restore net.ipv4.conf.eth0.forwarding"),
        (AddRule(RULE), "add the routing rule IPv4 not fwmark 0xca6c lookup 51820"),
        (AddGuest(GUEST), "insert one rule into the chain ip filter DOCKER-USER: iifname"),
        (make_steps(NOTHING, setting())[0], "make the nftables table inet wgpy-wg-home"),
        (make_steps(setting(), NOTHING)[-1], "delete the nftables table inet wgpy-wg-home"),
    ],
)
def test_a_step_says_what_it_does(step: object, words: str) -> None:
    assert str(step).startswith(words)
