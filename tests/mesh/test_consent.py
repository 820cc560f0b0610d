from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import make_map, make_network, make_node, node_id
from wgpy.addresses import Prefix, is_inside
from wgpy.mesh.consent import Choices, ClippedMap, Surroundings, clip, grant
from wgpy.mesh.gateways import GatewayChoice
from wgpy.mesh.netmap import Map, Node, UnreadableNode


def net(text: str) -> Prefix:
    return ipaddress.ip_network(text)


HOST = Surroundings(
    connected=((net("192.168.1.0/24"), "eth0"), (net("fd99::/64"), "eth0")),
    coordinators=(ipaddress.ip_address("198.51.100.1"), ipaddress.ip_address("10.99.0.1")),
)


def clip_it(netmap: Map, accepted: tuple[Prefix, ...] = (), around: Surroundings = HOST) -> ClippedMap:
    gateways = GatewayChoice().choose(netmap, lambda _node_id: False, 0.0)
    return clip(netmap, Choices(accepted), around, (net("10.1.0.1/32"),), {}, gateways)


@pytest.mark.parametrize(
    "text", ["10.1.0.0/16", "172.20.0.0/16", "192.168.2.0/24", "100.64.0.0/10", "fd12::/64"]
)
def test_private_space_that_collides_with_nothing_is_granted(text: str) -> None:
    assert grant([net(text)], (), HOST).ranges == (net(text),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("192.168.0.0/16", "overlaps 192.168.1.0/24 of eth0"),
        ("192.168.1.128/25", "overlaps 192.168.1.0/24 of eth0"),
        ("fd00::/8", "overlaps fd99::/64 of eth0"),
        ("203.0.113.0/24", "not private address space"),
        ("2001:db8::/64", "not private address space"),
        ("172.0.0.0/11", "not private address space"),
    ],
)
def test_what_is_not_plainly_free_needs_a_local_choice(text: str, reason: str) -> None:
    refused = grant([net(text)], (), HOST)
    assert refused.ranges == ()
    assert reason in str(refused.refused[0])
    assert f"wgpy up --accept {text}" in str(refused.refused[0])
    assert grant([net(text)], [net(text)], HOST).ranges == (net(text),)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "8000::/1",
        "127.0.0.0/8",
        "127.0.0.1/32",
        "::1/128",
        "169.254.1.0/24",
        "fe80::/64",
        "224.0.0.0/4",
        "ff02::/16",
        "255.255.255.255/32",
        "::ffff:10.0.0.0/104",
        "10.99.0.0/16",
        "198.51.100.0/24",
    ],
)
def test_some_things_no_choice_can_grant(text: str) -> None:
    assert grant([net(text)], [net("0.0.0.0/0"), net("::/0")], HOST).ranges == ()


def test_the_default_route_in_two_halves_is_caught_by_what_it_covers() -> None:
    for half in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"):
        assert grant([net(half)], [net(half)], Surroundings()).ranges == ()


def test_a_peer_gets_its_own_addresses_and_nothing_outside_the_ranges() -> None:
    node = make_node(2, addresses=["10.1.0.2/32", "10.2.0.2/32", "8.8.8.8/32", "192.168.1.7/32"])
    peer = clip_it(make_map([node])).peers[node.id]
    assert peer.allowed_ips == (net("10.1.0.2/32"),)
    assert [str(refusal.prefix) for refusal in peer.refused] == [
        "10.2.0.2/32",
        "8.8.8.8/32",
        "192.168.1.7/32",
    ]


def test_a_range_refused_takes_its_addresses_with_it() -> None:
    network = make_network(ranges=["192.168.1.0/24", "fd12:3456:789a::/64"])
    node = make_node(2, addresses=["192.168.1.2/32", "fd12:3456:789a::2/128"])
    assert clip_it(make_map([node], network=network)).peers[node.id].allowed_ips == (
        net("fd12:3456:789a::2/128"),
    )
    chosen = clip_it(make_map([node], network=network), (net("192.168.1.0/24"),))
    assert len(chosen.peers[node.id].allowed_ips) == 2


def test_no_peer_takes_our_address_or_anothers() -> None:
    thief = make_node(2, addresses=["10.1.0.1/32", "10.1.0.7/32"])
    second = make_node(3, addresses=["10.1.0.7/32"])
    peers = clip_it(make_map([thief, second])).peers
    winner, loser = sorted([thief, second], key=lambda node: node.id)
    assert net("10.1.0.7/32") in peers[winner.id].allowed_ips
    assert peers[loser.id].allowed_ips == ()
    assert f"belongs to {winner.name} already" in str(peers[loser.id].refused[-1])
    assert "belongs to this node already" in str(peers[thief.id].refused[0])


def test_a_record_that_was_tampered_with_is_left_out_and_the_rest_goes_on() -> None:
    good, bad = make_node(2), make_node(3)
    forged = dataclasses.replace(bad.record, addresses=(net("10.1.0.9/32"),))
    foreign = dataclasses.replace(make_node(4).record, network="f" * 32)
    twin = Node(node_id(5), "twin", dataclasses.replace(good.record, id=node_id(5)))
    unreadable = UnreadableNode(node_id(6), {"id": node_id(6)}, "node.name: expected text, got nothing")
    nodes: list[Node | UnreadableNode] = [
        good,
        dataclasses.replace(bad, record=forged),
        Node(node_id(4), "foreign", foreign),
        twin,
        unreadable,
    ]
    clipped = clip_it(Map.of(make_network(), None, {node.id: node for node in nodes}))
    assert set(clipped.peers) == {good.id}
    assert "not signed" in clipped.skipped[bad.id]
    assert "another network" in clipped.skipped[node_id(4)]
    assert "cannot be read" in clipped.skipped[node_id(6)]
    assert node_id(5) in clipped.skipped


def test_a_record_is_verified_once_and_again_when_it_changes() -> None:
    node = make_node(2)
    verified = {node.id: node.record}
    clip(make_map([node]), Choices(), HOST, (), verified, {})
    assert verified == {node.id: node.record}
    forged = dataclasses.replace(node, record=dataclasses.replace(node.record, seq=9))
    assert node.id in clip(make_map([forged]), Choices(), HOST, (), verified, {}).skipped
    assert verified == {}


prefixes = st.one_of(
    st.builds(
        lambda a, b: ipaddress.IPv4Network((a, b), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda a, b: ipaddress.IPv6Network((a, b), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(st.lists(prefixes, max_size=6), st.lists(prefixes, max_size=3), st.lists(prefixes, max_size=3))
def test_nothing_granted_ever_touches_the_host_or_the_unroutable(
    wanted: list[Prefix], accepted: list[Prefix], own: list[Prefix]
) -> None:
    around = Surroundings(tuple((prefix, "eth0") for prefix in own), HOST.coordinators)
    granted = grant(wanted, accepted, around)
    assert len(granted.ranges) + len(granted.refused) == len(wanted)
    for prefix in granted.ranges:
        assert prefix.prefixlen > 0
        assert not prefix.is_loopback
        assert not prefix.is_multicast
        assert not prefix.is_link_local
        assert not any(address in prefix for address in HOST.coordinators)
        chosen = any(is_inside(prefix, choice) for choice in accepted)
        assert chosen or (prefix.is_private or is_inside(prefix, net("100.64.0.0/10")))
        assert chosen or not any(prefix.version == mine.version and prefix.overlaps(mine) for mine in own)


@given(prefixes, prefixes)
def test_inside_agrees_with_the_standard_library(one: Prefix, other: Prefix) -> None:
    assert is_inside(one, other) == (one.version == other.version and one.subnet_of(other))  # type: ignore[arg-type]
