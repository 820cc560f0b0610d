"""A gateway's and an exit node's part of the host, and the choices that lead to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import pytest

from wgpy.addresses import Prefix
from wgpy.agent.advertise import Advertise
from wgpy.agent.choices import LocalChoices
from wgpy.agent.exit_node import OwnLink, exit_setting
from wgpy.agent.gateway import HostFacts, gateway_setting, plan_gateway
from wgpy.errors import ConfigError
from wgpy.host.neighbours import ForwardGuard
from wgpy.mesh.forward import Forward


def net(text: str) -> Prefix:
    return ipaddress.ip_network(text)


LAN, LAN6 = net("192.168.1.0/24"), net("fd12:1::/64")
MESH = [net("10.1.0.0/16"), net("fd01::/64")]


def facts(**ways: str) -> HostFacts:
    found = {net(text.removeprefix("n").replace("_", ".") + "/24"): (way,) for text, way in ways.items()}
    return HostFacts(
        ways={LAN: ("eth1",), LAN6: ("eth1",), **found}, links=frozenset(("eth0", "eth1", "wg-home"))
    )


@pytest.mark.parametrize(
    ("forward", "agreed", "ways", "reason"),
    [
        (Forward(LAN, LAN), "none", {}, "this host has not agreed: wgpy set --advertise 192.168.1.0/24"),
        (Forward(LAN, LAN), "192.168.2.0/24", {}, "this host has not agreed"),
        (Forward(LAN, LAN), "any", {LAN: ()}, "this host has no route to 192.168.1.0/24"),
        (Forward(LAN, LAN), "any", {LAN: ("wg-home",)}, "this host reaches it through the mesh itself"),
        (Forward(LAN, LAN, interface="eth7"), "any", {}, "there is no interface eth7 on this host"),
        (Forward(LAN, LAN, interface="eth0"), "any", {}, "this host reaches it by eth1, not by eth0"),
        (Forward(net("::/0"), net("::/0")), "any", {}, "this host has not agreed: wgpy set --advertise exit"),
        (Forward(net("::/0"), net("::/0")), "exit", {}, "this host has no IPv6 route to ::/0"),
    ],
)
def test_a_range_that_cannot_be_forwarded_is_said_and_not_signed(
    forward: Forward, agreed: str, ways: Mapping[Prefix, tuple[str, ...]], reason: str
) -> None:
    found = HostFacts(ways={LAN: ("eth1",), **ways}, links=frozenset(("eth0", "eth1", "wg-home")))
    plan = plan_gateway([forward], Advertise.parse(agreed), found, "wg-home")
    assert plan.ranges == ()
    [(target, said)] = plan.problems
    assert (target, said.startswith(reason)) == (forward.target, True), said


def test_what_a_gateway_forwards_becomes_sysctls_and_one_table() -> None:
    given = [
        Forward(LAN, LAN),
        Forward(net("10.9.1.0/24"), net("192.168.2.0/24"), nat=False),
        Forward(LAN6, LAN6),
    ]
    found = facts(**{"192_168_2_0": "eth0"})
    plan = plan_gateway(given, Advertise.parse("any"), found, "wg-home")
    assert plan.ranges == (LAN, net("10.9.1.0/24"), LAN6)
    setting = gateway_setting(plan, MESH, found, "wg-home", None)
    assert setting.sysctls == {
        f"net/{family}/conf/{name}/{what}": "1"
        for family, what in (("ipv4", "forwarding"), ("ipv6", "force_forwarding"))
        for name in ("wg-home", "eth0", "eth1")
    }
    [table] = setting.tables.values()
    sets = {each.name: sorted(each.elements) for each in table.sets}
    assert sets["ranges4"] == ["10.9.1.0/24", "192.168.1.0/24"]
    assert sets["masked4"] == ["192.168.1.0/24"]
    assert sets["open4"] == ["192.168.2.0/24"]
    assert sets["real4"] == ["10.9.1.0/24 : 192.168.2.0/24"]
    assert sets["virtual4"] == ["192.168.2.0/24 : 10.9.1.0/24"]
    assert sets["mesh6"] == ["fd01::/64"]
    assert setting.guests == frozenset()


def test_without_forwarding_per_interface_router_advertisements_are_kept_alive() -> None:
    found = HostFacts(ways={LAN6: ("eth1",)}, by_advertisement=("eth0",), force_forwarding=False)
    plan = plan_gateway([Forward(LAN6, LAN6)], Advertise.parse("any"), found, "wg-home")
    sysctls = gateway_setting(plan, MESH, found, "wg-home", None).sysctls
    assert sysctls == {"net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "2"}


def test_other_peoples_chains_get_a_rule_with_consent_alone() -> None:
    guard = ForwardGuard("Docker", "ip", "filter", "DOCKER-USER")
    found = HostFacts(ways={LAN: ("eth1",)}, guards=(guard,))
    plan = plan_gateway([Forward(LAN, LAN)], Advertise.parse("any"), found, "wg-home")
    assert gateway_setting(plan, MESH, found, "wg-home", None).guests == frozenset()
    [rule] = gateway_setting(plan, MESH, found, "wg-home", "wgpy home").guests
    assert rule.text == 'iifname . oifname { "wg-home" . "eth1", "eth1" . "wg-home" } accept'
    assert rule.tag == "wgpy home"


def test_an_exit_takes_both_families_and_the_kill_switch_survives() -> None:
    link = OwnLink("wg-home", 7, (ipaddress.ip_address("10.1.0.2"),))
    setting = exit_setting(link, 4983, keeps_lan=True, kill_switch=True, connected=[LAN])
    assert {str(route.prefix) for route in setting.routes} == {"0.0.0.0/0", "::/0"}
    assert all((route.interface, route.table) == (7, 4983) for route in setting.routes)
    assert len(setting.rules) == 4
    assert [name for name, table in setting.tables.items() if table.survives] == ["wgpy-wg-home-lock"]
    without_lan = exit_setting(link, 4983, keeps_lan=False, kill_switch=True, connected=[LAN])
    assert len(without_lan.rules) == 2
    assert not any(each.elements for each in without_lan.tables["wgpy-wg-home-lock"].sets)


# --- choices ---


@pytest.mark.parametrize("text", ["none", "any", "exit", "192.168.1.0/24,fd12:1::/64", "10.0.0.0/8,any,exit"])
def test_what_is_advertised_reads_as_it_is_written(text: str) -> None:
    assert str(Advertise.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "say `none`, or ranges"),
        ("none,any", "say `none`, or ranges"),
        ("0.0.0.0/0", "is everything there is: to be an exit node, say `exit`"),
        ("192.168.1.5/24", "192.168.1.5/24 is an address in 192.168.1.0/24"),
        ("lan", "a prefix is ADDRESS/LENGTH"),
    ],
)
def test_what_cannot_be_advertised_is_said_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Advertise.parse(text)
    assert words in str(caught.value)


def test_accepting_and_refusing_undo_each_other() -> None:
    choices = LocalChoices().changed({"accept": ["192.168.1.0/24", "10.0.0.0/8"]})
    assert choices.accepted == (LAN, net("10.0.0.0/8"))
    choices = choices.changed({"refuse": ["192.168.1.0/24"]})
    assert (choices.accepted, choices.refused) == ((net("10.0.0.0/8"),), (LAN,))
    choices = choices.changed({"accept": ["192.168.1.0/24"], "exit_node": "nas", "kill_switch": True})
    assert (choices.refused, choices.exit_node, choices.kill_switch) == ((), "nas", True)
    assert LocalChoices.from_json(choices.to_json()) == choices
    assert choices.changed({"exit_node": "none"}).exit_node == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mark": 0xCA6C}, "has a bit (0x4000, 0x8000) by which Kubernetes judges packets"),
        ({"mark": 254}, "but 253 to 255; got 254"),
        ({"accept": ["x"]}, "a prefix is ADDRESS/LENGTH"),
        ({"colour": "blue"}, "no such choice: colour"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LocalChoices().changed(changes)
    assert words in str(caught.value)
