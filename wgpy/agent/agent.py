"""A node: its device, its map and its coordinator brought together (docs/agent.md).

The map in the state file is applied before anybody is asked: tunnels come up with no coordinator in reach.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.candidates import describe_unproven, local_endpoints
from wgpy.agent.client import CoordinatorClient, Credentials, Trust
from wgpy.agent.datagrams import Datagrams
from wgpy.agent.discovery import OutsideView
from wgpy.agent.dns.names import Names
from wgpy.agent.dns.wanted import exit_names, hosts_outside, make_zone, own_addresses
from wgpy.agent.follow import Follower
from wgpy.agent.gateways import Gateways
from wgpy.agent.host_link import HostLink, concerns_us, literal_address, look_around
from wgpy.agent.host_part import HostPart
from wgpy.agent.ingress import Ingress
from wgpy.agent.listen_port import come_up, follow_network
from wgpy.agent.neighbours import Neighbours
from wgpy.agent.paths import Paths
from wgpy.agent.plan import make_plan, rotated_keys, tunnelled_ranges, wanted_setting
from wgpy.agent.port_mapping import RouterPort
from wgpy.agent.preview import preview_change
from wgpy.agent.relays import Relays
from wgpy.agent.report import (
    CoordinatorReport,
    Heard,
    PeerFacts,
    PeerReport,
    Report,
    describe_peer,
    with_relay_names,
)
from wgpy.agent.rotation import Rotation
from wgpy.agent.state_file import State, save_state
from wgpy.agent.timestamps import is_due, lead
from wgpy.agent.tunnel_reports import TunnelReporter, tunnels_of
from wgpy.clock import boottime, wall_clock_ns
from wgpy.device import Device
from wgpy.errors import HostError, WgpyError
from wgpy.host.footprint import clear_left_behind
from wgpy.keys import PublicKey
from wgpy.mesh.consent import ClippedMap, Grant, PeerGrant, Surroundings, clip, grant
from wgpy.mesh.delta import HeldMap
from wgpy.mesh.encoding import MAX_ENDPOINTS
from wgpy.mesh.forward import Offer
from wgpy.mesh.frames import PresenceFrame
from wgpy.mesh.gateways import exit_problem
from wgpy.mesh.netmap import Map, Node
from wgpy.mesh.receipt import tag_of
from wgpy.mesh.record import Record, sign_record
from wgpy.mesh.relay_ticket import Ticket
from wgpy.mesh.tunnels import ReportTerms
from wgpy.mesh.wire import CheckinRequest
from wgpy.netlink import Netlink
from wgpy.netlink.monitor import Monitor, Watch
from wgpy.protocol.interface import PeerStatus

logger = logging.getLogger(__name__)

TICK: Final = 1.0
"""Seconds between looks at who is heard and who is not."""
LOOK_AROUND_INTERVAL: Final = 30.0
"""Seconds after which the host's networks, and our own addresses and routes, are looked at even unasked."""
SETTLE_TIME: Final = 2.0
"""Seconds between two such looks, however much changes."""
EAGER_PEERS: Final = 64
"""Peers up to which tunnels to all of them are kept up."""
IDLE_TIME: Final = 300.0
"""Seconds without data after which one of more peers than that is left in peace."""
REMEMBER_INTERVAL: Final = 600.0
"""Seconds between two writes for nothing but peers' endpoints."""
SAVE_INTERVAL: Final = 2.0
"""Seconds between two writes of the state file, on average, at least."""
SAVES_AT_ONCE: Final = 10
"""Writes that may follow each other without a pause."""


