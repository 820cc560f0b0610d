"""Asking STUN servers from the tunnel's own sockets where it is seen from outside."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.datagrams import Datagrams
from wgpy.clock import boottime, sleep_until
from wgpy.device import Device
from wgpy.engine import DatagramFilter
from wgpy.mesh.discovery import Discovery, Family, View
from wgpy.mesh.receipt import Receipt
from wgpy.mesh.stun import TRANSACTION_SIZE
from wgpy.protocol.actions import OtherDatagram

logger = logging.getLogger(__name__)

RESOLVE_TIMEOUT: Final = 5.0
"""Seconds for the names of servers, and until they are looked up again when that failed."""
RESOLVE_INTERVAL: Final = 600.0
"""Seconds until they are looked up again."""


class OutsideView:
    """`changed` is called when we are seen elsewhere than before. `tag` names us to those who see us."""

    def __init__(self, device: Device, datagrams: Datagrams, changed: Callable[[], None], tag: bytes) -> None:
        self._device = device
        self._datagrams = datagrams
        self._changed = changed
        self._discovery = Discovery(lambda: os.urandom(TRANSACTION_SIZE), tag)
        self._urls: tuple[str, ...] = ()
        self._urls_changed = trio.Event()
        self._wake = trio.Event()

    # --- what is asked --------------------------------------------------------------------------------------

    def set_urls(self, urls: Iterable[str]) -> None:
        """The coordinator's: each answers STUN at the UDP port of the same number."""
        if (wanted := tuple(urls)) != self._urls:
            self._urls = wanted
            self._urls_changed.set()

    def set_own(self, endpoints: Iterable[Endpoint]) -> None:
        """The addresses of our interfaces with the tunnel's port."""
        self._discovery.set_own(endpoints)

    def begin(self) -> None:
        """Look anew: the network is another, or somebody cannot be reached."""
        self._discovery.begin(boottime())
        self._perform()
        self._wake.set()

    # --- what is known --------------------------------------------------------------------------------------

    def views(self) -> Mapping[Family, View]:
        return self._discovery.views()

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where others may find us, as far as we were seen."""
        found = (view.endpoint for view in self.views().values())
        return tuple(endpoint for endpoint in found if endpoint is not None)

    def receipts(self) -> tuple[Receipt, ...]:
        """By which the coordinator knows that we are there."""
        return self._discovery.receipts()

    def own(self) -> frozenset[Endpoint]:
        """What `set_own` was told."""
        return self._discovery.own

    def servers(self) -> tuple[Endpoint, ...]:
        """Those that are asked."""
        return self._discovery.servers()

    async def wait_answered(self) -> None:
        """Until every server has answered, or was given up."""
        while self._discovery.transactions:
            await self._wake.wait()

    # --- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._resolve_for_ever)
            while True:
                if self._discovery.handle_timeout(boottime()):
                    self._tell()
                self._perform()
                self._wake = trio.Event()
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as waiting:
                        waiting.start_soon(self._cancel_when_woken, scope)
                        deadline = self._discovery.next_deadline()
                        if deadline is None:
                            await trio.sleep_forever()
                        else:
                            await sleep_until(deadline)
                        scope.cancel()

    async def _cancel_when_woken(self, scope: trio.CancelScope) -> None:
        await self._wake.wait()
        scope.cancel()

    async def _resolve_for_ever(self) -> None:
        """Names may be unknown for now, or get other addresses."""
        while True:
            self._urls_changed = trio.Event()
            servers = []
            for url in self._urls:
                servers += await _resolve(url)
            self._discovery.set_servers(servers, boottime())
            self._perform()
            self._wake.set()
            with trio.move_on_after(RESOLVE_INTERVAL if servers else RESOLVE_TIMEOUT):
                await self._urls_changed.wait()

    def _handle(self, datagram: OtherDatagram) -> None:
        changed = self._discovery.handle_answer(datagram.data, datagram.origin.remote, boottime())
        self._perform()
        self._wake.set()
        if changed:
            self._tell()

    def _tell(self) -> None:
        for family, view in self.views().items():
            if view.endpoint is not None:
                logger.info("seen over IPv%d as %s (NAT: %s)", family, view.endpoint, view.mapping.value)
        self._changed()

    def _perform(self) -> None:
        asks, self._discovery.asks = self._discovery.asks, []
        if not self._device.is_up:
            return
        self._datagrams.expect("stun", DatagramFilter(self._discovery.transactions), self._handle)
        for ask in asks:
            self._device.engine.send_datagram(ask.data, ask.to)


async def _resolve(url: str) -> list[Endpoint]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        return [Endpoint(ipaddress.ip_address(host), port)]
    except ValueError:
        pass
    with trio.move_on_after(RESOLVE_TIMEOUT):
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            logger.debug("%s: %s", host, error)
            return []
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        return [Endpoint(ipaddress.ip_address(address), port) for address in addresses]
    return []
