"""Asking a UPnP Internet Gateway Device for a port, over the network."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from wgpy.addresses import Endpoint
from wgpy.errors import InvalidMessage
from wgpy.mesh.igd import (
    MAX_DOCUMENT,
    SEARCH_ENDPOINT,
    Control,
    encode_action,
    encode_searches,
    parse_action_untrusted,
    parse_description_untrusted,
    parse_location_untrusted,
)

SEARCH_TIME: Final = 2.0
"""Seconds for devices to answer a search."""
REQUEST_TIMEOUT: Final = 5.0
"""Seconds for a whole HTTP exchange."""
_CONFLICT: Final = ("718", "724")
"""errorCode: another host has that port; the router maps a port to the same port alone."""
_PERMANENT_ONLY: Final = "725"
_TRIES: Final = 3


class NoGateway(Exception):
    """There is no device, or it maps no port for us. The reason is in words."""


class Gateway:
    """A device found by `search`. Its answers are bounded in size and time."""

    def __init__(self, address: IPv4Address, control: Control, own: IPv4Address) -> None:
        self._address = address
        self._control = control
        self._own = own

    async def add(self, port: int, lifetime: int) -> Endpoint:
        """Have a port mapped to our `port` for `lifetime` seconds; the endpoint outside. Raises NoGateway."""
        address = (await self._act("GetExternalIPAddress", {})).get("NewExternalIPAddress", "")
        try:
            outside = IPv4Address(address)
        except ValueError:
            raise NoGateway("it has no address outside") from None
        external = port
        for _ in range(_TRIES):
            error = await self._add(external, port, lifetime)
            if error == _PERMANENT_ONLY:
                lifetime, error = 0, await self._add(external, port, 0)
            if error is None:
                return Endpoint(outside, external)
            if error not in _CONFLICT:
                raise NoGateway(f"it maps no port (error {error})")
            external = 1024 + (external * 7 + 4099) % 64000
        raise NoGateway("all ports tried are another host's")

    async def _add(self, external: int, port: int, lifetime: int) -> str | None:
        answer = await self._act(
            "AddPortMapping",
            {
                "NewRemoteHost": "",
                "NewExternalPort": external,
                "NewProtocol": "UDP",
                "NewInternalPort": port,
                "NewInternalClient": self._own,
                "NewEnabled": 1,
                "NewPortMappingDescription": "wgpy",
                "NewLeaseDuration": lifetime,
            },
        )
        return answer.get("errorCode")

    async def remove(self, external: int) -> None:
        """Give a port back. Raises NoGateway."""
        await self._act(
            "DeletePortMapping", {"NewRemoteHost": "", "NewExternalPort": external, "NewProtocol": "UDP"}
        )

    async def _act(self, action: str, arguments: dict[str, object]) -> dict[str, str]:
        headers, body = encode_action(self._control, action, arguments)
        try:
            return parse_action_untrusted(await _request("POST", self._control.url, headers, body))
        except InvalidMessage as error:
            raise NoGateway(f"it answers no SOAP: {error}") from None


async def search(address: IPv4Address, own: IPv4Address) -> Gateway:
    """The device at the router's `address`, asked from our `own`. Raises NoGateway."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            await udp.bind((str(own), 0))
            for request in encode_searches():
                # Some answer what is sent to them alone, some to everybody; who else answers is passed over.
                for target in (str(address), str(SEARCH_ENDPOINT.address)):
                    await udp.sendto(request, (target, SEARCH_ENDPOINT.port))
        except OSError as error:
            raise NoGateway(f"cannot search: {error.strerror}") from None
        with trio.move_on_after(SEARCH_TIME):
            while True:
                with contextlib.suppress(InvalidMessage, OSError):
                    data, source = await udp.recvfrom(2048)
                    if source[0] != str(address):
                        continue
                    location = parse_location_untrusted(data, address)
                    description = await _request("GET", location, {}, b"")
                    return Gateway(address, parse_description_untrusted(description, location, address), own)
    raise NoGateway("no device answers")


async def _request(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    """The body of the answer, whatever its status: refusals are SOAP too. Raises NoGateway."""
    parts = urlsplit(url)
    address, port = ipaddress.ip_address(parts.hostname or ""), parts.port or 80
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_DOCUMENT)
    fields = [("Host", parts.netloc), ("Connection", "close"), ("Content-Length", str(len(body)))]
    request = h11.Request(method=method, target=target or "/", headers=[*fields, *headers.items()])
    try:
        with trio.fail_after(REQUEST_TIMEOUT):
            async with await trio.open_tcp_stream(str(address), port) as stream:
                data = connection.send(request) or b""
                data += connection.send(h11.Data(data=body)) or b""
                await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
                return await _read(connection, stream)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError, h11.ProtocolError) as error:
        raise NoGateway(f"{url}: {error or 'no answer'}") from None


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> bytes:
    found = bytearray()
    while len(found) <= MAX_DOCUMENT:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(16384)))
        elif isinstance(event, h11.Data):
            found += event.data
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return bytes(found)
    raise NoGateway(f"an answer of more than {MAX_DOCUMENT} octets")
