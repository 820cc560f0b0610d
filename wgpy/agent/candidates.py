"""Where this node can be found, as far as its own interfaces tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.mesh.encoding import MAX_ENDPOINTS
from wgpy.netlink.address import Address
from wgpy.netlink.link import Link

_CONTAINERS: Final = re.compile(
    r"(docker|virbr|lxcbr|lxdbr|incusbr|cni|cbr|podman|flannel|cali|kube-)\w*|br-[0-9a-f]{12}"
)
"""Bridges of containers and virtual machines on this host: nobody else reaches their addresses. Other bridges
are a router's LAN."""
_TUNNELS: Final = ("tun", "wireguard", "ipip", "sit", "gre", "vti")


def local_endpoints(
    links: Iterable[Link], addresses: Iterable[Address], own_interface: str, port: int
) -> tuple[Endpoint, ...]:
    """The addresses of links that are up, with the port of the tunnel; IPv4 first. Not those of loopback,
    tunnels (the mesh's own before all) and containers' bridges, nor link-local ones.
    """
    usable = {link.index for link in links if link.is_up and _is_usable(link, own_interface)}
    found = [
        Endpoint(address.address.ip, port)
        for address in addresses
        if address.index in usable
        and not (address.address.ip.is_link_local or address.address.ip.is_loopback)
        and not address.address.ip.is_multicast
    ]
    found.sort(key=lambda endpoint: endpoint.address.version)
    return tuple(dict.fromkeys(found))[:MAX_ENDPOINTS]


def describe_unproven(static: Iterable[str], unproven: Container[Endpoint]) -> tuple[str, ...]:
    """For each endpoint that an admin wrote and nobody is told of, a sentence that says so."""
    return tuple(
        f"no peer is told of --endpoint {text}: this host was never seen at that address"
        for text in static
        if Endpoint.parse(text) in unproven
    )


def _is_usable(link: Link, own_interface: str) -> bool:
    return (
        link.name not in ("lo", own_interface)
        and link.kind not in _TUNNELS
        and not _CONTAINERS.fullmatch(link.name)
    )
