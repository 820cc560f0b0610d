"""Which gateway of a range is used: the elected one, or another within three seconds of its silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from wgpy.addresses import Prefix
from wgpy.agent.paths import Paths
from wgpy.clock import boottime
from wgpy.device import Device
from wgpy.mesh.gateways import GatewayChoice
from wgpy.mesh.netmap import Map, Node

LOOK_INTERVAL: Final = 0.25
"""Seconds between looks at whether the gateways of a range that has several answer."""
SILENCE: Final = 2.0
"""Seconds without an answer, also to the pings of the path machine, after which a gateway is dead."""


class Gateways:
    """`netmap` gives the map that counts; `changed` is called when another gateway is to be used."""

    def __init__(
        self, device: Device, paths: Paths, netmap: Callable[[], Map], changed: Callable[[], None]
    ) -> None:
        self._device = device
        self._paths = paths
        self._netmap = netmap
        self._changed = changed
        self._choice = GatewayChoice()

    def choose(self) -> dict[Prefix, str]:
        """Each range behind a gateway, with the id of the one to use."""
        return self._choice.choose(self._netmap(), self._is_dead, boottime())

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await trio.sleep(LOOK_INTERVAL)
            if self._choice.contested(self._netmap()):
                before = self._choice.chosen
                if self.choose() != before:
                    self._changed()

    def _is_dead(self, node_id: str) -> bool:
        """Whether it does not answer, or the coordinator misses it and we have no session either."""
        node = self._netmap().peers.get(node_id)
        if not isinstance(node, Node):
            return False
        peer = self._device.interface.peers.get(node.record.wireguard_key)
        if peer is None:
            return False
        facts = self._device.engine.facts(peer.id)
        if facts.data_sent_first is not None and boottime() - facts.data_sent_first >= SILENCE:
            return True
        presence = self._paths.presence(node_id)
        return facts.current is None and presence is not None and not presence.online
