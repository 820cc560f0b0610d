"""Our sessions at the relays of the map: kept up on the tunnel's own sockets, told to the engine, and offered
as paths (docs/relay.md §1).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.datagrams import Datagrams
from wgpy.agent.follow import Backoff
from wgpy.agent.relay_tunnel import RelayTunnel
from wgpy.agent.report import RELAY_WORD, RelayReport
from wgpy.clock import boottime, sleep_until
from wgpy.device import Device
from wgpy.engine import DatagramFilter
from wgpy.errors import CoordinatorError
from wgpy.mesh.relay import (
    RANDOM_SIZE,
    Cookie,
    Kind,
    encode_hello,
    parse_relay_untrusted,
    relay_id_of,
    relay_number,
    relayed_endpoint,
)
from wgpy.mesh.relay_link import LinkState, RelayLink
from wgpy.mesh.relay_ticket import TICKET_AGE, Ticket
from wgpy.mesh.relays import MAX_RELAYS, Relay
from wgpy.mesh.signing import MachineKey
from wgpy.protocol.actions import OtherDatagram

logger = logging.getLogger(__name__)

RESOLVE_INTERVAL: Final = 300.0
"""Seconds after which a relay's names are resolved again; sooner while it does not answer."""
RESOLVE_AGAIN: Final = 10.0
ASK_SOON: Final = 1.0
ASK_INTERVAL: Final = 15.0
"""Seconds until the first look at whether UDP gets through by now, while TLS carries us, and between two."""
TUNNEL_PAUSE: Final = 10.0
"""Seconds until TLS is tried again where it failed, too."""
LOOPBACK: Final = ipaddress.IPv4Address("127.0.0.1")
_SHOWN: Final = re.compile(r"\[fd57:4750:7900:[0-9a-f:]*\]:1")


class TicketOffice(Protocol):
    """Gives tickets: the coordinator, by our session. Raises CoordinatorError."""

    async def __call__(self) -> tuple[Ticket, ...]: ...


@dataclass(slots=True)
class _Use:
    """One relay. `told` is what the engine knows of it. It is asked at all of its `places` at once; `remote`
    is the one that answered first.
    """

    relay: Relay
    number: int
    link: RelayLink
    addresses: tuple[Endpoint, ...] = ()
    remote: Endpoint | None = None
    told: tuple[Endpoint, int] | None = None
    was_draining: bool = False
    resolve_at: float = 0.0
    is_resolving: bool = False
    tunnel: RelayTunnel | None = None
    tunnelling: trio.CancelScope | None = None
    """Of the task that opens the tunnel and runs it."""
    question: bytes = b""
    """Of the HELLO by which UDP is tried while the tunnel carries us."""
    ask_at: float = 0.0
    why_no_tunnel: str = ""

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """Where it may be."""
        return self.addresses if self.tunnel is None else (*self.addresses, self.tunnel.remote)

    @property
    def is_over_tls(self) -> bool:
        return self.tunnel is not None and self.remote == self.tunnel.remote

    def stop_tunnel(self) -> None:
        if self.tunnelling is not None:
            self.tunnelling.cancel()

    @property
    def is_up(self) -> bool:
        return self.link.state is LinkState.UP


