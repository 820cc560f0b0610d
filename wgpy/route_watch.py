"""Watching routes: a peer that is reached another way now must not be answered from the old source address.

The kernel's WireGuard asks at each packet whether the route still leaves by the interface the source was
learned on. Here the source of a peer is forgotten when a route that covers its endpoint comes or goes, or a
rule; and when the interface it was learned on goes down, which takes IPv4 routes along in silence and leaves
the address one that may be sent from.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from wgpy.addresses import IPAddress, Prefix
from wgpy.netlink import Netlink, NetlinkError
from wgpy.netlink.monitor import Change, LinkChanged, Monitor, Overrun, RouteChanged, RuleChanged, Watch
from wgpy.protocol.actions import Engine

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between looks at what changed: a router's routes may never rest."""


async def watch_routes(engine: Engine, own_interface: str) -> None:
    """Never returns. Routes into the tunnel itself are no way to an endpoint."""
    try:
        monitor = Monitor(Watch.ROUTE | Watch.RULE | Watch.LINK)
    except NetlinkError as error:
        logger.debug("routes are not watched: %s", error)
        await trio.sleep_forever()
    with monitor, Netlink() as netlink:
        while True:
            changes = await monitor.wait_changes()
            own = netlink.find_link(own_interface)
            forget_sources(engine, changes, 0 if own is None else own.index)
            await trio.sleep(INTERVAL)


def forget_sources(engine: Engine, changes: list[Change], own_index: int) -> None:
    """Forget the source of each peer whose endpoint one of the changed routes covers, or that was heard at a
    link which went down; of all peers when rules changed.
    """
    if any(isinstance(change, Overrun | RuleChanged) for change in changes):
        engine.forget_source(None)
        return
    for index in {
        each.link.index for each in changes if isinstance(each, LinkChanged) and not each.link.is_up
    }:
        engine.forget_sources_at(index)
    prefixes = {
        change.route.prefix
        for change in changes
        if isinstance(change, RouteChanged) and (not own_index or change.route.interface != own_index)
    }
    if not prefixes:
        return
    for peer in engine.snapshot():
        if peer.endpoint is not None and any(_covers(prefix, peer.endpoint.address) for prefix in prefixes):
            engine.forget_source(peer.peer)


def _covers(prefix: Prefix, address: IPAddress) -> bool:
    return address.version == prefix.version and address in prefix
