"""From a map to steps: what to change on the interface and the host so that they are as the map says. Pure.

The order is the wire's (docs/wire.md §7): removals, then moves of allowed IPs, then additions. A prefix
that goes from one peer to another is added to the new one, which takes it in one step: no packet finds it
without an owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from wgpy.addresses import IPAddress, Prefix, is_inside
from wgpy.agent.choices import LocalChoices
from wgpy.keys import PublicKey
from wgpy.mesh.consent import ClippedMap
from wgpy.mesh.forward import is_default
from wgpy.mesh.netmap import Network


@dataclass(frozen=True, slots=True)
class PeerSetting:
    """How a peer is, or is to be, on the interface. `keepalive` in seconds, 0: none."""

    allowed_ips: frozenset[Prefix]
    keepalive: int


@dataclass(frozen=True, slots=True)
class Setting:
    """How the interface and its link are, or are to be. `addresses` are the link's own, one host each."""

    mtu: int
    addresses: tuple[IPAddress, ...] = ()
    routes: frozenset[Prefix] = frozenset()
    peers: Mapping[PublicKey, PeerSetting] = field(default_factory=dict)


# --- steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemovePeer:
    public_key: PublicKey


@dataclass(frozen=True, slots=True)
class RenamePeer:
    """The same node has another key: its session goes on."""

    old: PublicKey
    new: PublicKey


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    address: IPAddress


@dataclass(frozen=True, slots=True)
class SetMtu:
    mtu: int


@dataclass(frozen=True, slots=True)
class AddAddress:
    address: IPAddress


@dataclass(frozen=True, slots=True)
class RemoveAllowedIps:
    public_key: PublicKey
    prefixes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class AddAllowedIps:
    public_key: PublicKey
    prefixes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class SetKeepalive:
    public_key: PublicKey
    seconds: int


@dataclass(frozen=True, slots=True)
class AddPeer:
    """A new peer, another agent's, with its allowed IPs."""

    public_key: PublicKey
    setting: PeerSetting


@dataclass(frozen=True, slots=True)
class AddRoute:
    prefix: Prefix


Step = (
    RenamePeer
    | RemovePeer
    | RemoveRoute
    | RemoveAddress
    | SetMtu
    | AddAddress
    | RemoveAllowedIps
    | AddAllowedIps
    | SetKeepalive
    | AddPeer
    | AddRoute
)


def _ordered(prefixes: frozenset[Prefix]) -> tuple[Prefix, ...]:
    return tuple(
        sorted(prefixes, key=lambda prefix: (prefix.version, prefix.network_address.packed, prefix.prefixlen))
    )


def make_plan(
    present: Setting, wanted: Setting, rotated: Mapping[PublicKey, PublicKey] | None = None
) -> list[Step]:
    """The steps that turn `present` into `wanted`. Nothing to do: none. `rotated` are keys that nodes had
    before, with what they have now.
    """
    steps: list[Step] = []
    if rotated:
        moved = {
            old: new
            for old, new in rotated.items()
            if old in present.peers and new not in present.peers and old not in wanted.peers
        }
        steps += [RenamePeer(old, new) for old, new in moved.items()]
        present = replace(present, peers={moved.get(key, key): peer for key, peer in present.peers.items()})
    steps += [RemovePeer(key) for key in present.peers if key not in wanted.peers]
    steps += [RemoveRoute(prefix) for prefix in _ordered(present.routes - wanted.routes)]
    steps += [RemoveAddress(address) for address in present.addresses if address not in wanted.addresses]
    if present.mtu != wanted.mtu:
        steps.append(SetMtu(wanted.mtu))
    steps += [AddAddress(address) for address in wanted.addresses if address not in present.addresses]
    steps += _plan_present_peers(present, wanted)
    steps += [AddPeer(key, peer) for key, peer in wanted.peers.items() if key not in present.peers]
    steps += [AddRoute(prefix) for prefix in _ordered(wanted.routes - present.routes)]
    return steps


def _plan_present_peers(present: Setting, wanted: Setting) -> list[Step]:
    steps: list[Step] = []
    claimed = frozenset[Prefix]().union(*(peer.allowed_ips for peer in wanted.peers.values()))
    staying = [
        (key, before, wanted.peers[key]) for key, before in present.peers.items() if key in wanted.peers
    ]
    for key, before, _ in staying:
        if dropped := before.allowed_ips - claimed:
            steps.append(RemoveAllowedIps(key, _ordered(dropped)))
    for key, before, after in staying:
        if gained := after.allowed_ips - before.allowed_ips:
            steps.append(AddAllowedIps(key, _ordered(gained)))
        if before.keepalive != after.keepalive:
            steps.append(SetKeepalive(key, after.keepalive))
    return steps


def rotated_keys(before: ClippedMap, after: ClippedMap) -> dict[PublicKey, PublicKey]:
    """Keys that nodes had, with what they have now, where the same machine says so."""
    found = {}
    for node_id, now in after.peers.items():
        then = before.peers.get(node_id)
        if then is None or then.node.record.machine_key != now.node.record.machine_key:
            continue
        if then.node.record.wireguard_key != now.node.record.wireguard_key:
            found[then.node.record.wireguard_key] = now.node.record.wireguard_key
    return found


# --- what is wanted -------------------------------------------------------------------------------


def tunnelled_ranges(clipped: ClippedMap) -> tuple[Prefix, ...]:
    """What is routed to peers outside of the granted ranges: places behind gateways."""
    ranges = clipped.grant.ranges
    return tuple(
        prefix
        for peer in clipped.peers.values()
        for prefix in peer.allowed_ips
        if not any(is_inside(prefix, granted) for granted in ranges)
    )


def wanted_setting(
    network: Network, clipped: ClippedMap, own: tuple[Prefix, ...], choices: LocalChoices
) -> Setting:
    """What a clipped map asks for. `own` are this node's addresses, /32 and /128, granted ones alone.

    Routes are the granted ranges, and what a peer has outside of them by a local choice; a default route
    is none of them: it takes policy routing (exit_node.py).
    """
    peers = {
        peer.node.record.wireguard_key: PeerSetting(frozenset(peer.allowed_ips), network.keepalive)
        for peer in clipped.peers.values()
    }
    routes = frozenset[Prefix]()
    if choices.routes:
        outside = (prefix for prefix in tunnelled_ranges(clipped) if not is_default(prefix))
        routes = frozenset((*clipped.grant.ranges, *outside))
    addresses = tuple(prefix.network_address for prefix in own if clipped.grant.covers(prefix))
    return Setting(network.mtu, addresses, routes, peers)
