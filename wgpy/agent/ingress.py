"""External clients on a gateway: a WireGuard interface of their own under the key of the ingress group.

What may come in is the coordinator's to say, and what that may reach the filter's (client_filter.py). The
clients are stock WireGuard: they roam as the kernel's peers do, and are never probed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import time
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from wgpy.addresses import Prefix, is_inside
from wgpy.agent.client import CoordinatorClient, Credentials
from wgpy.agent.client_filter import ClientPart, clients_interface
from wgpy.agent.dns.responder import Responder, Servers
from wgpy.agent.dns.zone import Zone
from wgpy.agent.host_part import HostPart
from wgpy.agent.ingress_state import IngressState
from wgpy.agent.state_file import State
from wgpy.clock import boottime, wall_clock_ns
from wgpy.device import Device, open_device
from wgpy.errors import WgpyError
from wgpy.host.kernel import has_nft
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.consent import ClippedMap
from wgpy.mesh.forward import is_default
from wgpy.mesh.ingress import MAX_SIGHTINGS, Client, Group, KeyHandover, Mark, Sighting, read_mark
from wgpy.mesh.netmap import Map, Node
from wgpy.mesh.sealing import seal, unseal_untrusted
from wgpy.netlink import Netlink, NetlinkError, Route

logger = logging.getLogger(__name__)

TICK: Final = 1.0
"""Seconds between looks at the clients: whose time is over, who has connected."""
RETRY_INTERVAL: Final = 5.0
"""Seconds until the coordinator is asked again, or a device tried again."""
REPORT_INTERVAL: Final = 10.0
"""Seconds between two reports on clients, at least; of one that has just connected the first is at once."""
SESSION_TIME: Final = 180.0
"""Seconds after its last handshake for which a client counts as connected here."""


class Owner(Protocol):
    """The agent, as far as this needs it."""

    state: State

    def keep(self, **changes: object) -> None: ...

    def ingress_changed(self, *, report: bool) -> None:
        """The host is to be brought about again; with `report`, there is something to tell of clients."""


class Ingress:
    """`run` until cancelled; `sync` whenever the map or a choice has changed."""

    def __init__(
        self, interface: str, owner: Owner, client: CoordinatorClient, who: Credentials, host: HostPart
    ) -> None:
        self.problem = ""
        self.zone = Zone(("invalid",))
        """What is answered to clients; put another one here at any time."""
        self.upstreams: Servers = lambda: None
        """Whom we ask for the rest of the world."""
        self._interface = clients_interface(interface)
        self._owner = owner
        self._client = client
        self._who = who
        self._host = host
        self._mark: Mark | None = None
        self._is_agreed = False
        self._is_elected = False
        self._device: Device | None = None
        self._responder: Responder | None = None
        self._reached: tuple[Prefix, ...] = ()
        self._nodes: Mapping[str, tuple[Prefix, ...]] = {}
        self._asked = -1
        self._changed = trio.Event()
        self._addresses: set[Prefix] = set()
        self._routes: set[Prefix] = set()
        self._told: dict[str, tuple[int, int]] = {}
        self._reported_at = -REPORT_INTERVAL
        self._has_news = False

    # --- what is wanted -----------------------------------------------------------------------------

    def sync(self, netmap: Map, clipped: ClippedMap) -> None:
        """The map as this node follows it; the host part learns what clients take."""
        state, mine = self._owner.state, netmap.self_node
        self._mark = read_mark(mine.extra) if isinstance(mine, Node) else None
        if self._mark is None and isinstance(mine, Node) and state.ingress is not None:
            self._owner.keep(ingress=None)  # the key is not ours any more
        self._is_agreed = state.choices.advertise.as_ingress and state.choices.firewall
        pools = frozenset(self._mark.ranges if self._mark is not None else ())
        self._is_elected = isinstance(mine, Node) and any(
            forward.elected and forward.range in pools for forward in mine.forwards
        )
        peers = clipped.peers.values()
        reached = [prefix for peer in peers for prefix in peer.allowed_ips if not is_default(prefix)]
        own = mine.record.ranges if isinstance(mine, Node) else ()
        self._reached = tuple(p for p in (*clipped.grant.ranges, *reached, *own) if not is_default(p))
        self._nodes = {
            peer.node.id: tuple(p for p in peer.node.record.addresses if p in peer.allowed_ips)
            for peer in peers
        } | {state.node: state.addresses}
        self._host.clients = self._part(pools)
        self._changed.set()

    def _part(self, pools: frozenset[Prefix]) -> ClientPart | None:
        state = self._owner.state
        if not pools:
            return None
        reason = self.problem
        if not state.choices.advertise.as_ingress:
            reason = "this host has not agreed: wgpy set --advertise ingress"
        elif not state.choices.firewall:
            reason = (
                "the firewall is off (wgpy set --firewall on): nothing would hold clients to their ranges"
            )
        elif not has_nft():
            reason = "nft is not installed (the package is called nftables): clients cannot be filtered"
        elif self._device is None and not reason:
            reason = "it has not got the group's key yet"
        if reason or state.ingress is None:
            return ClientPart(self._interface, problem=reason or "it has not got the group's key yet")
        group = state.ingress.at_present(time.time())
        reach = {address: self._reach_of(client) for client in group.clients for address in client.addresses}
        online = (client.addresses for client in group.clients if client.reach.internet)
        return ClientPart(self._interface, group.addresses, reach, frozenset().union(*online), self._reached)

    def _reach_of(self, client: Client) -> tuple[Prefix, ...]:
        """As far as this node itself may go."""
        if client.reach.everything:
            return self._reached
        nodes = [prefix for id_ in client.reach.nodes for prefix in self._nodes.get(id_, ())]
        ranges = [
            range_
            for range_ in client.reach.ranges
            if any(is_inside(range_, reached) for reached in self._reached)
        ]
        return (*nodes, *ranges)

    # --- life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """What goes wrong here never ends the node: it is `problem`, and tried again."""
        while True:
            if self._mark is None or not self._is_agreed or not has_nft():
                await self._wait(None)
                continue
            try:
                await self._ask()
                if self._has_key():
                    await self._serve()
                    self._owner.ingress_changed(report=False)
                    continue
            except (WgpyError, OSError) as error:
                self._note(str(error) if isinstance(error, WgpyError) else error.strerror or str(error))
                self._owner.ingress_changed(report=False)
            await self._wait(RETRY_INTERVAL)

    async def _wait(self, seconds: float | None) -> None:
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await self._changed.wait()
        self._changed = trio.Event()

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            if problem:
                logger.warning("%s: %s", self._interface, problem)
            self.problem = problem
            self._owner.ingress_changed(report=False)

    def _has_key(self) -> bool:
        saved = self._owner.state.ingress
        return saved is not None and saved.key is not None

    async def _ask(self) -> None:
        """Ask for what changed, and see to the key. With the coordinator away what is held counts."""
        mark, saved = self._mark, self._owner.state.ingress
        if mark is None or (saved is not None and saved.group.version == mark.version and self._has_key()):
            return
        try:
            group = await self._client.ingress_group(self._who)
            key = None if saved is None else saved.key
            if group.public_key is None:
                key, group = await self._make_key(group)
            elif key is None or key.public_key() != group.public_key:
                key = self._open_key(group)
            elif group.wanting:
                await self._hand_over(key, group)
        except WgpyError:
            if not self._has_key():
                raise
            return
        self._owner.keep(ingress=IngressState(group, time.time(), key))
        self._note("" if key is not None else "it waits for the group's key from another of its gateways")
        self._owner.ingress_changed(report=False)

    async def _make_key(self, group: Group) -> tuple[PrivateKey, Group]:
        """The first gateway makes it. Raises CoordinatorError when another was faster."""
        key = PrivateKey(os.urandom(32))
        await self._hand_over(key, group)
        return key, await self._client.ingress_group(self._who)

    async def _hand_over(self, key: PrivateKey, group: Group) -> None:
        sealed = {}
        for node, machine_key in group.wanting.items():
            with contextlib.suppress(ValueError):
                sealed[node] = seal(bytes(key), machine_key)
        if sealed:
            await self._client.hand_over_key(self._who, KeyHandover(key.public_key(), sealed))

    def _open_key(self, group: Group) -> PrivateKey | None:
        if group.sealed is None:
            return None
        data = unseal_untrusted(group.sealed, self._owner.state.keys.machine_key)
        key = None if data is None or len(data) != 32 else PrivateKey(data)
        if key is None or key.public_key() != group.public_key:
            raise WgpyError("the group's key that came is not the one that its clients know")
        return key

    async def _serve(self) -> None:
        """Clients come in, until we are no gateway any more, the key is another, or the device fails."""
        saved = self._owner.state.ingress
        assert saved is not None
        choices = self._owner.state.choices
        device = open_device(self._interface, mtu=self._owner.state.network.mtu)
        self._told, self._addresses, self._routes = {}, set(), set()
        try:
            device.interface.set_private_key(saved.key, boottime())
            device.set_fwmark(choices.mark if choices.exit_node else 0)
            device.set_listen_port(saved.group.listen_port)
            async with trio.open_nursery() as nursery:
                await nursery.start(device.run)
                device.bring_up()
                self._device = device
                self._note("")
                self._owner.ingress_changed(report=False)
                nursery.start_soon(self._answer_names, saved.group)
                while self._is_on(saved):
                    self._look_after(device)
                    await self._wait(TICK)
                    await self._ask()
                nursery.cancel_scope.cancel()
        finally:
            self._device, self._has_news = None, False
            device.close()

    def _is_on(self, began: IngressState) -> bool:
        saved = self._owner.state.ingress
        if self._mark is None or not self._is_agreed or saved is None or saved.key is None:
            return False
        return (saved.key, saved.group.listen_port, saved.group.addresses, saved.group.dns) == (
            began.key, began.group.listen_port, began.group.addresses, began.group.dns,
        )  # fmt: skip

    # --- clients ------------------------------------------------------------------------------------

    def _look_after(self, device: Device) -> None:
        saved = self._owner.state.ingress
        assert saved is not None
        group, now = saved.at_present(time.time()), boottime()
        interface, wanted = device.interface, {client.public_key: client for client in group.clients}
        gone = [key for key in interface.peers if key not in wanted]
        for key in gone:
            interface.remove_peer(key, now)
        for key, client in wanted.items():
            peer = interface.peers.get(key) or interface.add_peer(key, now)
            if peer is not None and set(device.engine.allowed_ips(peer.id)) != set(client.addresses):
                interface.replace_allowed_ips(peer, client.addresses, now)
        if gone:
            self._owner.ingress_changed(report=False)
        device.changed()
        self._set_links(device, group, wanted)
        self._has_news = bool(self._news(device, wanted))
        if self.report_wait() <= 0:
            self._owner.ingress_changed(report=True)

    def _set_links(self, device: Device, group: Group, wanted: Mapping[PublicKey, Client]) -> None:
        """The elected gateway has the route to all clients; another one those to who is connected here."""
        if self._is_elected:
            routes = set(group.ranges)
        else:
            alive = {
                status.public_key
                for status in device.interface.status(boottime())
                if _age(status.last_handshake_ns) < SESSION_TIME
            }
            routes = {prefix for key, client in wanted.items() if key in alive for prefix in client.addresses}
        if not self._owner.state.choices.routes:
            routes = set()
        try:
            with Netlink() as netlink:
                index = netlink.link(device.name).index
                for address in set(group.addresses) - self._addresses:
                    netlink.add_address(
                        index, ipaddress.ip_interface(f"{address.network_address}/{address.prefixlen}")
                    )
                    self._addresses.add(address)
                for prefix in self._routes - routes:
                    self._routes.discard(prefix)
                    netlink.delete_route(Route(prefix, index))
                for prefix in routes - self._routes:
                    netlink.replace_route(Route(prefix, index))
                    self._routes.add(prefix)
        except NetlinkError as error:
            self._note(str(error))

    def _news(self, device: Device, wanted: Mapping[PublicKey, Client]) -> list[Sighting]:
        """Of clients of which something is to be told."""
        found = []
        for status in device.interface.status(boottime()):
            client = wanted.get(status.public_key)
            if client is None or not status.last_handshake_ns:
                continue
            known = (status.last_handshake_ns, status.rx_bytes + status.tx_bytes)
            if self._told.get(client.id) != known:
                age = int(_age(status.last_handshake_ns))
                found.append(Sighting(client.id, age, status.endpoint, status.rx_bytes, status.tx_bytes))
        return found

    def report_wait(self) -> float:
        """Seconds until there is something to tell."""
        if self._device is None or not self._has_news:
            return float("inf")
        return max(0.0, self._reported_at + REPORT_INTERVAL - boottime())

    def sightings(self) -> tuple[Sighting, ...]:
        """What to tell now of clients, those first that connected most recently."""
        saved = self._owner.state.ingress
        if self._device is None or saved is None or self.report_wait() > 0:
            return ()
        wanted = {client.public_key: client for client in saved.group.clients}
        news = sorted(self._news(self._device, wanted), key=lambda each: each.handshake_age)[:MAX_SIGHTINGS]
        self._has_news = False
        if news:
            self._reported_at = boottime()
        by_key = {client.id: key for key, client in wanted.items()}
        now = {status.public_key: status for status in self._device.interface.status(boottime())}
        for each in news:
            status = now[by_key[each.client]]
            self._told[each.client] = (status.last_handshake_ns, status.rx_bytes + status.tx_bytes)
        return tuple(news)

    # --- names --------------------------------------------------------------------------------------

    async def _answer_names(self, group: Group) -> None:
        """At the group's own addresses: the mesh's names, and whatever else this host can find out."""
        if not group.dns:
            return
        responder = Responder(self._interface, lambda: None)
        responder.members = self.upstreams
        try:
            responder.bind([address.network_address for address in group.addresses], 53)
        except WgpyError as error:
            self._note(str(error))
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(responder.run)
            while True:
                responder.zone = self.zone
                await trio.sleep(TICK)


def _age(handshake_ns: int) -> float:
    """Seconds since a handshake; none was: for ever."""
    return (wall_clock_ns() - handshake_ns) / 1e9 if handshake_ns else float("inf")
