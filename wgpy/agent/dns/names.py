"""The names of one network on this host: the responder, what the host was told of it, and a watch on that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import trio

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent.dns import shared_file
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.message import Name, Query
from wgpy.agent.dns.resolvers import (
    SHARED_FILE,
    Announcement,
    Resolver,
    find_resolver,
    upstream_endpoints,
)
from wgpy.agent.dns.responder import Responder
from wgpy.agent.dns.zone import Zone, split_name
from wgpy.agent.report import NamesReport
from wgpy.clock import boottime
from wgpy.errors import HostError

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
        self._is_on = False
        self._changed = trio.Event()
        self._responder: Responder | None = None
        self._announced: Announcement | None = None
        self._upstreams = _Kept[Sequence[Endpoint]](lambda: upstream_endpoints(SHARED_FILE))
        self._others = _Kept(self._read_others)

    def sync(self, zone: Zone, addresses: Sequence[IPAddress], *, is_on: bool) -> None:
        """What to answer, where, and whether to."""
        before = (self._routing(), self._addresses, self._is_on)
        self._zone, self._addresses, self._is_on = zone, tuple(addresses), is_on
        if self._responder is not None:
            self._responder.zone = zone
        if before != (self._routing(), self._addresses, self._is_on):
            self._changed.set()

    def report(self) -> NamesReport:
        suffix = "" if self._zone is None else ".".join(self._zone.suffix)
        told = "" if self._announced is None else self._announced.resolver.name
        return NamesReport(self._is_on, suffix, told, self.problem)

    def _routing(self) -> list[str]:
        return [] if self._zone is None else self._zone.routing_domains()

    async def run(self) -> None:
        """Names never end the node: what goes wrong is `problem`, and tried again."""
        while True:
            while not self._is_on or not self._addresses or self._zone is None:
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
        """At these addresses, while they are ours and names are on. Raises HostError."""
        assert self._zone is not None
        resolver = await trio.to_thread.run_sync(find_resolver)
        if not resolver.asks_others:
            self._upstreams = _Kept(lambda: upstream_endpoints(resolver))
        responder = Responder(self._interface, None if resolver.asks_others else self._upstreams)
        responder.zone, responder.others = self._zone, self._find_other
        port = _bind(responder, addresses, resolver)
        self._responder = responder
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(responder.run)
                await self._announce(resolver, responder, port)
                self.problem = ""
                nursery.start_soon(self._watch, resolver)
                while self._is_on and self._addresses == addresses:
                    await self._wait_change()
                    await self._announce(resolver, responder, port)
                nursery.cancel_scope.cancel()
        finally:
            self._responder = None
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


def _bind(responder: Responder, addresses: Sequence[IPAddress], resolver: Resolver) -> int:
    """The port that it got. Raises HostError."""
    ports = PORTS[:1] if resolver.needs_port_53 else PORTS
    for port in ports[:-1]:
        try:
            responder.bind(addresses, port)
            return port
        except HostError:
            continue
    responder.bind(addresses, ports[-1])
    return ports[-1]
