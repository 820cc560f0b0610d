"""Electing another gateway for a range when the one that was is gone."""

from __future__ import annotations

import logging

from coordinator.feed import NetworkView
from coordinator.gateways import has_to_elect
from coordinator.presence import PresenceLane
from coordinator.store.forwards import settle_elections
from coordinator.store.store import Store

logger = logging.getLogger(__name__)


async def settle(store: Store, network_id: str, view: NetworkView, lane: PresenceLane, *, now: float) -> None:
    """Elect if there is a need. Of several processes that find one, the first one's word stands."""
    gateways = view.gateways
    if not has_to_elect(gateways, lambda node_id: lane.presence_of(node_id).online):
        return
    online = {node_id: lane.presence_of(node_id).online for node_id in gateways}
    try:
        await store.write(settle_elections, network_id, online, now)
    except Exception:  # the next poll tries again
        logger.exception("network %s: cannot elect its gateways", network_id[:8])
