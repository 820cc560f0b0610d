"""What external clients take on their gateway's host, and what other nodes let a map say of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from wgpy.addresses import Prefix
from wgpy.agent.advertise import Advertise
from wgpy.agent.client_filter import ClientPart, client_setting, clients_interface
from wgpy.agent.gateway import GatewayPlan, HostFacts
from wgpy.agent.ingress_state import IngressState
from wgpy.errors import ConfigError
from wgpy.keys import PrivateKey
from wgpy.mesh.ingress import Client, Group, Reach

PHONE, TABLET = ip_network("10.7.252.2/32"), ip_network("10.7.252.3/32")


def nets(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, texts))


def test_an_interface_name_always_fits() -> None:
    assert clients_interface("wg-home") == "wg-home-in"
    assert len(clients_interface("x" * 15)) == 15


def test_each_client_may_go_where_it_may_and_intervals_do_not_overlap() -> None:
    part = ClientPart(
        "wg-home-in",
        nets("10.7.252.1/32", "fd07::1/128"),
        {PHONE: nets("10.7.0.0/16", "10.7.3.0/24", "fd07::/64"), TABLET: nets("192.168.1.0/24")},
    )
    setting = client_setting(part, GatewayPlan(), HostFacts(), "wg-home", None)
    [table] = setting.tables.values()
    assert table.name == "wgpy-wg-home-in"
    sets = {each.name: each for each in table.sets}
    assert sets["reach4"].elements == {"10.7.252.2 . 10.7.0.0/16", "10.7.252.3 . 192.168.1.0/24"}
    assert sets["own6"].elements == {"fd07::1/128"}
    forward, enter = table.chains
    assert forward.rules[-2:] == ('iifname "wg-home-in" drop', 'oifname "wg-home-in" drop')
    assert enter.rules[-1] == 'iifname "wg-home-in" drop'
    assert setting.sysctls["net/ipv4/conf/wg-home-in/forwarding"] == "1"
    # A client more is elements more, and no rule.
    more = ClientPart(
        part.interface, part.addresses, part.reach | {ip_network("10.7.252.4/32"): nets("10.7.0.1")}
    )
    [after] = client_setting(more, GatewayPlan(), HostFacts(), "wg-home", None).tables.values()
    assert after.form == table.form


def test_the_internet_is_neither_the_network_nor_where_the_host_stands() -> None:
    part = ClientPart(
        "wg-home-in",
        nets("10.7.252.1/32"),
        {PHONE: nets("10.7.0.0/16"), TABLET: nets("10.7.0.0/16")},
        frozenset({PHONE}),
        nets("10.7.0.0/16", "192.168.9.0/24"),
        {4: ("eth0",)},
    )
    facts = HostFacts(connected=nets("192.168.1.0/24"))
    setting = client_setting(part, GatewayPlan(), facts, "wg-home", None)
    [table] = setting.tables.values()
    sets = {each.name: each.elements for each in table.sets}
    assert sets["online4"] == {"10.7.252.2/32"}
    assert sets["near4"] == {"10.7.0.0/16", "192.168.1.0/24", "192.168.9.0/24"}
    assert "online6" not in sets
    rules = {chain.name: "\n".join(chain.rules) for chain in table.chains}
    assert "@online4 ct original ip daddr != @near4 masquerade" in rules["postrouting"]
    assert setting.sysctls["net/ipv4/conf/eth0/forwarding"] == "1"
    # Who else may is an element; nobody, or no way out: no rule at all.
    both = replace(part, online=frozenset({PHONE, TABLET}))
    [more] = client_setting(both, GatewayPlan(), facts, "wg-home", None).tables.values()
    assert more.form == table.form
    [none] = client_setting(replace(part, outward={}), GatewayPlan(), facts, "wg-home", None).tables.values()
    assert "masquerade" not in str(none)


def test_letting_clients_in_is_a_choice_of_its_own() -> None:
    assert Advertise.parse("any").as_ingress is False
    assert str(Advertise.parse("ingress,192.168.1.0/24")) == "192.168.1.0/24,ingress"
    assert Advertise.parse("ingress").offered == ()
    with pytest.raises(ConfigError, match="`ingress`"):
        Advertise.parse("none,ingress")


def test_a_gateway_that_starts_without_its_coordinator_keeps_out_whose_time_is_over() -> None:
    key = PrivateKey(bytes(range(32)))
    clients = tuple(
        Client(f"{number:032x}", PrivateKey(bytes([number] * 32)).public_key(), (), Reach(), left)
        for number, left in ((1, None), (2, 60), (3, 600))
    )
    group = Group(
        "0" * 32, "clients", 3, 51820, nets("10.7.252.1/32"), nets("10.7.252.0/22"), True,
        key.public_key(), None, {}, clients,
    )  # fmt: skip
    saved = IngressState.from_json(IngressState(group, 1000.0, key).to_json())
    assert saved == IngressState(group, 1000, key)
    assert "key" not in repr(saved).replace("public_key", "")
    assert [client.expires_in for client in saved.at_present(1100.0).clients] == [None, 600]
    assert len(saved.at_present(900.0).clients) == 3
