"""The names of one network on this host: the responder, what the host was told of it, and a watch on that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

import trio

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent.dns import shared_file
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.message import Name, Query
from wgpy.agent.dns.outward import ExitNames, ExitOrder, RestReport, Server, report_untold
from wgpy.agent.dns.resolvers import (
    RESOLVED,
    SHARED_FILE,
    Announcement,
    Resolver,
    find_resolver,
    resolved_servers,
    upstream_endpoints,
)
from wgpy.agent.dns.responder import Responder
from wgpy.agent.dns.upstream import Reply
from wgpy.agent.dns.zone import Zone, split_name
from wgpy.agent.report import NamesReport
from wgpy.clock import boottime
from wgpy.errors import HostError, WgpyError
from wgpy.netlink import Netlink

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_INTERVAL: Final = 30.0
"""Seconds until it is tried again, when the host let us answer no names."""
WATCH_INTERVAL: Final = 2.0
"""Seconds between looks at a file that others may write, and for which what was read of it is good."""
FIGHT_COUNT: Final = 5
FIGHT_TIME: Final = 60.0
"""Somebody who wrote the file FIGHT_COUNT times within FIGHT_TIME has it for as long."""
PORTS: Final = (53, 5353, 10053)
"""Tried in turn where the host's resolver can be told a port."""


class Names:
    """`run` until cancelled; `sync` at any time."""

    def __init__(self, interface: str) -> None:
        self.problem = ""
        self._interface = interface
        self._zone: Zone | None = None
        self._addresses: tuple[IPAddress, ...] = ()
        self._is_on = self._is_exit = False
        self._kept_outside: frozenset[Name] = frozenset()
        self._changed = trio.Event()
        self._responder: Responder | None = None
        self._announced: Announcement | None = None
        self._resolver: Resolver | None = None
        """What this host's programs ask, once names are on."""
        self._own = _Kept[Sequence[Endpoint]](lambda: upstream_endpoints(self._resolver or SHARED_FILE))
        self._asked_here = _Kept[Sequence[Endpoint]](lambda: upstream_endpoints(SHARED_FILE))
        self._others = _Kept(self._read_others)
        self._exit: ExitNames | None = None
        self._order = ExitOrder()
        self._rest = RestReport()

    def sync(
        self,
        zone: Zone,
        addresses: Sequence[IPAddress],
        *,
        is_on: bool,
        exit_: ExitNames | None = None,
        is_exit: bool = False,
        kept_outside: Collection[str] = (),
    ) -> None:
        """What to answer, where, and whether to. `exit_`: all else leaves by that node, but questions for the
        names `kept_outside`. `is_exit`: others leave by this host, and ask us for all names.
        """
        before = self._wanted()
        if exit_ is None or self._exit is None or exit_.name != self._exit.name:
            self._order = ExitOrder()
        self._zone, self._addresses, self._is_on = zone, tuple(addresses), is_on
        self._exit, self._is_exit = exit_, is_exit
        self._kept_outside = frozenset(map(split_name, kept_outside))
        if self._responder is not None:
            self._equip(self._responder)
        if before != self._wanted():
            self._changed.set()

    def _wanted(self) -> tuple[object, ...]:
        """What a change of has to be told of."""
        return self._routing(), self._addresses, self._is_on, self._is_exit, self._exit is not None

    def _equip(self, responder: Responder) -> None:
        assert self._zone is not None
        responder.zone = self._zone
        responder.kept_outside = self._kept_outside if self._exit is not None else frozenset()
        responder.is_outside = (lambda _: False) if self._exit is None else self._exit.stays_outside
        responder.members = self.for_members if self._is_exit else lambda: None

    def report(self) -> NamesReport:
        """As far as it is known: `look` before."""
        suffix = "" if self._zone is None else ".".join(self._zone.suffix)
        told = "" if self._announced is None else self._announced.resolver.name
        problem = self.problem or self._rest.note(is_on=self._is_on)
        return NamesReport(self._is_on, suffix, told, problem, self._rest)

    async def look(self) -> None:
        """Look at who answers for the rest of the world, for the next report."""
        self._rest = await trio.to_thread.run_sync(self._look)

    def _look(self) -> RestReport:
        exit_ = self._exit
        try:
            resolver = find_resolver()
            if exit_ is None:
                return RestReport(servers=_texts(upstream_endpoints(resolver)))
            if self._is_on:
                return self._order.report(exit_, self._own())
            return report_untold(exit_, servers_of(resolver, self._interface))
        except WgpyError as error:
            logger.debug("%s: name servers: %s", self._interface, error)
            return RestReport()

    # --- who is asked -----------------------------------------------------------------------------

    def _upstreams(self) -> Sequence[Endpoint] | None:
        """For programs on this host."""
        if self._exit is not None:
            return self._order.servers(self._exit, self._own(), boottime())
        return None if self._resolver is None or self._resolver.asks_others else self._own()

    def for_members(self) -> Sequence[Endpoint]:
        """For whoever leaves by this host: those that its own programs ask."""
        servers = self._upstreams()
        return self._asked_here() if servers is None else servers

    def _note_answer(self, asked: Sequence[Endpoint], reply: Reply | None) -> None:
        if self._exit is not None:
            by, code = (None, 0) if reply is None else (reply.server, reply.code)
            self._order.note_answer(self._exit, asked, by, code, boottime())

    def _routing(self) -> list[str]:
        return [] if self._zone is None else self._zone.routing_domains()

    async def run(self) -> None:
        """Names never end the node: what goes wrong is `problem`, and tried again."""
        while True:
            while not (self._is_on or self._is_exit) or not self._addresses or self._zone is None:
                self.problem = ""
                await self._wait_change()
            try:
                await self._answer(self._addresses)
            except HostError as error:
                if str(error) != self.problem:
                    logger.warning("%s: %s", self._interface, error)
                self.problem = str(error)
                with trio.move_on_after(RETRY_INTERVAL):
                    await self._wait_change()

    async def _wait_change(self) -> None:
        await self._changed.wait()
        self._changed = trio.Event()

    async def _answer(self, addresses: Sequence[IPAddress]) -> None:
        """At these addresses, while they are ours and names stay on, or stay off. Raises HostError."""
        is_on = self._is_on
        resolver = await trio.to_thread.run_sync(find_resolver) if is_on else None
        self._resolver = resolver
        responder = Responder(self._interface, self._upstreams)
        responder.others, responder.own = self._find_other, self._own
        responder.answered = self._note_answer
        self._equip(responder)
        port = _bind(responder, addresses, PORTS[:1] if resolver is None or resolver.needs_port_53 else PORTS)
        self._responder = responder
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(responder.run)
                self._changed = trio.Event()  # all so far is in what is told now
                if resolver is not None:
                    await self._announce(resolver, responder, port)
                    nursery.start_soon(self._watch, resolver)
                self.problem = ""
                while self._is_on == is_on and (is_on or self._is_exit) and self._addresses == addresses:
                    await self._wait_change()
                    if resolver is not None:
                        await self._announce(resolver, responder, port)
                nursery.cancel_scope.cancel()
        finally:
            self._responder = self._resolver = None
            with trio.CancelScope(shield=True):
                await self._withdraw()

    async def _announce(self, resolver: Resolver, responder: Responder, port: int) -> None:
        assert self._zone is not None
        claim = Claim(
            self._interface,
            responder.servers,
            tuple(self._routing()),
            (".".join(self._zone.suffix),),
            port,
            is_default=self._exit is not None,
        )
        if self._announced is None:
            self._announced = await trio.to_thread.run_sync(Announcement, resolver, claim)
        elif self._is_on:
            await trio.to_thread.run_sync(self._announced.change, claim)

    async def _withdraw(self) -> None:
        announced, self._announced = self._announced, None
        if announced is not None:
            try:
                await trio.to_thread.run_sync(announced.withdraw)
            except HostError as error:
                logger.warning("%s: %s", self._interface, error)

    async def _watch(self, resolver: Resolver) -> None:
        """Somebody else writes the file at a change of network, or by hand: then it leads to us again, and
        what was written is what will be put back.
        """
        if resolver is not SHARED_FILE:
            return
        seen, written = shared_file.stamp(), deque[float](maxlen=FIGHT_COUNT)
        while True:
            await trio.sleep(WATCH_INTERVAL)
            if (now := shared_file.stamp()) == seen:
                continue
            if len(written) == FIGHT_COUNT and boottime() - written[0] < FIGHT_TIME:
                self.problem = (
                    f"another program keeps writing {shared_file.RESOLV_CONF}; it has it for "
                    f"{FIGHT_TIME:.0f} s: names of the mesh are not asked for here meanwhile"
                )
                logger.warning("%s: %s", self._interface, self.problem)
                await trio.sleep(FIGHT_TIME)
                self.problem = ""
            try:
                if await trio.to_thread.run_sync(_update_file):
                    written.append(boottime())
                self.problem = ""
            except HostError as error:
                self.problem = str(error)
            seen = shared_file.stamp() if not self.problem else now

    # --- other networks on this host --------------------------------------------------------------

    def _find_other(self, query: Query) -> Sequence[Endpoint] | None:
        for domain, servers in self._others():
            if query.name[-len(domain) :] == domain:
                return servers
        return None

    def _read_others(self) -> list[tuple[Name, list[Endpoint]]]:
        with Claims() as claims:
            others = [
                claim
                for claim in claims.live()
                if claim.interface != self._interface and not claim.is_exclusive
            ]
        return [
            (split_name(domain), [Endpoint(server, claim.port) for server in claim.servers])
            for claim in others
            for domain in claim.domains
        ]


