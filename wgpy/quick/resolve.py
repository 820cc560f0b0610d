"""Endpoints that are names: looked up once, when the tunnel comes up, as wg(8) does."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Final

import trio

from wgpy.addresses import Endpoint
from wgpy.config import NamedEndpoint, TunnelConfig
from wgpy.errors import ConfigError, HostError

logger = logging.getLogger(__name__)

TRIES: Final = 15
"""A host that boots may have no name service yet; 15 tries take a minute."""

_FINAL: Final = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_FAIL", "EAI_NODATA") if hasattr(socket, name)
)
"""Answers that will not be better in a second."""


async def resolve_endpoints(
    config: TunnelConfig, source: str, say: Callable[[str], None]
) -> dict[NamedEndpoint, Endpoint]:
    """Every named endpoint of the file. Raises ConfigError (there is no such name), HostError (no answer)."""
    found: dict[NamedEndpoint, Endpoint] = {}
    for peer in config.peers:
        named = peer.endpoint
        if isinstance(named, NamedEndpoint) and named not in found:
            try:
                found[named] = await _resolve(named, say)
            except ConfigError as error:
                raise ConfigError(str(error), source=source, line=peer.line) from None
    return found


async def _resolve(named: NamedEndpoint, say: Callable[[str], None]) -> Endpoint:
    pause = 1.0
    for attempt in range(1, TRIES + 1):
        try:
            answer = await trio.socket.getaddrinfo(named.host, named.port, type=socket.SOCK_DGRAM)
        except socket.gaierror as error:
            if error.errno in _FINAL:
                raise ConfigError(
                    f"an endpoint's name has an address; {named.host}: {error.strerror}"
                ) from None
            if attempt == TRIES:
                raise HostError(f"cannot look up {named.host}: {error.strerror}") from None
            say(f"cannot look up {named.host} yet ({error.strerror}); trying again in {pause:.0f} s")
            await trio.sleep(pause)
            pause *= 1.2
            continue
        address = answer[0][4]
        scope_id = int(address[3]) if len(address) == 4 else 0
        host = str(address[0]).partition("%")[0]
        logger.debug("%s is %s", named.host, host)
        return Endpoint(ipaddress.ip_address(host), named.port, scope_id)
    raise AssertionError("the last try returns or raises")
