"""Whom a request comes from when a proxy passes it on: for limits, the audit log and endpoints of nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.api.edge import problem
from coordinator.errors import Refusal
from wgpy.addresses import IPAddress, Prefix

_HOPS: Final = 16
"""Entries of X-Forwarded-For that are looked at, from the end."""


class BehindProxies:
    """Takes X-Forwarded-For from connections out of `trusted` ranges alone: its last entry that is no trusted
    proxy itself. With `only`, TLS ends at the proxies, and nobody else is answered but this host itself.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Prefix], *, only: bool) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._only = only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            client = scope.get("client")
            nearest = _parse(client[0]) if client else None
            if nearest is not None and self._is_trusted(nearest):
                scope["client"] = (str(self._origin(scope, nearest)), 0)
            elif self._only and not (nearest is not None and nearest.is_loopback):
                refusal = Refusal("forbidden", "this port answers the proxies in front of it alone")
                await problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address in prefix for prefix in self._trusted if prefix.version == address.version)

    def _origin(self, scope: Scope, nearest: IPAddress) -> IPAddress:
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = b",".join(values).decode("latin-1").split(",")[-_HOPS:]
        for hop in reversed(hops):
            address = _parse(hop)
            if address is None:
                break  # what a trusted proxy did not write is not to be believed
            nearest = address
            if not self._is_trusted(address):
                break
        return nearest


def _parse(text: str) -> IPAddress | None:
    """An address, also with brackets or a port, as proxies write it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
