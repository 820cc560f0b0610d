"""Electing another gateway for a range when the one that was is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coordinator.gateways import has_to_elect
from coordinator.store import forwards
from coordinator.store.store import Store

if TYPE_CHECKING:
    from coordinator.hub import Channel

logger = logging.getLogger(__name__)


async def settle_elections(store: Store, channels: Iterable[Channel], now: float) -> None:
    """Elect where there is a need. Of several processes that find one, the first one's word stands."""
    for channel in channels:
        gateways, lane = channel.view.gateways, channel.lane
        online = {node_id: lane.presence_of(node_id).online for node_id in gateways}
        if has_to_elect(gateways, online.__getitem__):
            try:
                await store.write(forwards.settle_elections, channel.network_id, online, now)
            except Exception:  # the next poll tries again
                logger.exception("network %s: cannot elect its gateways", channel.network_id[:8])
