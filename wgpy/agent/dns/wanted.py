"""What is to be answered on this host, and who is asked for the rest, of a map and choices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from wgpy.addresses import IPAddress, Prefix, is_inside
from wgpy.agent.choices import LocalChoices
from wgpy.agent.dns.outward import ExitNames
from wgpy.agent.dns.zone import Zone
from wgpy.agent.state_file import State
from wgpy.mesh.consent import ClippedMap
from wgpy.mesh.encoding import MalformedMessage
from wgpy.mesh.ingress import read_mark
from wgpy.mesh.names import NetworkNames
from wgpy.mesh.netmap import Map, Network, Node


def own_addresses(state: State, clipped: ClippedMap) -> list[IPAddress]:
    """Where we answer."""
    return [prefix.network_address for prefix in state.addresses if clipped.grant.covers(prefix)]


def make_zone(state: State, netmap: Map, clipped: ClippedMap, urls: Iterable[str]) -> tuple[Zone, str]:
    """What is answered, and why an admin's names are not, in a sentence. `urls` are the coordinator's."""
    network = netmap.network
    nodes = {peer.node.name: peer.addresses for peer in clipped.peers.values()}
    problem = ""
    try:
        names = network.names
    except MalformedMessage as error:
        names, problem = NetworkNames(), str(error)
    zone = Zone.of(
        network.suffix,
        clipped.grant.ranges,
        {**nodes, state.node_name: own_addresses(state, clipped)},
        records=names.records,
        clients=_client_names(netmap, clipped),
        domains=[each for each in names.domains if each.domain in state.choices.accepted_domains],
        never=_hosts(urls),
    )
    return zone, problem


def _client_names(netmap: Map, clipped: ClippedMap) -> dict[str, list[IPAddress]]:
    """External clients, as their gateways' entries have them."""
    gateways = [peer.node for peer in clipped.peers.values()]
    if isinstance(netmap.self_node, Node):
        gateways.append(netmap.self_node)
    found: dict[str, list[IPAddress]] = {}
    for mark in filter(None, (read_mark(node.extra) for node in gateways)):
        for name, prefixes in mark.names.items():
            found[name] = [
                prefix.network_address
                for prefix in prefixes
                if clipped.grant.covers(prefix) and any(is_inside(prefix, range_) for range_ in mark.ranges)
            ]
    return found


def exit_names(choices: LocalChoices, clipped: ClippedMap, lan: Sequence[Prefix]) -> ExitNames | None:
    """The node by which all else leaves; None: none is to be. `lan` is what this host reaches itself."""
    wanted = choices.exit_node
    if not wanted:
        return None
    nodes = clipped.peers.values()
    found = next((peer for peer in nodes if wanted in (peer.node.name, peer.node.id)), None)
    name, servers = (wanted, ()) if found is None else (found.node.name, found.addresses)
    return ExitNames(name, servers, tuple(lan), choices.keeps_lan, choices.kill_switch)


def hosts_outside(network: Network, urls: Iterable[str]) -> list[str]:
    """The names that our own packets outside of the tunnel need: the coordinator's and the relays'."""
    relays = [host.rpartition(":")[0] for relay in network.relays for host in relay.hosts]
    return [*_hosts([*urls, *(relay.url for relay in network.relays if relay.url)]), *relays]


def _hosts(urls: Iterable[str]) -> list[str]:
    return [urlsplit(url).hostname or "" for url in urls]