class _Kept(Generic[T]):
    """What a reading gave is good for WATCH_INTERVAL: it is asked for at every question."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._until = 0.0
        self._value: T | None = None

    def __call__(self) -> T:
        now = boottime()
        if self._value is None or now >= self._until:
            self._value, self._until = self._read(), now + WATCH_INTERVAL
        return self._value


def _update_file() -> bool:
    with Claims() as claims:
        return shared_file.update(claims)


def servers_of(resolver: Resolver, interface: str) -> list[Server]:
    """The servers that a resolver asks, which was not told of ours, and where they are. Raises HostError,
    NetlinkError.
    """
    found = [(server.address, False) for server in upstream_endpoints(resolver)]
    if resolver is RESOLVED:
        found = resolved_servers()
    with Netlink() as netlink:
        index = next((link.index for link in netlink.links() if link.name == interface), 0)
        return [Server(address, _way_to(netlink, address) == index, is_bound) for address, is_bound in found]


def _way_to(netlink: Netlink, address: IPAddress) -> int | None:
    route = None if address.is_link_local else netlink.route_to(address)
    return None if route is None else route.interface


def _texts(servers: Sequence[Endpoint]) -> tuple[str, ...]:
    return tuple(str(server.address) for server in servers)


def _bind(responder: Responder, addresses: Sequence[IPAddress], ports: Sequence[int]) -> int:
    """The port that it got. Raises HostError."""
    for port in ports[:-1]:
        try:
            responder.bind(addresses, port)
            return port
        except HostError:
            continue
    responder.bind(addresses, ports[-1])
    return ports[-1]
