"""Ranges behind gateways as a node follows them: which gateway, and what of it this host lets happen."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from tests.mesh.examples import machine_key, make_map, make_network, make_node
from wgpy.addresses import Prefix
from wgpy.mesh.consent import Choices, ClippedMap, Surroundings, clip
from wgpy.mesh.encoding import MalformedMessage
from wgpy.mesh.forward import Forward, Offer
from wgpy.mesh.gateways import RETURN_AFTER, GatewayChoice
from wgpy.mesh.netmap import Map, Node
from wgpy.mesh.record import sign_record

LAN = ipaddress.ip_network("192.168.1.0/24")
EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def net(text: str) -> Prefix:
    return ipaddress.ip_network(text)


def gateway(
    number: int, *ranges: Prefix, elected: bool = True, signs: bool = True, given: bool = True
) -> Node:
    """A node that forwards these, if it both signs and is given them."""
    node = make_node(number)
    record = sign_record(
        machine_key(number),
        node.record.wireguard_key,
        network=node.record.network,
        node=node.id,
        addresses=node.record.addresses,
        ranges=ranges if signs else (),
        seq=2,
    )
    forwards = tuple(Forward(each, each, elected=elected) for each in ranges) if given else ()
    return dataclasses.replace(node, record=record, forwards=forwards)


NO_CHOICE, NOWHERE = Choices(), Surroundings()


def follow(netmap: Map, choices: Choices = NO_CHOICE, around: Surroundings = NOWHERE) -> ClippedMap:
    gateways = GatewayChoice().choose(netmap, lambda _node_id: False, 0.0)
    return clip(netmap, choices, around, (net("10.1.0.1/32"),), {}, gateways)


def routed(clipped: ClippedMap, node: Node) -> set[str]:
    return {str(each) for each in clipped.peers[node.id].allowed_ips} - {
        str(each) for each in node.record.addresses
    }


def refusals(clipped: ClippedMap, node: Node) -> str:
    return " | ".join(map(str, clipped.peers[node.id].refused))


# --- which gateway ---


def test_a_forward_survives_the_wire_and_is_left_out_when_there_is_none() -> None:
    node = gateway(2, LAN)
    assert Node.from_json(node.to_json()) == node
    assert "forwards" not in make_node(2).to_json()
    virtual = Forward(net("10.9.1.0/24"), LAN, nat=False, interface="eth1", elected=False)
    assert Forward.from_json(virtual.to_json(), "x") == virtual
    assert Offer.from_json(Offer((LAN,), ((LAN, "no"),)).to_json()) == Offer((LAN,), ((LAN, "no"),))


def test_a_virtual_range_of_another_size_is_malformed() -> None:
    value = Forward(LAN, LAN).to_json() | {"range": "10.0.0.0/16"}
    with pytest.raises(MalformedMessage, match="of one size"):
        Forward.from_json(value, "forward")


def test_a_range_takes_both_the_admins_word_and_the_nodes_signature() -> None:
    for node in (gateway(2, LAN, signs=False), gateway(2, LAN, given=False)):
        assert routed(follow(make_map([node])), node) == set()
    node = gateway(2, LAN)
    assert routed(follow(make_map([node])), node) == {"192.168.1.0/24"}


def test_the_elected_gateway_has_the_range_and_the_others_have_not() -> None:
    first, second = gateway(2, LAN, elected=False), gateway(3, LAN)
    clipped = follow(make_map([first, second]))
    assert (routed(clipped, first), routed(clipped, second)) == (set(), {"192.168.1.0/24"})


def test_while_the_elected_one_is_dead_another_takes_over_and_there_is_no_flapping_back() -> None:
    first, second = gateway(2, LAN), gateway(3, LAN, elected=False)
    netmap, choice = make_map([first, second]), GatewayChoice()
    dead: set[str] = set()

    def chosen(now: float) -> str:
        return choice.choose(netmap, dead.__contains__, now)[LAN]

    assert chosen(0) == first.id
    dead.add(first.id)
    assert chosen(1) == second.id
    dead.clear()
    assert chosen(2) == second.id
    assert chosen(2 + RETURN_AFTER - 1) == second.id
    assert chosen(2 + RETURN_AFTER) == first.id
    dead |= {first.id, second.id}
    assert chosen(100) == first.id


def test_another_election_is_followed_at_once() -> None:
    first, second = gateway(2, LAN), gateway(3, LAN, elected=False)
    choice = GatewayChoice()
    assert choice.choose(make_map([first, second]), lambda _: False, 0)[LAN] == first.id
    first, second = gateway(2, LAN, elected=False), gateway(3, LAN)
    assert choice.choose(make_map([first, second]), lambda _: False, 1)[LAN] == second.id
    assert choice.choose(make_map([first]), lambda _: False, 2)[LAN] == first.id
    assert choice.choose(make_map([]), lambda _: False, 3) == {}


# --- what this host lets happen ---

AT_HOME = Surroundings(
    connected=((LAN, "eth0"), (net("192.168.7.0/24"), "eth1")),
    coordinators=(ipaddress.ip_address("10.99.0.1"),),
)


@pytest.mark.parametrize(
    ("range_", "words"),
    [
        (
            "192.168.1.0/24",
            "behind node-2 overlaps 192.168.1.0/24 of eth0 here: two places have the same",
        ),
        ("192.168.1.128/25", "behind node-2 overlaps 192.168.1.0/24 of eth0 here"),
        ("192.168.0.0/16", "contains 192.168.1.0/24 of eth0 here; to route the rest of it there: wgpy set"),
        ("10.99.0.0/16", "behind node-2 contains the coordinator's own address 10.99.0.1"),
        ("10.1.7.0/24", "behind node-2 overlaps 10.1.0.0/16, where the nodes of the network are"),
        ("127.0.0.0/8", "behind node-2 overlaps 127.0.0.0/8 (loopback)"),
        (
            "203.0.113.0/24",
            "is not private address space; to route it there: wgpy set --accept 203.0.113.0",
        ),
    ],
)
def test_what_is_ours_or_nobodys_is_not_routed_and_the_reason_names_both_sides(
    range_: str, words: str
) -> None:
    node = gateway(2, net(range_))
    clipped = follow(make_map([node]), around=AT_HOME)
    assert routed(clipped, node) == set()
    assert f"{range_} " in refusals(clipped, node)
    assert words in refusals(clipped, node)


def test_an_own_lan_is_never_given_away_but_what_lies_around_it_may_be() -> None:
    node = gateway(2, LAN, net("192.168.0.0/16"))
    choices = Choices(accepted=(net("192.168.0.0/16"),))
    assert routed(follow(make_map([node]), choices, AT_HOME), node) == {"192.168.0.0/16"}


def test_a_host_may_refuse_one_range_or_take_only_what_it_names() -> None:
    node = gateway(2, LAN, net("192.168.2.0/24"))
    refused = follow(make_map([node]), Choices(refused=(LAN,)))
    assert (routed(refused, node), refusals(refused, node)) == ({"192.168.2.0/24"}, "")
    named = follow(make_map([node]), Choices(accept_routes=False, accepted=(LAN,)))
    assert (routed(named, node), refusals(named, node)) == ({"192.168.1.0/24"}, "")


def test_who_forwards_a_range_itself_needs_no_other_gateway_for_it() -> None:
    me, other = gateway(1, LAN, elected=False), gateway(2, LAN)
    netmap = Map.of(make_network(), me, {other.id: other})
    clipped = follow(netmap, around=AT_HOME)
    assert (routed(clipped, other), refusals(clipped, other)) == (set(), "")


def test_an_exit_node_has_everything_only_where_it_was_chosen() -> None:
    node = gateway(2, *EVERYTHING)
    netmap = make_map([node])
    assert routed(follow(netmap), node) == set()
    for name in (node.name, node.id):
        assert routed(follow(netmap, Choices(exit_node=name)), node) == {"0.0.0.0/0", "::/0"}
    assert routed(follow(netmap, Choices(exit_node="another")), node) == set()


# --- external clients ---


def ingress(number: int, *ranges: Prefix, elected: bool = True) -> Node:
    """A gateway of external clients, who are in these ranges."""
    mark = {"ingress": {"version": 1, "ranges": [str(each) for each in ranges]}}
    return dataclasses.replace(gateway(number, *ranges, elected=elected), extra=mark)


POOL = net("10.1.252.0/22")


def test_clients_are_routed_to_the_gateway_where_they_are_though_inside_the_network() -> None:
    first, second = ingress(2, POOL, elected=False), ingress(3, POOL)
    clipped = follow(make_map([first, second]), Choices(accept_routes=False))
    assert routed(clipped, second) == {"10.1.252.0/22"}
    assert routed(clipped, first) == set()
    assert refusals(clipped, second) == ""
    # The same without the word that clients are there is a range over the network's own.
    assert "overlaps 10.1.0.0/16" in refusals(follow(make_map([gateway(2, POOL)])), gateway(2, POOL))


@pytest.mark.parametrize("text", ["192.168.1.0/24", "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"])
def test_clients_are_nowhere_but_in_a_part_of_the_network(text: str) -> None:
    node = ingress(2, net(text))
    clipped = follow(make_map([node]))
    assert routed(clipped, node) == set()


def test_a_standby_reaches_clients_through_the_elected_gateway_and_that_one_by_itself() -> None:
    mine, other = ingress(1, POOL, elected=False), ingress(2, POOL)
    assert routed(follow(make_map([other], mine)), other) == {"10.1.252.0/22"}
    mine, other = ingress(1, POOL), ingress(2, POOL, elected=False)
    assert routed(follow(make_map([other], mine)), other) == set()


def test_a_word_about_clients_that_cannot_be_read_is_none() -> None:
    node = dataclasses.replace(gateway(2, LAN), extra={"ingress": {"version": "x"}})
    assert routed(follow(make_map([node])), node) == {str(LAN)}
