from __future__ import annotations

import dataclasses
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import machine_key, make_map, make_network, make_node, node_id, wireguard_key
from wgpy.addresses import Prefix
from wgpy.agent import plan
from wgpy.agent.choices import LocalChoices
from wgpy.agent.plan import PeerSetting, Setting, make_plan, rotated_keys, wanted_setting
from wgpy.keys import PublicKey
from wgpy.mesh.consent import Choices, Surroundings, clip
from wgpy.mesh.forward import Forward
from wgpy.mesh.record import sign_record

KEYS = [wireguard_key(number).public_key() for number in range(5)]
PREFIXES = [ipaddress.ip_network(f"10.1.0.{number}/32") for number in range(6)]


@st.composite
def settings(draw: st.DrawFn) -> Setting:
    """A setting in which each prefix has one owner at most."""
    owners = draw(st.lists(st.sampled_from([None, *KEYS]), min_size=6, max_size=6))
    present = set(draw(st.lists(st.sampled_from(KEYS)))) | {owner for owner in owners if owner}
    peers = {
        key: PeerSetting(
            frozenset(prefix for prefix, owner in zip(PREFIXES, owners, strict=True) if owner == key),
            draw(st.sampled_from([0, 20])),
        )
        for key in present
    }
    addresses = tuple(draw(st.sets(st.sampled_from([prefix[0] for prefix in PREFIXES]))))
    return Setting(
        draw(st.sampled_from([1380, 1420])),
        addresses,
        frozenset(draw(st.sets(st.sampled_from(PREFIXES)))),
        peers,
    )


class Model:
    """An interface and a link in miniature, with the engine's rule that a prefix added leaves its last
    owner.
    """

    def __init__(self, setting: Setting) -> None:
        self.mtu, self.addresses, self.routes = setting.mtu, set(setting.addresses), set(setting.routes)
        self.keepalives = {key: peer.keepalive for key, peer in setting.peers.items()}
        self.owners = {prefix: key for key, peer in setting.peers.items() for prefix in peer.allowed_ips}

    def setting(self) -> Setting:
        peers = {
            key: PeerSetting(frozenset(p for p, owner in self.owners.items() if owner == key), keepalive)
            for key, keepalive in self.keepalives.items()
        }
        return Setting(self.mtu, tuple(sorted(self.addresses)), frozenset(self.routes), peers)

    def own(self, key: PublicKey, prefixes: tuple[Prefix, ...] | frozenset[Prefix]) -> None:
        self.owners |= dict.fromkeys(prefixes, key)

    def apply(self, step: plan.Step) -> None:
        match step:
            case plan.RenamePeer(old, new):
                assert new not in self.keepalives
                self.keepalives[new] = self.keepalives.pop(old)
                self.owners = {prefix: new if key == old else key for prefix, key in self.owners.items()}
            case plan.RemovePeer(key):
                del self.keepalives[key]
                self.owners = {prefix: owner for prefix, owner in self.owners.items() if owner != key}
            case plan.RemoveRoute(prefix):
                self.routes.remove(prefix)
            case plan.RemoveAddress(address):
                self.addresses.remove(address)
            case plan.SetMtu(mtu):
                self.mtu = mtu
            case plan.AddAddress(address):
                assert address not in self.addresses
                self.addresses.add(address)
            case plan.RemoveAllowedIps(key, prefixes):
                for prefix in prefixes:
                    assert self.owners.pop(prefix) == key
            case plan.AddAllowedIps(key, prefixes):
                assert key in self.keepalives
                self.own(key, prefixes)
            case plan.SetKeepalive(key, seconds):
                assert self.keepalives[key] != seconds
                self.keepalives[key] = seconds
            case plan.AddPeer(key, setting):
                assert key not in self.keepalives
                self.keepalives[key] = setting.keepalive
                self.own(key, setting.allowed_ips)
            case plan.AddRoute(prefix):
                assert prefix not in self.routes
                self.routes.add(prefix)


def normal(setting: Setting) -> Setting:
    return Setting(setting.mtu, tuple(sorted(setting.addresses)), setting.routes, setting.peers)


@given(settings(), settings())
def test_the_steps_lead_from_any_setting_to_any_other(present: Setting, wanted: Setting) -> None:
    model = Model(present)
    for step in make_plan(present, wanted):
        model.apply(step)
    assert model.setting() == normal(wanted)
    assert make_plan(wanted, wanted) == []


@given(settings(), settings(), st.dictionaries(st.sampled_from(KEYS), st.sampled_from(KEYS), max_size=3))
def test_keys_that_rotated_lead_to_the_same_and_remove_nobody_who_only_has_another_key(
    present: Setting, wanted: Setting, rotated: dict[PublicKey, PublicKey]
) -> None:
    unique = {old: new for new, old in {new: old for old, new in rotated.items()}.items()}
    model = Model(present)
    steps = make_plan(present, wanted, unique)
    for step in steps:
        model.apply(step)
    assert model.setting() == normal(wanted)
    renamed = {step.old for step in steps if isinstance(step, plan.RenamePeer)}
    assert not renamed & {step.public_key for step in steps if isinstance(step, plan.RemovePeer)}


