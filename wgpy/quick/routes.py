"""Routes for allowed IPs: in the main table, in one of the file's choice, or by policy for a default route.

wg-quick(8) does the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from wgpy.addresses import is_inside
from wgpy.config import TunnelConfig
from wgpy.host.policy import Policy, free_priority, free_table
from wgpy.netlink import RT_TABLE_MAIN, Netlink, Route, add_route


def choose_policy(config: TunnelConfig, netlink: Netlink) -> Policy | None:
    """None: the file has no default route, or a table for it."""
    versions = sorted({p.version for peer in config.peers for p in peer.allowed_ips if p.prefixlen == 0})
    if config.table != "auto" or not versions:
        return None
    every = [route for version in (4, 6) for route in netlink.routes(version)]
    rules = [rule for version in (4, 6) for rule in netlink.rules(version)]
    return Policy(config.fwmark or free_table(every), versions, free_priority(rules))


def routes_for(
    config: TunnelConfig, policy: Policy | None, interface: int, present: Iterable[Route]
) -> list[Route]:
    """The routes that the file asks for, most specific first.

    `present` are those of the interface that are there: what its addresses already reach needs no route.
    """
    if config.table == "off":
        return []
    wanted = sorted(
        {prefix for peer in config.peers for prefix in peer.allowed_ips},
        key=lambda prefix: (-prefix.prefixlen, prefix.version, prefix.network_address.packed),
    )
    if config.table != "auto":
        return [Route(prefix, interface, config.table) for prefix in wanted]
    reached = [route.prefix for route in present]
    return [
        Route(
            prefix, interface, policy.table if policy is not None and not prefix.prefixlen else RT_TABLE_MAIN
        )
        for prefix in wanted
        if not any(is_inside(prefix, larger) for larger in reached)
    ]


def add_routes(config: TunnelConfig, policy: Policy | None, interface: int, netlink: Netlink) -> None:
    """They go when the interface goes. Raises NetlinkError."""
    present = [
        route
        for version in (4, 6)
        for route in netlink.routes(version, table=RT_TABLE_MAIN, interface=interface)
    ]
    netlink.apply(map(add_route, routes_for(config, policy, interface, present)))
