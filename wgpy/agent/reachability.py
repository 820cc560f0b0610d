"""How this host is seen from outside, in words: what `wgpy netcheck` says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from wgpy.addresses import Endpoint
from wgpy.agent.checks import Finding, Verdict
from wgpy.mesh.discovery import FAMILIES, Family, View
from wgpy.mesh.discovery import Mapping as NatMapping
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.portmap import PortMapping

_FORWARD: Final = "forward a UDP port on the router, and start with --listen-port and --endpoint"


def describe_reachability(
    views: Mapping[Family, View],
    own: Iterable[Endpoint],
    asked: Iterable[Endpoint],
    *,
    has_port: bool = False,
) -> list[Finding]:
    """A finding for each family over which a server could be asked, and what it means for paths.

    `own`: the addresses of our interfaces with the tunnel's port; `asked`: the servers; `has_port`: the
    router has a port mapped to ours."""
    local, servers = list(own), list(asked)
    found = [_describe_family(family, views[family], local, servers) for family in FAMILIES]
    return [*found, _describe_paths(views, has_port)]


def _describe_family(family: Family, view: View, own: list[Endpoint], servers: list[Endpoint]) -> Finding:
    check = f"UDP over IPv{family}"
    count = sum(server.address.version == family for server in servers)
    if view.endpoint is not None:
        return Finding(check, Verdict.GOOD, f"works; seen as {view.endpoint}{_describe_mapping(view)}")
    if not count:
        return Finding(check, Verdict.NOTE, "no server to be asked")
    if not any(endpoint.address.version == family for endpoint in own):
        return Finding(check, Verdict.NOTE, f"this host has no IPv{family} address that others could reach")
    if view.mapping is NatMapping.BLOCKED:
        many = f"any of {count} servers" if count > 1 else "the server"
        return Finding(
            check, Verdict.NOTE, f"no answer from {many}: UDP is blocked on the way, or nothing is routed"
        )
    return Finding(check, Verdict.NOTE, "not asked yet")


def _describe_mapping(view: View) -> str:
    match view.mapping:
        case NatMapping.NONE:
            return ", its own address: no NAT"
        case NatMapping.INDEPENDENT:
            return ", by a NAT that has one port for all destinations"
        case NatMapping.DEPENDENT:
            ports = ", ".join(str(seen) for _, seen in view.seen[1:3])
            return f" and {ports}: by a symmetric NAT, with another port for each destination"
    return ", by one server"


def describe_port_mapping(mapping: PortMapping | None, reason: str) -> Finding:
    """`reason`: why there is none."""
    if mapping is None:
        return Finding("port mapping", Verdict.NOTE, f"none: {reason}")
    return Finding("port mapping", Verdict.GOOD, f"{mapping.external} leads here, by {mapping.method}")


def _describe_paths(views: Mapping[Family, View], has_port: bool) -> Finding:
    mappings = {view.mapping for view in views.values()}
    check = "direct paths"
    if has_port and views[4].mapping is not NatMapping.BLOCKED:
        return Finding(
            check, Verdict.GOOD, "with every node that UDP reaches, by the port mapped on the router"
        )
    if mappings & {NatMapping.NONE, NatMapping.INDEPENDENT}:
        text = "with every node that UDP reaches, but behind a symmetric NAT only if ours admits any port"
        return Finding(check, Verdict.GOOD, text)
    if NatMapping.DEPENDENT in mappings:
        text = "in the same LAN, and with nodes whose NAT admits any port; others by a relay"
        return Finding(
            check,
            Verdict.NOTE,
            text,
            f"for more, allow port mapping (UPnP, NAT-PMP) on the router, or {_FORWARD}",
        )
    if NatMapping.UNKNOWN in mappings and any(view.seen for view in views.values()):
        return Finding(
            check, Verdict.NOTE, "likely; a single server answered, which cannot tell the kind of NAT"
        )
    return Finding(check, Verdict.NOTE, "in the same LAN alone; others by a relay", "let UDP out")


def reachability_to_json(
    views: Mapping[Family, View], findings: Iterable[Finding], mapping: PortMapping | None = None
) -> JsonObject:
    """`views` has by family `nat` (unknown, blocked, none, endpoint-independent, symmetric), `endpoint` and
    `seen`.
    """
    return {
        "views": {
            f"ipv{family}": {
                "nat": view.mapping.value,
                "endpoint": None if view.endpoint is None else str(view.endpoint),
                "seen": [{"server": str(server), "as": str(seen)} for server, seen in view.seen],
            }
            for family, view in views.items()
        },
        "port_mapping": None
        if mapping is None
        else {"method": mapping.method, "endpoint": str(mapping.external)},
        "findings": [finding.to_json() for finding in findings],
    }
