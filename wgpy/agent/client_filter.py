"""What external clients may do at their gateway: a table of nftables for the interface they come in by. Pure.

A connection passes when its two ends are in `reach`: the client, and what it may reach. It is the table that
says so, not the client's own AllowedIPs; and it holds for whoever began the connection: a client that reaches
one node alone is reached by that one alone. Between two clients both have to be allowed.

Who may use the internet leaves by the host's default route, under the host's own address, to what is neither
the network's nor in a network that the host stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from wgpy.addresses import Prefix, collapsed
from wgpy.agent.gateway import GatewayPlan, HostFacts, forwarding_sysctls
from wgpy.host.nft import Chain, NftSet, NftTable, prefix_set, table_name
from wgpy.host.setting import HostSetting

_FORWARD_HOOK: Final = "filter hook forward priority filter - 5; policy accept;"
_SNAT_HOOK: Final = "nat hook postrouting priority srcnat - 5; policy accept;"
_INPUT_HOOK: Final = "filter hook input priority filter - 5; policy accept;"
_CLAMP: Final = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"


def clients_interface(interface: str) -> str:
    """By which external clients come in, beside the mesh's own."""
    return f"{interface[:12]}-in"


@dataclass(frozen=True, slots=True)
class ClientPart:
    """A gateway's part for clients. `addresses` are the group's own here; `reach` is where each client's
    address may go; those in `online` may use the internet, of which `inside`, all that this node reaches of
    the network, is no part. `outward`: the interfaces by which they leave for it, by IP version; none: not at
    all. `problem`: why nobody can come in, in a sentence.
    """

    interface: str
    addresses: tuple[Prefix, ...] = ()
    reach: Mapping[Prefix, tuple[Prefix, ...]] = field(default_factory=dict)
    online: frozenset[Prefix] = frozenset()
    inside: tuple[Prefix, ...] = ()
    outward: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    problem: str = ""


def client_setting(
    part: ClientPart, plan: GatewayPlan, facts: HostFacts, interface: str, tag: str | None
) -> HostSetting:
    """What it takes on the host. `interface` is the mesh's; `tag` as for `gateway_setting`."""
    ways = [*(ways for _, ways in plan.forwards), *part.outward.values()]
    outs = sorted({interface, *chain.from_iterable(ways)})
    versions: set[int] = {address.version for address in part.addresses}
    table = _table(part, plan, facts, interface)
    guests = frozenset(
        guard.opening(part.interface, outs, f"{tag} clients") for guard in facts.guards if tag is not None
    )
    sysctls = forwarding_sysctls(versions, [part.interface, *outs], facts)
    return HostSetting(sysctls, {table.name: table}, guests=guests)


def _table(part: ClientPart, plan: GatewayPlan, facts: HostFacts, interface: str) -> NftTable:
    into, out = f'iifname "{part.interface}"', f'oifname "{part.interface}"'
    tunnels = f'{{ "{interface}", "{part.interface}" }}'
    sets: list[NftSet] = []
    among, pass_, local, enter = [], [], [], [f"{into} ct state established,related accept"]
    outward, masked = [], []
    for version, family, kind in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")):
        sets += [
            NftSet(f"reach{version}", f"{kind} . {kind}", _pairs(part.reach, version)),
            prefix_set(
                f"local{version}", kind, (f.range for f, _ in plan.forwards if f.range.version == version)
            ),
            prefix_set(f"own{version}", kind, (p for p in part.addresses if p.version == version)),
        ]
        forth = f"ct original {family} saddr . ct original {family} daddr @reach{version}"
        back = f"ct original {family} daddr . ct original {family} saddr @reach{version}"
        among.append(f"{into} {out} {forth} {back} accept")
        if ways := part.outward.get(version):
            near = (p for p in (*part.inside, *facts.connected) if p.version == version)
            online = (p for p in part.online if p.version == version)
            sets += [
                prefix_set(f"online{version}", kind, online),
                prefix_set(f"near{version}", kind, near),
            ]
            leaves = (
                f"ct original {family} saddr @online{version} ct original {family} daddr != @near{version}"
            )
            names = ", ".join(f'"{way}"' for way in ways)
            outward += [
                f"{into} oifname {{ {names} }} ct direction original {leaves} accept",
                f"{out} iifname {{ {names} }} ct direction reply {leaves} accept",
            ]
            masked.append(f"oifname != {tunnels} {leaves} masquerade")
        # Past the mesh only to what this host forwards, whatever else it could reach.
        local.append(
            f"{into} oifname != {tunnels} ct original {family} daddr != @local{version} "
            f"ct direction original drop"
        )
        pass_ += [f"{into} {forth} accept", f"{into} {back} accept"]
        pass_ += [f"{out} {forth} accept", f"{out} {back} accept"]
        enter += [
            f"{into} {family} saddr . {family} daddr @reach{version} accept",
            f"{into} {family} daddr @own{version} meta l4proto {{ tcp, udp }} th dport 53 accept",
            f"{into} {family} daddr @own{version} meta l4proto {{ icmp, icmpv6 }} accept",
        ]
    # `among` ends with a drop: what is between two clients is no case for the rules after it.
    forward = [
        f"oifname {tunnels} {_CLAMP}", *among, f"{into} {out} drop", *outward, *local, *pass_,
        f"{into} drop", f"{out} drop",
    ]  # fmt: skip
    chains = (
        Chain("forward", _FORWARD_HOOK, tuple(forward)),
        Chain("input", _INPUT_HOOK, (*enter, f"{into} drop")),
        *([Chain("postrouting", _SNAT_HOOK, tuple(masked))] if masked else []),
    )
    return NftTable(table_name(part.interface), chains, tuple(sets))


def _pairs(reach: Mapping[Prefix, tuple[Prefix, ...]], version: int) -> frozenset[str]:
    """Intervals of a set must not overlap: of one client's ranges none lies in another."""
    return frozenset(
        f"{client.network_address} . {range_}"
        for client, ranges in reach.items()
        if client.version == version
        for range_ in collapsed(p for p in ranges if p.version == version)
    )