def test_a_node_with_another_key_of_the_same_machine_is_renamed_and_another_machine_is_not() -> None:
    network = make_network()
    before = clip(make_map([make_node(2)], network=network), Choices(), Surroundings(), (), {}, {})
    record = sign_record(
        machine_key(2), wireguard_key(4).public_key(), network=network.id, node=node_id(2),
        addresses=make_node(2).record.addresses, seq=9,
    )  # fmt: skip
    forged = dataclasses.replace(make_node(2), record=dataclasses.replace(make_node(3).record, id=node_id(2)))
    rotated = dataclasses.replace(make_node(2), record=record)
    after = clip(make_map([rotated], network=network), Choices(), Surroundings(), (), {}, {})
    assert rotated_keys(before, after) == {wireguard_key(2).public_key(): wireguard_key(4).public_key()}
    assert rotated_keys(after, after) == {}
    other = dataclasses.replace(
        after, peers={node_id(2): dataclasses.replace(after.peers[node_id(2)], node=forged)}
    )
    assert rotated_keys(before, other) == {}


@given(settings(), settings())
def test_a_prefix_that_moves_between_peers_that_stay_is_never_without_an_owner(
    present: Setting, wanted: Setting
) -> None:
    model = Model(present)
    held = {
        prefix
        for prefix, owner in model.owners.items()
        if owner in wanted.peers and prefix in Model(wanted).owners
    }
    for step in make_plan(present, wanted):
        model.apply(step)
        assert held <= model.owners.keys()


@given(settings(), settings())
def test_the_order_is_removals_then_moves_then_additions(present: Setting, wanted: Setting) -> None:
    rank = {plan.RemovePeer: 0, plan.RemoveAllowedIps: 1, plan.AddAllowedIps: 2, plan.AddPeer: 3}
    ranks = [min(rank[type(step)], 3) for step in make_plan(present, wanted) if type(step) in rank]
    assert ranks == sorted(ranks)


def test_a_clipped_map_becomes_peers_routes_and_our_addresses() -> None:
    network = make_network(ranges=["10.1.0.0/16", "192.168.0.0/16"])
    around = Surroundings(connected=((ipaddress.ip_network("192.168.1.0/24"), "eth0"),))
    bob = make_node(2, addresses=["10.1.0.2/32", "192.168.7.2/32", "203.0.113.9/32"])
    own = (ipaddress.ip_network("10.1.0.1/32"), ipaddress.ip_network("192.168.7.1/32"))
    chosen = Choices((ipaddress.ip_network("203.0.113.0/24"),))
    clipped = clip(make_map([bob], network=network), chosen, around, own, {}, {})
    setting = wanted_setting(network, clipped, own, LocalChoices())
    assert setting.addresses == (ipaddress.ip_address("10.1.0.1"),)
    assert {str(route) for route in setting.routes} == {"10.1.0.0/16", "203.0.113.9/32"}
    assert setting.peers == {
        bob.record.wireguard_key: PeerSetting(
            frozenset({ipaddress.ip_network("10.1.0.2/32"), ipaddress.ip_network("203.0.113.9/32")}), 20
        )
    }


def test_with_five_hundred_ranges_and_two_hundred_names_a_change_of_one_touches_one() -> None:
    """On the link of a node that follows them: what is the host's own is counted in tests/host."""
    own = (ipaddress.ip_network("10.1.0.1/32"),)
    many = [ipaddress.ip_network(f"10.{100 + i // 128}.{i % 128 * 2}.0/24") for i in range(500)]
    key = make_node(2).record.wireguard_key

    def setting(ranges: list[Prefix], last: int) -> Setting:
        """With these ranges behind node 2, and 200 records, the last of which leads to 10.1.7.`last`."""
        records = [{"name": f"n{i}", "value": "10.1.7.7"} for i in range(199)]
        names = {"records": [*records, {"name": "last", "value": f"10.1.7.{last}"}], "domains": []}
        network = dataclasses.replace(make_network(), extra={"names": names})
        assert len(network.names.records) == 200
        node = make_node(2)
        record = sign_record(
            machine_key(2), key, network=node.record.network, node=node.id, addresses=node.record.addresses,
            ranges=tuple(ranges), seq=2,
        )  # fmt: skip
        given = tuple(Forward(range_, range_) for range_ in ranges)
        netmap = make_map([dataclasses.replace(node, record=record, forwards=given)], network=network)
        gateways = dict.fromkeys(ranges, node.id)
        clipped = clip(netmap, Choices(), Surroundings(), own, {}, gateways)
        return wanted_setting(network, clipped, own, LocalChoices())

    before = setting(many[:-1], 8)
    assert len(before.routes) == 499 + 2
    after = setting(many, 8)
    added = many[-1:]
    assert make_plan(before, after) == [plan.AddAllowedIps(key, tuple(added)), plan.AddRoute(*added)]
    assert make_plan(after, before) == [plan.RemoveRoute(*added), plan.RemoveAllowedIps(key, tuple(added))]
    assert make_plan(before, setting(many[:-1], 9)) == [], "a name is no matter of the link"
