"""A gateway's part of the host: which ranges it can forward, and the forwarding, filtering and masquerading
that this takes. Pure.

The filter is on where a packet was *sent* (`ct original`), so that a virtual range, or a cluster's service
that the host maps to a pod, is judged by the address that the sender used. What is not in a range, or does
not come from the network, is dropped, whatever a member's own allowed IPs say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wgpy.addresses import Prefix
from wgpy.agent.advertise import Advertise
from wgpy.host.neighbours import ForwardGuard
from wgpy.host.nft import Chain, NftSet, NftTable, prefix_set, table_name
from wgpy.host.setting import GuestRule, HostSetting
from wgpy.mesh.forward import Forward, is_default

_FORWARD_HOOK: Final = "filter hook forward priority filter - 5; policy accept;"
_DNAT_HOOK: Final = "nat hook prerouting priority dstnat - 5; policy accept;"
_SNAT_HOOK: Final = "nat hook postrouting priority srcnat - 5; policy accept;"
_CLAMP: Final = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found on the host. `ways` are the interfaces by which each target leaves, that of its first
    address first; none: there is no way.

    `links` are the names of all interfaces; `connected` what they reach directly; `by_advertisement` those
    that live by router advertisements; `force_forwarding`: this kernel forwards IPv6 per interface.
    """

    ways: Mapping[Prefix, tuple[str, ...]] = field(default_factory=dict)
    links: frozenset[str] = frozenset()
    connected: tuple[Prefix, ...] = ()
    by_advertisement: tuple[str, ...] = ()
    force_forwarding: bool = True
    guards: tuple[ForwardGuard, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """`forwards` are those that this host takes up, each with the interfaces it leaves by; `problems` why it
    does not take up the others, by target.
    """

    forwards: tuple[tuple[Forward, tuple[str, ...]], ...] = ()
    problems: tuple[tuple[Prefix, str], ...] = ()
    clients: tuple[Prefix, ...] = ()
    """Where the external clients are that come in here (client_filter.py)."""

    @property
    def ranges(self) -> tuple[Prefix, ...]:
        """What its record names."""
        return (*(forward.range for forward, _ in self.forwards), *self.clients)


def plan_gateway(
    given: Iterable[Forward], agreed: Advertise, facts: HostFacts, interface: str
) -> GatewayPlan:
    """What of the ranges that the admin gave this host it forwards. `interface` is our own."""
    taken, problems = [], []
    for forward in given:
        target = forward.target
        reason = None
        ways = facts.ways.get(target, ())
        if not agreed.agrees(target):
            word = "exit" if is_default(target) else str(target)
            reason = f"this host has not agreed: wgpy set --advertise {word}"
        elif forward.interface and forward.interface not in facts.links:
            reason = f"there is no interface {forward.interface} on this host"
        elif not ways:
            reason = f"this host has no {'IPv6 ' if target.version == 6 else ''}route to {target}"
        elif forward.interface and forward.interface not in ways:
            reason = f"this host reaches it by {', '.join(ways)}, not by {forward.interface}"
        elif interface in ways:
            reason = "this host reaches it through the mesh itself"
        if reason is None:
            taken.append((forward, (forward.interface,) if forward.interface else ways))
        else:
            problems.append((target, reason))
    return GatewayPlan(tuple(taken), tuple(problems))


def gateway_setting(
    plan: GatewayPlan, network: Sequence[Prefix], facts: HostFacts, interface: str, tag: str | None
) -> HostSetting:
    """What it takes on the host, for the network's ranges. `tag` None: other people's chains are not to be
    touched, else how our rule in them is marked.
    """
    if not plan.forwards:
        return HostSetting()
    outs = sorted({way for _, ways in plan.forwards for way in ways})
    table = _table(plan, network, facts, interface)
    guests: frozenset[GuestRule] = frozenset()
    if tag is not None:
        guests = frozenset(guard.opening(interface, outs, tag) for guard in facts.guards)
    sysctls = forwarding_sysctls(
        {forward.range.version for forward, _ in plan.forwards}, [interface, *outs], facts
    )
    return HostSetting(sysctls, {table.name: table}, guests=guests)


def forwarding_sysctls(versions: set[int], interfaces: Iterable[str], facts: HostFacts) -> dict[str, str]:
    """What makes the host forward between these interfaces."""
    found = {}
    for name in interfaces:
        if 4 in versions:
            found[f"net/ipv4/conf/{name}/forwarding"] = "1"
        if 6 in versions and facts.force_forwarding:
            found[f"net/ipv6/conf/{name}/force_forwarding"] = "1"
    if 6 in versions and not facts.force_forwarding:
        # This kernel forwards everywhere or nowhere, and where it does it takes no router advertisements.
        found["net/ipv6/conf/all/forwarding"] = "1"
        for name in facts.by_advertisement:
            found[f"net/ipv6/conf/{name}/accept_ra"] = "2"
    return found


def _table(plan: GatewayPlan, network: Sequence[Prefix], facts: HostFacts, interface: str) -> NftTable:
    forwards = [forward for forward, _ in plan.forwards if not is_default(forward.range)]
    exits = {forward.range.version for forward, _ in plan.forwards if is_default(forward.range)}
    sets: list[NftSet] = []
    forward_rules = [f'oifname "{interface}" {_CLAMP}']
    dnat: list[str] = []
    snat: list[str] = []
    out = f'oifname "{interface}"'
    into = f'iifname "{interface}"'
    inner = f'iifname {{ "{interface}", "{interface[:12]}-in" }}'  # external clients, too
    for version, family, kind in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")):
        mine = [forward for forward in forwards if forward.range.version == version]
        sets += [
            prefix_set(f"mesh{version}", kind, (p for p in network if p.version == version)),
            prefix_set(f"ranges{version}", kind, (f.range for f in mine)),
            prefix_set(f"masked{version}", kind, (f.range for f in mine if f.nat)),
            prefix_set(f"open{version}", kind, (f.target for f in mine if not f.nat)),
            prefix_set(f"own{version}", kind, (p for p in facts.connected if p.version == version)),
            _pairs(f"real{version}", kind, ((f.range, f.target) for f in mine if f.is_virtual)),
            _pairs(f"virtual{version}", kind, ((f.target, f.range) for f in mine if f.is_virtual)),
        ]
        from_mesh = f"ct original {family} saddr @mesh{version}"
        asked = f"ct original {family} daddr"
        forward_rules.append(f"{into} {from_mesh} {asked} @ranges{version} accept")
        if version in exits:
            # The internet, and not the networks that this host happens to stand in.
            forward_rules.append(f"{into} {from_mesh} {asked} != @own{version} accept")
            snat.append(f'oifname != "{interface}" {from_mesh} {asked} != @own{version} masquerade')
        forward_rules.append(f"{out} {family} saddr @open{version} {family} daddr @mesh{version} accept")
        dnat.append(f"{inner} dnat {family} prefix to {family} daddr map @real{version}")
        snat.append(f"{out} snat {family} prefix to {family} saddr map @virtual{version}")
        snat.append(f'oifname != "{interface}" {from_mesh} {asked} @masked{version} masquerade')
    established = "ct state established,related accept"
    forward_rules += [f"{into} {established}", f"{out} {established}", f"{into} drop", f"{out} drop"]
    chains = (
        Chain("forward", _FORWARD_HOOK, tuple(forward_rules)),
        Chain("prerouting", _DNAT_HOOK, tuple(dnat)),
        Chain("postrouting", _SNAT_HOOK, tuple(snat)),
    )
    return NftTable(table_name(interface), chains, tuple(sets))


def _pairs(name: str, kind: str, pairs: Iterable[tuple[Prefix, Prefix]]) -> NftSet:
    elements = frozenset(f"{key} : {value}" for key, value in pairs)
    return NftSet(name, f"{kind} : interval {kind}", elements, is_map=True)