class Agent:
    """One network on this host: `run` until it is cancelled, `stop` is called, or the node is removed.

    `device` is open, has no key yet, and stays the caller's to close.
    """

    def __init__(self, state: State, device: Device) -> None:
        self.state = state
        self.stopped = trio.Event()
        """Set by `stop`."""
        self.is_leaving = False
        """`leave` was asked for: the state is to be forgotten at the end."""
        self.contacted = trio.Event()
        """Set once the coordinator was reached, or was not."""
        self._device = device
        self._link = HostLink(device)
        self._host = HostPart(state.name, device.name)
        datagrams = Datagrams(device)
        self.outside = OutsideView(device, datagrams, self._report_endpoints, tag_of(state.node))
        """How the tunnel is seen from outside."""
        self._relays = Relays(
            device, datagrams, state.keys.machine_key, self._get_tickets, self._relays_changed
        )
        self._paths = Paths(device, self._link, self._relays, self._rediscover)
        self.router_port = RouterPort(self._report_endpoints)
        """The router's port that leads to the tunnel, where it gives one."""
        self._paths.handle_memory(state.seen)
        self._gateways = Gateways(device, self._paths, self._own_map, self._apply_map)
        self.names = Names(device.name)
        """The names of the network on this host."""
        self._names_problem = ""
        self._local_endpoints: tuple[Endpoint, ...] = ()
        self._unproven: tuple[str, ...] = ()
        self._proven: frozenset[Endpoint] = frozenset()
        self._verified: dict[str, Record] = {}
        self._clipped: ClippedMap | None = None
        self._around = Surroundings()
        self._neighbours = Neighbours()
        self._who = Credentials(state.network.id, state.node, state.keys.machine_key)
        self._client = CoordinatorClient(state.coordinator_urls, Trust(state.identity_hash, state.pinned))
        self._follower = Follower(self._client, self._who, self)
        self._ingress = Ingress(device.name, self, self._client, self._who, self._host)
        self._ingress.upstreams = self.names.for_members
        self._rotation = Rotation(self._client, self._who, device, self)
        self._coordinator = CoordinatorReport("connecting", state.urls[0], "", int(time.time()))
        self._reporter = TunnelReporter()
        self._alive: set[str] = set()
        self._sequence = 0
        self._save_wanted = trio.Event()
        self._remembered_at = boottime()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Set the device up as the state file says, and bring its link up. Raises HostError, StateError."""
        device, now = self._device, boottime()
        clear_left_behind(self.state.name, lift=False)
        self._look_around()
        self._check_own_range()
        stamp = lead(self.state.timestamp, wall_clock_ns())
        self.keep(boot=self.state.boot + 1, timestamp=stamp, interface=device.name)
        save_state(self.state)
        device.interface.set_private_key(self.state.keys.wireguard_key, now)
        self._rotation.handle_map(self._own_map().self_node)
        come_up(device, self.state)
        self._look_for_own_endpoints()
        self.outside.set_urls(self._client.urls)
        self._relays.set_tickets(self.state.tickets)
        self._apply_map()
        if self.state.listen_port != device.listen_port:
            self.keep(listen_port=device.listen_port)
            save_state(self.state)

    async def run(self) -> None:
        """Raises Removed, HostError. `start` was called before."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._run_device)
                nursery.start_soon(self._tick)
                nursery.start_soon(self._paths.run)
                nursery.start_soon(self.outside.run)
                nursery.start_soon(self.names.run)
                nursery.start_soon(self._relays.run)
                nursery.start_soon(self.router_port.run)
                nursery.start_soon(self._keep_looking_around)
                nursery.start_soon(self._keep_saving)
                nursery.start_soon(self._follower.run)
                nursery.start_soon(self._gateways.run)
                nursery.start_soon(self._host.watch_firewall)
                nursery.start_soon(self._rotation.run)
                nursery.start_soon(self._ingress.run)
                await self.stopped.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._host.leave()
            self._save_at_end()

    async def _run_device(self, task_status: trio.TaskStatus[None]) -> None:
        await self._device.run(task_status=task_status)
        raise HostError(f"{self._device.name}: the interface was deleted")

    def stop(self) -> None:
        self.stopped.set()

    async def leave(self) -> None:
        """Tell the coordinator that we go. Raises CoordinatorError, after which we go all the same."""
        self.is_leaving = True
        await self._client.leave(self._who)

    def _save_at_end(self) -> None:
        highest = self._device.interface.highest_timestamp
        if highest is not None:
            self.keep(timestamp=highest)
        with contextlib.suppress(WgpyError):
            save_state(self.state)

    def keep(self, **changes: object) -> None:
        """Change fields of `state`; it is on disk soon."""
        self.state = dataclasses.replace(self.state, **changes)  # type: ignore[arg-type]
        self._save_wanted.set()

    async def _keep_saving(self) -> None:
        """What is new is on disk at once, but a map that never rests does not wear the disk out."""
        saved_at: deque[float] = deque([-math.inf] * SAVES_AT_ONCE, SAVES_AT_ONCE)
        while True:
            await self._save_wanted.wait()
            self._save_wanted = trio.Event()
            try:
                await trio.to_thread.run_sync(save_state, self.state)
            except WgpyError as error:
                logger.error("%s", error)
            await trio.sleep_until(saved_at[0] + SAVES_AT_ONCE * SAVE_INTERVAL)
            saved_at.append(trio.current_time())

    # --- the map ----------------------------------------------------------------------------------

    def current_map(self) -> HeldMap | None:
        return self.state.held

    def handle_map(self, held: HeldMap) -> None:
        before = self.state
        self.keep(held=held, network=held.map.network)
        mine = held.map.self_node
        if isinstance(mine, Node) and mine.name != before.node_name:
            logger.warning("this node is called %s now", mine.name)
            self.keep(node_name=mine.name)
        if follow_network(self._device, self.state, before.network.listen_port):
            self.keep(listen_port=self._device.listen_port)
            self._look_for_own_endpoints()
            self._follower.report_now()
        self._rotation.handle_map(mine)
        if before.network.urls != held.map.network.urls:
            self._client.urls = self.state.coordinator_urls
            self.outside.set_urls(self._client.urls)
            self._look_around()
        if before.held is None or before.held.map != held.map:
            self._apply_map()

    @property
    def is_disabled(self) -> bool:
        """Whether an admin keeps this node out, or its time is over."""
        mine = self._own_map().self_node
        return isinstance(mine, Node) and mine.extra.get("disabled") is True

    def _own_map(self) -> Map:
        """The map held, or before there is one: the network, with nobody else in it."""
        held = self.state.held
        return Map.of(self.state.network, None, {}) if held is None else held.map

    def _apply_map(self) -> None:
        netmap, state, before = self._own_map(), self.state, self._clipped
        gateways = self._gateways.choose()
        self._clipped = clip(
            netmap, state.choices.consent, self._around, state.addresses, self._verified, gateways
        )
        wanted = wanted_setting(netmap.network, self._clipped, state.addresses, state.choices)
        rotated = {} if before is None else rotated_keys(before, self._clipped)
        self._link.apply(make_plan(self._link.present(), wanted, rotated))
        self._leave_idle_in_peace()
        self._paths.sync(
            {id_: granted.node.record.wireguard_key for id_, granted in self._clipped.peers.items()},
            tunnelled_ranges(self._clipped),
        )
        self._relays.set_relays(netmap.network.relays)
        self._ingress.sync(netmap, self._clipped)
        self._host.bring_about(state, netmap, self._device, self._link.index())
        if self._host.has_news(state.choices, netmap.self_node):
            self._follower.report_now()
        self._sync_names(netmap, self._clipped)

    def _sync_names(self, netmap: Map, clipped: ClippedMap) -> None:
        zone, self._names_problem = make_zone(self.state, netmap, clipped, self._client.urls)
        self._ingress.zone = zone
        self.names.sync(
            zone,
            own_addresses(self.state, clipped),
            is_on=self.state.choices.dns,
            exit_=exit_names(self.state.choices, clipped, self._host.connected),
            is_exit=self._host.is_exit,
            kept_outside=hosts_outside(netmap.network, self._client.urls),
        )

    def _look_around(self) -> None:
        literals = [literal_address(url) for url in self._client.urls]
        known = [address for address in (*literals, self._client.remote_address) if address is not None]
        self._around = look_around(self._device.name, list(dict.fromkeys(known)), self._neighbours.describe)
        self._look_for_own_endpoints()

    def _look_for_own_endpoints(self) -> None:
        """Others are told at once of what is new, and our paths are looked at."""
        device = self._device
        if not device.is_up:
            return  # no port to be found at
        with Netlink() as netlink:
            found = local_endpoints(netlink.links(), netlink.addresses(), device.name, device.listen_port)
        self.outside.set_own(found)
        if found != self._local_endpoints:
            self.router_port.begin(device.listen_port)
            is_first, self._local_endpoints = not self._local_endpoints, found
            if not is_first:
                logger.info("our own addresses are now %s", ", ".join(map(str, found)) or "none")
                self.outside.begin()
                self._report_endpoints()
                self._relays.check()
                self._paths.network_changed()

    def _rediscover(self) -> None:
        """Data goes unanswered: perhaps we are seen elsewhere by now."""
        self._relays.check()
        self.outside.begin()
        self._report_endpoints()

    def _report_endpoints(self) -> None:
        self._follower.report_now()

    def _relays_changed(self) -> None:
        self._paths.relays_changed()

    async def _get_tickets(self) -> tuple[Ticket, ...]:
        """By which relays let us in."""
        tickets = await self._client.relay_tickets(self._who)
        mine = (self._who.network, self._who.node)
        identity = self._client.identity
        good = tuple(
            ticket
            for ticket in tickets
            if (ticket.network, ticket.node) == mine and identity is not None and ticket.verify(identity)
        )
        self.keep(tickets=good)
        return good

    def _check_own_range(self) -> None:
        """Raises HostError when none of our addresses is in a range that we follow."""
        granted = self._grant()
        if not any(granted.covers(address) for address in self.state.addresses):
            reasons = "; ".join(str(refusal) for refusal in granted.refused)
            raise HostError(f"network {self.state.name} has no range that this host follows: {reasons}")

    def _grant(self) -> Grant:
        return grant(self.state.network.ranges, self.state.choices.accepted, self._around)

    async def _keep_looking_around(self) -> None:
        """A LAN that comes later may collide with the mesh, what the host refused may be possible by now, and
        a link that was down for a moment has lost its routes."""
        with Monitor(Watch.LINK | Watch.ADDRESS | Watch.ROUTE | Watch.RULE) as monitor:
            while True:
                with trio.move_on_after(LOOK_AROUND_INTERVAL):
                    while not any(map(concerns_us, await monitor.wait_changes())):
                        pass
                self._look_around()
                self._apply_map()
                await trio.sleep(SETTLE_TIME)

    def make_record(self) -> Record | None:
        held, keys = self.state.held, self.state.keys
        mine = None if held is None else held.map.self_node
        public, addresses = keys.wireguard_key.public_key(), self.state.addresses
        ranges = self._host.plan.ranges
        if isinstance(mine, Node):
            record = mine.record
            if (record.wireguard_key, record.addresses, record.ranges) == (public, addresses, ranges):
                return None
            self.keep(record_seq=max(self.state.record_seq, record.seq))
        self.keep(record_seq=self.state.record_seq + 1)
        return self.sign_record(public)

    def sign_record(self, public: PublicKey) -> Record:
        """Our record with this WireGuard key."""
        return sign_record(
            self.state.keys.machine_key,
            public,
            network=self._who.network,
            node=self._who.node,
            addresses=self.state.addresses,
            ranges=self._host.plan.ranges,
            seq=self.state.record_seq,
        )

    def make_offer(self) -> Offer | None:
        return self._host.next_offer(self.state.choices, self._own_map().self_node)

    def handle_offered(self, offer: Offer) -> None:
        self._host.offered = offer

    async def choose(self, changes: Mapping[str, object]) -> None:
        """Change what was chosen on this host, while running (choices.py). Raises ConfigError,
        CoordinatorError.
        """
        more = dict(changes)
        name = more.pop("name", None)
        choices = self.state.choices.changed(more)
        if name is not None:
            self.keep(node_name=await self._client.rename(self._who, str(name)))
        self.keep(choices=choices)
        save_state(self.state)
        self._apply_map()
        self._follower.report_now()

    def preview(self, changes: Mapping[str, object]) -> list[str]:
        """What `choose` would change on this host, a line each. Raises ConfigError."""
        state = dataclasses.replace(self.state, choices=self.state.choices.changed(dict(changes)))
        link, host = self._link, self._host.footprint
        return preview_change(state, self._own_map(), self._around, link, host)

    # --- where everybody is -----------------------------------------------------------------------

    def make_checkin(self, *, brief: bool) -> CheckinRequest:
        self._sequence += 1
        held = self.state.held
        static = [Endpoint.parse(text) for text in self.state.endpoints]
        mapping = self.router_port.mapping
        mapped = () if mapping is None else (mapping.external,)
        outside, relayed = self.outside.endpoints(), self._relays.observed()
        found = (*static, *mapped, *outside, *relayed.values(), *self._local_endpoints)
        endpoints = tuple(dict.fromkeys(found))[:MAX_ENDPOINTS]
        # What the coordinator tells nobody, we tell nobody either.
        proven = (one for one in static if one in self._proven)
        own = dict.fromkeys((*proven, *mapped, *outside, *self._local_endpoints))
        self._paths.set_own(list(own), relayed)
        since, port = None if held is None else held.since, self._device.listen_port
        tunnels = None
        if self._reporter.wait(boottime()) <= 0:
            peers = with_relay_names(self._peer_reports(), self._relays.shown)
            tunnels = self._reporter.make_report(tunnels_of(peers, time.time()), boottime())
        where = (self._sequence, port, endpoints)
        receipts = self.outside.receipts()
        clients = self._ingress.sightings()
        return CheckinRequest(since, self.state.boot, *where, tunnels, brief, clients, receipts=receipts)

    def handle_unproven(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._unproven = describe_unproven(self.state.endpoints, endpoints)
        self._proven = frozenset(map(Endpoint.parse, self.state.endpoints)).difference(endpoints)

    def report_wait(self) -> float:
        return min(self._reporter.wait(boottime()), self._ingress.report_wait())

    def ingress_changed(self, *, report: bool) -> None:
        self._follower.stir() if report else self._apply_map()

    def handle_report_terms(self, terms: ReportTerms | None) -> None:
        if self._reporter.handle_terms(terms, boottime()):
            self._follower.stir()

    def handle_report_interval(self, every: float) -> None:
        if self._reporter.handle_interval(every, boottime()):
            self._follower.stir()

    def handle_presence(self, frame: PresenceFrame) -> None:
        self._paths.handle_presence(frame)

    def handle_state(self, state: str, reason: str) -> None:
        url = self._client.last_url or self._coordinator.url
        if (state, reason, url) != (self._coordinator.state, self._coordinator.reason, self._coordinator.url):
            self._coordinator = CoordinatorReport(state, url, reason, int(time.time()))
        if state == "connected" and self._client.remote_address not in (None, *self._around.coordinators):
            self._look_around()
            self._apply_map()
        self.contacted.set()

    async def _tick(self) -> None:
        while True:
            began = trio.current_time()
            self._look_at_peers()
            highest = self._device.interface.highest_timestamp
            if is_due(self.state.timestamp, highest, wall_clock_ns()):
                self.keep(timestamp=lead(highest, wall_clock_ns()))
            # A look costs some 10 us a peer: with thousands of them it is taken less often.
            await trio.sleep(max(TICK, (trio.current_time() - began) * 100))

    def _statuses(self) -> dict[PublicKey, PeerStatus]:
        return {status.public_key: status for status in self._device.interface.status(boottime())}

    def _heard(self, status: PeerStatus, now: float) -> Heard:
        peer = self._device.interface.peers[status.public_key]
        unanswered_since = self._device.engine.facts(peer.id).data_sent_first
        age = None
        if status.last_handshake_ns:
            age = max(0.0, (wall_clock_ns() - status.last_handshake_ns) / 1e9)
        unanswered = 0.0 if unanswered_since is None else now - unanswered_since
        return Heard(age, unanswered)

    def _look_at_peers(self) -> None:
        """Who is heard, and where everybody is, for the next start."""
        if self._clipped is None:
            return
        self._leave_idle_in_peace()
        now, statuses, seen, alive = boottime(), self._statuses(), {}, set()
        for node_id, granted in self._clipped.peers.items():
            status = statuses.get(granted.node.record.wireguard_key)
            if status is None:
                continue
            heard = self._heard(status, now)
            if heard.is_alive:
                alive.add(node_id)
            if status.endpoint is not None:
                self._link.start_keepalives(status.public_key)
            if known := self._paths.memory(node_id):
                seen[node_id] = known
        self._remember(seen, now)
        if alive != self._alive:
            self._alive = alive
            if self._reporter.note_news(now):
                self._follower.stir()

    def _leave_idle_in_peace(self) -> None:
        """Whoever is in a large network sends nothing to peers but what there is to send."""
        if self._clipped is None:
            return
        keys = {id_: granted.node.record.wireguard_key for id_, granted in self._clipped.peers.items()}
        idle: set[str] = set()
        if len(keys) > EAGER_PEERS:
            since, peers = boottime() - IDLE_TIME, self._device.interface.peers
            idle = {id_ for id_, key in keys.items() if key in peers and peers[key].data_at < since}
        self._link.set_quiet({keys[id_] for id_ in idle})
        self._paths.set_quiet(idle)

    def _remember(self, seen: Mapping[str, tuple[Endpoint, ...]], now: float) -> None:
        """Keep where peers are, sparing the disk: at once only for peers of which nothing was known."""
        is_news = seen.keys() - self.state.seen.keys()
        self.state = dataclasses.replace(self.state, seen=seen)
        if is_news or now - self._remembered_at > REMEMBER_INTERVAL:
            self._remembered_at = now
            self._save_wanted.set()

    # --- what it looks like -----------------------------------------------------------------------

    def report(self) -> Report:
        state, device = self.state, self._device
        problems = [str(refusal) for refusal in self._grant().refused]
        problems += [*self._link.problems.values(), *self._host.problems()]
        problems += self._unproven
        problems += exit_problem(self._own_map(), state.choices.exit_node)
        answered = self.names.report()
        problems += [text for text in (self._names_problem, answered.problem) if text]
        if self.is_disabled:
            problems.append(
                "an admin of the network keeps this node out, or its time is over: it has no peers"
            )
        if self._clipped is not None:
            names = {node.id: getattr(node, "name", node.id[:8]) for node in self._own_map().peers.values()}
            problems += [f"node {names[node_id]}: {why}" for node_id, why in self._clipped.skipped.items()]
        return Report(
            name=state.name,
            interface=device.name,
            node=state.node_name,
            addresses=tuple(str(address.network_address) for address in state.addresses),
            public_key=str(state.keys.wireguard_key.public_key()),
            listen_port=device.listen_port,
            coordinator=self._coordinator,
            revision=None if state.held is None else state.held.revision,
            peers=with_relay_names(self._peer_reports(), self._relays.shown),
            relays=self._relays.reports(),
            problems=tuple(problems),
            names=answered,
            forwards=tuple(map(str, self._host.plan.ranges)),
            exit_node=state.choices.exit_node,
        )

    def _peer_reports(self) -> list[PeerReport]:
        if self._clipped is None:
            return []
        is_up = self._coordinator.state in ("connected", "polling")
        statuses, now, wall_clock = self._statuses(), boottime(), time.time()
        return [
            describe_peer(self._peer_facts(granted, statuses, now), is_up, wall_clock)
            for granted in self._clipped.peers.values()
        ]

    def _peer_facts(
        self, granted: PeerGrant, statuses: Mapping[PublicKey, PeerStatus], now: float
    ) -> PeerFacts:
        node = granted.node
        own = frozenset(node.record.addresses)
        status = statuses.get(node.record.wireguard_key)
        heard = None if status is None else self._heard(status, now)
        return PeerFacts(
            id=node.id,
            name=node.name,
            addresses=tuple(str(p.network_address) for p in granted.allowed_ips if p in own),
            ranges=tuple(str(p) for p in granted.allowed_ips if p not in own),
            public_key=str(node.record.wireguard_key),
            status=status,
            presence=self._paths.presence(node.id),
            paths=self._paths.report(node.id),
            is_alive=heard is not None and heard.is_alive,
            unanswered=0.0 if heard is None else heard.unanswered,
            refused=[str(refusal) for refusal in granted.refused],
        )