class Relays:
    """Of one node. `changed` is called when other relays can be used than before."""

    def __init__(
        self,
        device: Device,
        datagrams: Datagrams,
        machine_key: MachineKey,
        get_tickets: TicketOffice,
        changed: Callable[[], None],
    ) -> None:
        self.tickets: tuple[Ticket, ...] = ()
        """To be remembered: good for days, whether the coordinator is there or not."""
        self._device = device
        self._datagrams = datagrams
        self._machine_key = machine_key
        self._get_tickets = get_tickets
        self._changed = changed
        self._uses: dict[str, _Use] = {}
        self._numbers: dict[str, int] = {}
        self._wake = trio.Event()
        self._tickets_wanted = trio.Event()
        self._nursery: trio.Nursery | None = None

    # --- what it is told ----------------------------------------------------------------------------------

    def set_relays(self, relays: Sequence[Relay]) -> None:
        """These are the map's."""
        wanted = {relay.id: relay for relay in relays[:MAX_RELAYS]}
        for relay_id in self._uses.keys() - wanted.keys():
            self._drop(relay_id)
        for relay_id, relay in wanted.items():
            use = self._uses.get(relay_id)
            if use is None:
                number = self._numbers.setdefault(relay_id, len(self._numbers) + 1)
                link = RelayLink(relay_id, relay.key, self._machine_key, os.urandom)
                self._uses[relay_id] = _Use(relay, number, link)
                self._tickets_wanted.set()
            elif use.relay != relay:
                use.relay, use.resolve_at = relay, 0.0
        self._uses = {relay_id: self._uses[relay_id] for relay_id in wanted}
        self._start_links()
        self._wake.set()

    def _drop(self, relay_id: str) -> None:
        use = self._uses.pop(relay_id)
        use.stop_tunnel()
        if use.told is not None:
            self._device.engine.set_relay(use.number, None)
            self._changed()

    def set_tickets(self, tickets: Iterable[Ticket]) -> None:
        self.tickets = tuple(tickets)
        self._start_links()
        self._wake.set()

    def _start_links(self) -> None:
        by_relay = {ticket.relay: ticket for ticket in self.tickets}
        now = boottime()
        for relay_id, use in self._uses.items():
            if (ticket := by_relay.get(relay_id)) is not None:
                use.link.start(ticket, now)

    def check(self) -> None:
        """Data goes unanswered, or our addresses changed: are the relays still there?"""
        for use in self._uses.values():
            use.link.check(boottime())
        self._wake.set()

    # --- what it offers -----------------------------------------------------------------------------------

    def endpoints(self, node_id: str) -> tuple[Endpoint, ...]:
        """By which a node may be reached, the nearest relay first."""
        return self._endpoints(node_id, draining=False)

    def leaving(self, node_id: str) -> tuple[Endpoint, ...]:
        """The same of relays that are about to stop."""
        return self._endpoints(node_id, draining=True)

    def _endpoints(self, node_id: str, *, draining: bool) -> tuple[Endpoint, ...]:
        up = [use for use in self._uses.values() if use.is_up and use.link.is_draining == draining]
        up.sort(key=lambda use: float("inf") if use.link.rtt is None else use.link.rtt)
        return tuple(relayed_endpoint(use.number, relay_id_of(node_id)) for use in up)

    def observed(self) -> dict[int, Endpoint]:
        """Where relays, by our numbers for them, say that they see our tunnel's sockets, by UDP."""
        return {
            use.number: use.link.observed
            for use in self._uses.values()
            if use.is_up and not use.is_over_tls and use.link.observed is not None
        }

    def shown(self, text: str) -> str:
        """A text, with relays by their names in place of such endpoints."""
        return _SHOWN.sub(lambda match: self.name_of(Endpoint.parse(match[0])) or match[0], text)

    def name_of(self, endpoint: Endpoint) -> str | None:
        """`relay NAME`; None: it is an endpoint like any other."""
        number = relay_number(endpoint)
        if number is None:
            return None
        names = (use.relay.name for use in self._uses.values() if use.number == number)
        return RELAY_WORD + next(names, "that is gone")

    def reports(self) -> tuple[RelayReport, ...]:
        return tuple(
            RelayReport(
                use.relay.name,
                use.link.state.value,
                "" if use.is_up else self._why_not(use),
                _where(use),
                None if use.link.rtt is None or not use.is_up else round(use.link.rtt * 1000, 2),
                use.link.is_draining,
            )
            for use in self._uses.values()
        )

    def _why_not(self, use: _Use) -> str:
        if not use.places:
            return f"cannot find {', '.join(use.relay.hosts)}"
        if all(ticket.relay != use.relay.id for ticket in self.tickets):
            return "the coordinator has given no ticket yet"
        return "; ".join(filter(None, (use.link.reason, use.why_no_tunnel)))

    # --- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep_tickets)
            while True:
                self._step()
                deadlines = [use.link.next_deadline() for use in self._uses.values()]
                deadlines += [use.ask_at for use in self._uses.values() if use.is_over_tls]
                until = min((at for at in deadlines if at is not None), default=boottime() + RESOLVE_AGAIN)
                self._wake = trio.Event()
                with trio.CancelScope() as scope:
                    nursery.start_soon(self._cancel_when_woken, scope, self._wake)
                    await sleep_until(min(until, boottime() + RESOLVE_AGAIN))
                self._wake.set()

    async def _cancel_when_woken(self, scope: trio.CancelScope, wake: trio.Event) -> None:
        await wake.wait()
        scope.cancel()

    def _step(self) -> None:
        now = boottime()
        for use in self._uses.values():
            if now >= use.resolve_at and not use.is_resolving and self._nursery is not None:
                use.is_resolving = True
                self._nursery.start_soon(self._resolve, use)
            use.link.handle_timeout(now)
            if use.link.is_silent:
                self._look_elsewhere(use, now)
            elif use.is_up and use.tunnelling is not None and not use.is_over_tls:
                use.stop_tunnel()  # UDP was slower than thought
            if use.is_over_tls and now >= use.ask_at:
                self._ask_udp(use, now)
            if use.link.needs_ticket:
                use.link.needs_ticket = False
                self._tickets_wanted.set()
        self._perform()

    def _perform(self) -> None:
        """Send what is to be sent, and tell engine and paths what is new."""
        engine, is_news = self._device.engine, False
        for use in self._uses.values():
            outbox, use.link.outbox = use.link.outbox, []
            for data in outbox:
                known = () if use.remote is None else (use.remote,)
                for place in use.places if data[1] == Kind.HELLO else known:
                    engine.send_datagram(data, place)
            told = None
            if use.remote is not None and use.link.session is not None:
                told = (use.remote, use.link.session)
            if told != use.told:
                is_news |= (told is None) != (use.told is None)
                use.told = told
                engine.set_relay(use.number, *(told or (None, 0)))
                logger.info("relay %s: %s", use.relay.name, "up" if told else use.link.reason or "down")
            if use.link.is_draining != use.was_draining:
                use.was_draining, is_news = use.link.is_draining, True
        remotes = frozenset(place for use in self._uses.values() for place in use.places)
        self._datagrams.expect("relays", DatagramFilter(remotes=remotes), self._handle)
        if is_news:
            self._changed()

    def _handle(self, datagram: OtherDatagram) -> None:
        origin = datagram.origin.remote
        for use in self._uses.values():
            if origin not in use.places:
                continue
            if use.link.handle_datagram(datagram.data, boottime()):
                use.remote = origin
            elif use.is_over_tls and origin in use.addresses:
                answer = parse_relay_untrusted(datagram.data)
                if isinstance(answer, Cookie) and answer.random == use.question:
                    logger.info("relay %s: UDP is answered again", use.relay.name)
                    use.stop_tunnel()
        self._perform()
        self._wake.set()

    # --- over TLS -----------------------------------------------------------------------------------------

    def _look_elsewhere(self, use: _Use, now: float) -> None:
        """It does not answer: it may have moved, and over TLS it may be reached at once."""
        use.resolve_at = min(use.resolve_at, now + RESOLVE_AGAIN)
        if use.relay.url is not None and use.tunnelling is None and self._nursery is not None:
            use.tunnelling = trio.CancelScope()
            self._nursery.start_soon(self._tunnel, use, use.relay.url, use.tunnelling)

    async def _tunnel(self, use: _Use, url: str, scope: trio.CancelScope) -> None:
        """UDP gets no answer: the same over TLS, until UDP does."""
        with scope:
            try:
                tunnel = await RelayTunnel.open(url, self._device.listen_port, LOOPBACK)
            except CoordinatorError as error:
                use.why_no_tunnel = str(error)
                await trio.sleep(TUNNEL_PAUSE)
            else:
                logger.info("relay %s: UDP gets no answer, so it is asked over TLS too", use.relay.name)
                use.tunnel, use.why_no_tunnel, use.ask_at = tunnel, "", boottime() + ASK_SOON
                self._ask_anew(use)
                opened = boottime()
                await tunnel.run()
                if boottime() - opened < TUNNEL_PAUSE:
                    await trio.sleep(1)  # whoever hangs up at once is not asked in a tight loop
        was_used = use.is_over_tls
        use.tunnel = use.tunnelling = None
        if was_used:
            use.remote = None
            self._ask_anew(use)

    def _ask_anew(self, use: _Use) -> None:
        """There are other places than before."""
        use.link.restart(boottime())
        self._perform()
        self._wake.set()

    def _ask_udp(self, use: _Use, now: float) -> None:
        use.ask_at, use.question = now + ASK_INTERVAL, os.urandom(RANDOM_SIZE)
        for address in use.addresses:
            self._device.engine.send_datagram(encode_hello(use.question), address)

    # --- names and tickets --------------------------------------------------------------------------------

    async def _resolve(self, use: _Use) -> None:
        try:
            found = [each for host in use.relay.hosts for each in await resolve(host)]
        finally:
            use.is_resolving = False
        use.resolve_at = boottime() + (RESOLVE_INTERVAL if found else RESOLVE_AGAIN)
        if found:
            before, use.addresses = use.addresses, tuple(dict.fromkeys(found))
            is_elsewhere = use.remote not in use.places if use.is_up else before != use.addresses
            if is_elsewhere:
                use.link.restart(boottime())
        self._start_links()
        self._wake.set()

    async def _keep_tickets(self) -> None:
        """New ones when a relay is new, when one was refused, and when half of their time is over."""
        backoff = Backoff()
        while True:
            with trio.move_on_after(TICKET_AGE / 2):
                await self._tickets_wanted.wait()
            self._tickets_wanted = trio.Event()
            if not self._uses:
                continue
            try:
                self.set_tickets(await self._get_tickets())
                backoff.reset()
                await trio.sleep(1)
            except CoordinatorError as error:
                logger.info("no tickets for relays: %s", error)
                self._tickets_wanted.set()
                await trio.sleep(backoff.next_wait())


def _where(use: _Use) -> str | None:
    if use.is_over_tls:
        return use.relay.url
    return None if use.remote is None else str(use.remote)


async def resolve(host: str) -> list[Endpoint]:
    """The endpoints of HOST:PORT, IPv4 first; none when there is no such host, or nobody to ask."""
    name, _, port = host.rpartition(":")
    name = name.strip("[]")
    try:
        return [Endpoint(ipaddress.ip_address(name), int(port))]
    except ValueError:
        pass
    try:
        found = await trio.socket.getaddrinfo(name, int(port), type=socket.SOCK_DGRAM)
    except OSError:
        return []
    addresses = {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
    return [Endpoint(each, int(port)) for each in sorted(addresses, key=lambda each: each.version)]
