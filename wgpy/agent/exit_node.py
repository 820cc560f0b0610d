"""The host's side of leaving by an exit node: policy routing, and a kill switch that outlives us. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import IPAddress, Prefix
from wgpy.agent.client_filter import clients_interface
from wgpy.host.nft import Chain, NftSet, NftTable, table_name
from wgpy.host.policy import Policy
from wgpy.host.setting import HostSetting
from wgpy.netlink.route import Route

PRIORITY: Final = 5210
"""Of our rule: before whatever others make the main table's exceptions of."""
_EXITS: Final = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class OwnLink:
    """Our interface: its name, its index, its addresses."""

    name: str
    index: int
    addresses: tuple[IPAddress, ...]


def lock_name(interface: str) -> str:
    """What the kill switch's table is called."""
    return f"{table_name(interface)}-lock"


def exit_setting(
    link: OwnLink,
    mark: int,
    *,
    keeps_lan: bool,
    kill_switch: bool,
    connected: Sequence[Prefix],
    keeps_names: bool = False,
) -> HostSetting:
    """All that is not marked leaves by our interface, of both families whatever the exit node forwards: what
    it does not is lost, not leaked. `keeps_names`: nobody asks a name server but by it, in the LAN or not.
    """
    policy = Policy(mark, (4, 6), PRIORITY, keeps_lan=keeps_lan)
    chains = policy.chains(link.name, link.addresses)
    if keeps_names:
        chains += _name_guards(link.name, mark)
    tables = {table_name(link.name): NftTable(table_name(link.name), chains)}
    if kill_switch:
        lock = _lock(link.name, mark, connected if keeps_lan else ())
        tables[lock.name] = lock
    routes = frozenset(Route(prefix, link.index, mark) for prefix in _EXITS.values())
    return HostSetting(policy.sysctls(), tables, routes, policy.rules())


def _name_guards(interface: str, mark: int) -> tuple[Chain, ...]:
    """Programs, and resolvers that keep a link's servers to that link, ask whom they like: not past us."""
    refuse = "meta l4proto { tcp, udp } th dport { 53, 853 } reject with icmpx admin-prohibited"
    ours = f'{{ "lo", "{interface}", "{clients_interface(interface)}" }}'
    output = (f"oifname {ours} accept", f"meta mark {mark:#010x} accept", refuse)
    forward = (f"iifname {ours} accept", f"oifname {ours} accept", refuse)
    return (
        Chain("nameoutput", "filter hook output priority filter - 4; policy accept;", output),
        Chain("nameforward", "filter hook forward priority filter - 4; policy accept;", forward),
    )


def _lock(interface: str, mark: int, connected: Iterable[Prefix]) -> NftTable:
    """Nothing leaves but by the tunnel, with our mark, on loopback, to the LAN, or to keep the link's own
    address (DHCP, neighbour discovery).
    """
    found = list(connected)
    sets = []
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        mine = [prefix for prefix in found if prefix.version == version]
        collapsed = ipaddress.collapse_addresses(mine) if mine else ()  # type: ignore[type-var]
        sets.append(NftSet(f"lan{version}", kind, frozenset(map(str, collapsed))))
    rest = (
        "ip daddr @lan4 accept",
        "ip6 daddr @lan6 accept",
        "reject with icmpx admin-prohibited",
    )
    output = (
        f'oifname {{ "lo", "{interface}" }} accept',
        f"meta mark {mark:#010x} accept",
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
        *rest,
    )
    forward = (f'oifname "{interface}" accept', f'iifname "{interface}" accept', *rest)
    return NftTable(
        lock_name(interface),
        (
            Chain("output", "filter hook output priority filter - 5; policy accept;", output),
            Chain("forward", "filter hook forward priority filter - 6; policy accept;", forward),
        ),
        tuple(sets),
        survives=True,
    )
