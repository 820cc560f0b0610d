"""A port of the router's that leads to the tunnel: by PCP, NAT-PMP or UPnP-IGD, kept up and given back."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.igd import Gateway, NoGateway, search
from wgpy.clock import boottime, sleep_until
from wgpy.mesh.paths import PathKind, kind_of
from wgpy.mesh.portmap import ABSENT_INTERVAL, NONCE_SIZE, PORT, PortMapper, PortMapping
from wgpy.netlink import Netlink, NetlinkError

logger = logging.getLogger(__name__)

RELEASE_TIMEOUT: Final = 1.0
"""Seconds for giving a port back when the agent ends."""
IGD_LIFETIME: Final = 3600
"""Seconds for which UPnP is asked: routers forget to give up what was not removed."""


class RouterPort:
    """`changed` is called when the endpoint outside is another. $WGPY_PORT_MAPPING=0 asks for none."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._port = 0
        self._begin_wanted = trio.Event()
        self._mapper = PortMapper(lambda: os.urandom(NONCE_SIZE))
        self._mapping: PortMapping | None = None
        self.is_enabled = os.environ.get("WGPY_PORT_MAPPING") != "0"
        self.reason = "not asked yet" if self.is_enabled else "switched off (WGPY_PORT_MAPPING=0)"
        """Why there is none, in words."""

    @property
    def mapping(self) -> PortMapping | None:
        return self._mapping

    def begin(self, port: int) -> None:
        """Ask anew for the tunnel's port: it, or the network, is another."""
        self._port = port
        self._begin_wanted.set()

    async def run(self) -> None:
        """Until it is cancelled; then what was mapped is given back."""
        while self.is_enabled:
            self._begin_wanted = trio.Event()
            if self._port:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._cancel_when_wanted, scope)
                        await self._keep_mapped()
            await self._begin_wanted.wait()

    async def _cancel_when_wanted(self, scope: trio.CancelScope) -> None:
        await self._begin_wanted.wait()
        scope.cancel()

    async def _keep_mapped(self) -> None:
        """For as long as the network stays what it is."""
        while True:
            found = _find_router()
            if found is None:
                self._set(None, "no router with a private network of its own")
                return
            gateway, own = found
            try:
                await self._keep_by_pcp(gateway, own)
            except OSError as error:
                logger.debug("PCP at %s: %s", gateway, error)
            try:
                await self._keep_by_igd(gateway, own)
            except NoGateway as why:
                self._set(None, f"{gateway} answers neither PCP nor NAT-PMP; UPnP-IGD: {why}")
            await trio.sleep(ABSENT_INTERVAL)

    # --- PCP and NAT-PMP ------------------------------------------------------------------------------------

    async def _keep_by_pcp(self, gateway: IPv4Address, own: IPv4Address) -> None:
        """Returns when the router does not do it. Raises OSError."""
        mapper = self._mapper
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            await udp.bind((str(own), 0))
            await udp.connect((str(gateway), PORT))
            mapper.begin(own, self._port, boottime())
            try:
                while mapper.is_asking or mapper.mapping is not None:
                    await self._send(udp)
                    if (data := await self._receive_until_due(udp)) is None:
                        mapper.handle_timeout(boottime())
                    else:
                        mapper.handle_answer_untrusted(data, boottime())
                    self._set(mapper.mapping, "the router gave its port to somebody else")
            finally:
                if (request := mapper.release()) is not None:
                    with trio.move_on_after(RELEASE_TIMEOUT, shield=True), contextlib.suppress(OSError):
                        await udp.send(request)
                    self._mapping = None

    async def _receive_until_due(self, udp: trio.socket.SocketType) -> bytes | None:
        data = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_due, nursery.cancel_scope)
            data = await _receive(udp)
            nursery.cancel_scope.cancel()
        return data

    async def _wait_due(self, scope: trio.CancelScope) -> None:
        deadline = self._mapper.next_deadline()
        if deadline is None:
            await trio.sleep_forever()
        else:
            await sleep_until(deadline)
        scope.cancel()

    async def _send(self, udp: trio.socket.SocketType) -> None:
        requests, self._mapper.requests = self._mapper.requests, []
        for request in requests:
            with contextlib.suppress(ConnectionRefusedError):
                await udp.send(request)

    # --- UPnP-IGD -------------------------------------------------------------------------------------------

    async def _keep_by_igd(self, address: IPv4Address, own: IPv4Address) -> None:
        """Raises NoGateway when the router does not do it, or no more."""
        gateway = await search(address, own)
        external: Endpoint | None = None
        try:
            while True:
                external = await gateway.add(self._port, IGD_LIFETIME)
                self._set(PortMapping("UPnP-IGD", external, boottime() + IGD_LIFETIME), "")
                await trio.sleep(IGD_LIFETIME / 2)
        finally:
            if external is not None:
                await _release(gateway, external.port)
                self._mapping = None

    def _set(self, mapping: PortMapping | None, reason: str) -> None:
        before, self._mapping, self.reason = self._mapping, mapping, reason
        if (None if before is None else before.external) == (None if mapping is None else mapping.external):
            return
        if mapping is not None:
            logger.info("the router leads %s to this node (%s)", mapping.external, mapping.method)
        else:
            logger.info("no port of the router's any more: %s", reason)
        self._changed()


async def _release(gateway: Gateway, port: int) -> None:
    with trio.move_on_after(RELEASE_TIMEOUT, shield=True), contextlib.suppress(NoGateway):
        await gateway.remove(port)


async def _receive(udp: trio.socket.SocketType) -> bytes:
    while True:
        try:
            return await udp.recv(1100)
        except ConnectionRefusedError:
            await trio.sleep(0.1)  # nobody listens there: the requests' own patience ends it


def _find_router() -> tuple[IPv4Address, IPv4Address] | None:
    """The gateway of the default route and our address towards it; None where we have a public address."""
    try:
        with Netlink() as netlink:
            routes = [route for route in netlink.routes(4) if route.prefix.prefixlen == 0]
    except NetlinkError:
        return None
    for route in routes:
        if not isinstance(route.gateway, IPv4Address):
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((str(route.gateway), PORT))
            own = IPv4Address(probe.getsockname()[0])
            if kind_of(Endpoint(own, PORT)) is PathKind.LAN:
                return route.gateway, own
    return None
