"""The path machine on a device: what the interface tells goes in, what it decides is carried out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

import trio

from wgpy.addresses import Endpoint, Prefix
from wgpy.agent.host_link import HostLink
from wgpy.agent.relays import Relays
from wgpy.clock import boottime, sleep_until
from wgpy.device import Device
from wgpy.keys import PublicKey
from wgpy.mesh.encoding import MAX_ENDPOINTS
from wgpy.mesh.frames import Presence, PresenceFrame
from wgpy.mesh.paths import (
    Action,
    Initiate,
    PathMachine,
    PathReport,
    Rediscover,
    SendControl,
    SendCopy,
    SetPathMtu,
    UsePath,
    kind_of,
)
from wgpy.mesh.probe import ID_SIZE
from wgpy.mesh.relay import relay_number
from wgpy.protocol.actions import Control, Origin
from wgpy.protocol.peer import Peer
from wgpy.protocol.timers import Timer

logger = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 0.5
"""Seconds between looks at whether data is answered."""
_UNKNOWN: Final = Presence((), False)


class Paths:
    """Controls the paths to the nodes of the map; peers that somebody added with `wg set` keep the kernel's
    rule. `rediscover` is called when our own endpoints may have changed.
    """

    def __init__(
        self, device: Device, link: HostLink, relays: Relays, rediscover: Callable[[], None]
    ) -> None:
        self._device = device
        self._relays = relays
        self._link = link
        self._rediscover = rediscover
        self._machine = PathMachine(lambda: os.urandom(ID_SIZE), lambda to: not self._is_tunnelled(to))
        self._keys: dict[str, PublicKey] = {}
        self._nodes: dict[int, str] = {}
        self._presence: dict[str, Presence] = {}
        self._unanswered: set[str] = set()
        self._quiet: frozenset[str] = frozenset()
        self._tunnelled: list[Prefix] = []
        self._is_performing = False
        self._wake = trio.Event()
        device.on_control = self._handle_control

    # --- who there is -------------------------------------------------------------------------------------

    def handle_memory(self, seen: Mapping[str, tuple[Endpoint, ...]]) -> None:
        """Where peers were in an earlier life: good enough until somebody knows better."""
        for node_id, endpoints in seen.items():
            self._presence.setdefault(node_id, Presence(endpoints, True))

    def handle_presence(self, frame: PresenceFrame) -> None:
        if frame.complete:
            for node_id, presence in self._presence.items():
                if node_id not in frame.nodes:
                    self._presence[node_id] = Presence(presence.endpoints, False)
        self._presence.update(frame.nodes)
        changed = self._keys if frame.complete else frame.nodes
        self._tell_candidates([node_id for node_id in changed if node_id in self._keys])

    def sync(self, keys: Mapping[str, PublicKey], tunnelled: Sequence[Prefix] = ()) -> None:
        """These nodes are peers of the interface now, each with its key. What lies in `tunnelled`, the ranges
        behind gateways, is reached through the tunnel itself and so is no way for a tunnel.
        """
        self._tunnelled = [prefix for prefix in tunnelled if prefix.prefixlen]
        now, interface = boottime(), self._device.interface
        self._keys = {node_id: key for node_id, key in keys.items() if key in interface.peers}
        self._nodes = {}
        for node_id, key in self._keys.items():
            peer = interface.peers[key]
            self._nodes[peer.id] = node_id
            if peer.path_control is not self:
                interface.set_path_control(peer, self, now)
                self._machine.forget(node_id)
                self._machine.set_quiet(node_id, node_id in self._quiet, now)
        self._machine.keep_only(self._keys)
        self._presence = {id_: presence for id_, presence in self._presence.items() if id_ in keys}
        self._tell_candidates(list(self._keys))

    def _tell_candidates(self, node_ids: list[str]) -> None:
        now = boottime()
        for node_id in node_ids:
            presence = self._presence.get(node_id)
            relayed, leaving = self._relays.endpoints(node_id), self._relays.leaving(node_id)
            if presence is None and not relayed:
                continue
            # Relays first, for they carry packets at once. Nobody can tell us to send behind one of ours.
            said = [] if presence is None else presence.endpoints
            direct = [each for each in said if relay_number(each) is None and not self._is_tunnelled(each)]
            told = [(endpoint, kind_of(endpoint)) for endpoint in (*relayed, *leaving, *direct)]
            is_offline = presence is not None and not presence.online
            self._machine.set_candidates(node_id, told, now, is_offline=is_offline, leaving=leaving)
        self._perform()

    def relays_changed(self) -> None:
        """Other relays can be used than before."""
        self._tell_candidates(list(self._keys))

    def _is_tunnelled(self, endpoint: Endpoint) -> bool:
        """Whether it lies in a range that we route to a gateway: no way for a tunnel."""
        address = endpoint.address
        return any(address.version == prefix.version and address in prefix for prefix in self._tunnelled)

    def presence(self, node_id: str) -> Presence | None:
        """What the coordinator last said, None: nothing yet."""
        return self._presence.get(node_id)

    def memory(self, node_id: str) -> tuple[Endpoint, ...]:
        """What to remember of a peer: the path that it proved, then what was said of it."""
        proven = self._machine.proven(node_id)
        if proven is not None and relay_number(proven) is not None:
            proven = None
        said = self._presence.get(node_id, _UNKNOWN).endpoints
        return tuple(dict.fromkeys((*([] if proven is None else [proven]), *said)))[:MAX_ENDPOINTS]

    def report(self, node_id: str) -> PathReport | None:
        return self._machine.report(node_id, boottime())

    def set_quiet(self, node_ids: Set[str]) -> None:
        """These are left in peace until there is data for them; all others are not."""
        now = boottime()
        for node_id in self._quiet ^ node_ids:
            self._machine.set_quiet(node_id, node_id in node_ids, now)
        self._quiet = frozenset(node_ids)
        self._perform()

    def set_own(self, endpoints: Sequence[Endpoint], seen_by: Mapping[int, Endpoint]) -> None:
        """Where we may be found, and where each relay sees us: peers are told inside their tunnels, while a
        relay carries those.
        """
        self._machine.set_own(endpoints, boottime(), seen_by)
        self._perform()

    def network_changed(self) -> None:
        """Our own addresses or routes are others."""
        self._machine.network_changed(boottime())
        self._perform()

    # --- PathControl --------------------------------------------------------------------------------------

    def initiation_sent(self, peer: Peer, data: bytes, now: float) -> None:
        if (node_id := self._nodes.get(peer.id)) is not None:
            current = self._device.engine.facts(peer.id).current
            if current is None or not current.may_send:
                # Not a rekey in good time: after a night's sleep nothing of what was proven may hold.
                self._machine.observe(node_id, 0.0, False, now)
            self._machine.initiation_sent(node_id, data, now)
            self._perform()

    def session_begun(self, peer: Peer, now: float) -> None:
        if (node_id := self._nodes.get(peer.id)) is not None:
            self._machine.session_begun(node_id, now)
            self._perform()

    def heard_from(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        if (node_id := self._nodes.get(peer.id)) is not None:
            self._machine.heard_from(node_id, endpoint, now)
            self._perform()

    def _handle_control(self, control: Control) -> None:
        if (node_id := self._nodes.get(control.peer)) is not None:
            self._machine.handle_control(node_id, control.path.remote, control.data, boottime())
            self._perform()

    # --- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._look()
            self._machine.handle_timeout(boottime())
            self._perform()
            until = boottime() + LOOK_INTERVAL
            if (deadline := self._machine.next_deadline()) is not None:
                until = min(until, deadline)
            self._wake = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_wake, nursery.cancel_scope)
                await sleep_until(until)
                nursery.cancel_scope.cancel()

    async def _wait_wake(self, scope: trio.CancelScope) -> None:
        await self._wake.wait()
        scope.cancel()

    def _look(self) -> None:
        """Only peers with data under way are asked of the engine: a look at the others costs nothing."""
        now, interface, engine = boottime(), self._device.interface, self._device.engine
        self._machine.set_mtu(self._device.mtu, now)
        for node_id, key in self._keys.items():
            peer = interface.peers.get(key)
            if peer is None:
                continue
            is_waiting = peer.timers.deadline(Timer.NEW_HANDSHAKE) is not None
            is_known = node_id in self._quiet or self._machine.has_session(node_id)
            if not is_waiting and node_id not in self._unanswered and is_known:
                continue
            facts = engine.facts(peer.id)
            sent = facts.data_sent_first
            self._machine.observe(
                node_id, 0.0 if sent is None else now - sent, facts.current is not None, now
            )
            if is_waiting and sent is not None:
                self._unanswered.add(node_id)
            else:
                self._unanswered.discard(node_id)

    def _perform(self) -> None:
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._machine.actions:
                actions, self._machine.actions = self._machine.actions, []
                for action in actions:
                    self._do(action)
        finally:
            self._is_performing = False
        self._wake.set()

    def _do(self, action: Action) -> None:
        if isinstance(action, Rediscover):
            self._rediscover()
            return
        key = self._keys.get(action.peer)
        peer = None if key is None else self._device.interface.peers.get(key)
        if key is None or peer is None:
            return
        engine = self._device.engine
        match action:
            case SendControl(_, to, data):
                engine.send_control(peer.id, Origin(to), data)
            case SendCopy(_, to, data):
                engine.send_datagram(data, to)
            case UsePath(node_id, endpoint, also):
                report = self._machine.report(node_id, boottime())
                logger.info(
                    "%s: path %s%s: %s",
                    node_id[:8],
                    endpoint,
                    f" and {', '.join(map(str, also))}" if also else "",
                    "" if report is None else report.reason,
                )
                self._link.use_path(key, endpoint, also)
            case SetPathMtu(node_id, mtu):
                logger.info("%s: path MTU %s", node_id[:8], self._device.mtu if mtu is None else mtu)
                engine.set_path_mtu(peer.id, mtu)
            case Initiate():
                self._link.initiate(key)
