"""Routing netlink: links, addresses, routes and rules, made and watched without a program or a library.

`Netlink` asks and changes, `Monitor` tells of changes (it alone needs trio, and is imported from
`wgpy.netlink.monitor`). The request makers of `link`, `address`, `route` and `rule` are for batches:

    with Netlink() as netlink:
        index = netlink.link("wg0").index
        netlink.apply(add_route(Route(prefix, index)) for prefix in prefixes)
"""

from __future__ import annotations

from wgpy.netlink.address import Address, add_address, delete_address
from wgpy.netlink.codec import Request
from wgpy.netlink.connection import Netlink, NetlinkError
from wgpy.netlink.link import Link, delete_link, set_link
from wgpy.netlink.route import RT_TABLE_MAIN, Route, add_route, delete_route, replace_route
from wgpy.netlink.rule import Rule, add_rule, delete_rule

__all__ = [
    "RT_TABLE_MAIN",
    "Address",
    "Link",
    "Netlink",
    "NetlinkError",
    "Request",
    "Route",
    "Rule",
    "add_address",
    "add_route",
    "add_rule",
    "delete_address",
    "delete_link",
    "delete_route",
    "delete_rule",
    "replace_route",
    "set_link",
]
