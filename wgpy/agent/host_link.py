"""The mesh's interface on this host: a plan's steps carried out on the device and by netlink."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Callable, Sequence, Set
from typing import Final
from urllib.parse import urlsplit

from wgpy.addresses import Endpoint, IPAddress, Prefix, host_prefix
from wgpy.agent import plan
from wgpy.agent.client_filter import clients_interface
from wgpy.agent.plan import PeerSetting, Setting
from wgpy.clock import boottime
from wgpy.device import Device
from wgpy.errors import HostError
from wgpy.keys import PublicKey
from wgpy.mesh.consent import Surroundings
from wgpy.netlink import RT_TABLE_MAIN, Netlink, NetlinkError, Route
from wgpy.netlink.monitor import Change, RouteChanged
from wgpy.protocol.actions import Origin

logger = logging.getLogger(__name__)

_HOST_STEPS: Final = (
    plan.SetMtu,
    plan.AddAddress,
    plan.RemoveAddress,
    plan.AddRoute,
    plan.RemoveRoute,
)
_TUNNELS: Final = ("tun", "wireguard")
"""Kinds of links whose ranges are known by their routes and not by their addresses."""


class HostLink:
    """Knows what of the interface is ours: peers that somebody added with `wg set` are left alone.

    `problems` is what the host refused of the last plan, in sentences, by step.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._peers: set[PublicKey] = set()
        self._keepalives: dict[PublicKey, int] = {}
        self._quiet: frozenset[PublicKey] = frozenset()
        self._addresses: tuple[IPAddress, ...] = ()
        self._routes: frozenset[Prefix] = frozenset()
        self.problems: dict[object, str] = {}

    def present(self) -> Setting:
        """How the interface and its link are now, as far as they are ours: what somebody took away is not."""
        interface, engine = self._device.interface, self._device.engine
        with Netlink() as netlink:
            index = self._index(netlink)
            there = {address.address.ip for address in netlink.addresses(index)}
            routes = [*netlink.routes(4, interface=index), *netlink.routes(6, interface=index)]
        self._addresses = tuple(address for address in self._addresses if address in there)
        self._routes &= {route.prefix for route in routes}
        peers = {
            key: PeerSetting(frozenset(engine.allowed_ips(peer.id)), self._keepalives.get(key, 0))
            for key, peer in interface.peers.items()
            if key in self._peers
        }
        return Setting(self._device.mtu, self._addresses, self._routes, peers)

    def index(self) -> int:
        """Our interface's. Raises HostError when it is gone."""
        with Netlink() as netlink:
            return self._index(netlink)

    def _index(self, netlink: Netlink) -> int:
        link = netlink.find_link(self._device.name)
        if link is None:
            raise HostError(f"{self._device.name}: the interface was deleted")
        return link.index

    def apply(self, steps: Sequence[plan.Step]) -> None:
        """Carry out the steps, each for itself: what the host refuses is kept in `problems` and told."""
        self.problems = {step: text for step, text in self.problems.items() if step in steps}
        if not steps:
            return
        with Netlink() as netlink:
            index = self._index(netlink)
            for step in steps:
                try:
                    if isinstance(step, _HOST_STEPS):
                        self._apply_to_host(step, netlink, index)
                    else:
                        self._apply_to_interface(step)
                except NetlinkError as error:
                    self._note(step, str(error), error.errno)
                else:
                    self.problems.pop(step, None)
        self._device.changed()

    def _note(self, step: plan.Step, text: str, number: int) -> None:
        match step:
            case plan.AddRoute(prefix) if number == errno.EEXIST:
                text = f"another route to {prefix} is there already; the mesh does not replace it"
            case plan.AddAddress(address) if address.version == 6 and number in (errno.EACCES, errno.EPERM):
                text = f"IPv6 is switched off on this host: {address} is not set"
            case plan.AddRoute(prefix) if prefix.version == 6 and number in (errno.EACCES, errno.EPERM):
                text = f"IPv6 is switched off on this host: no route to {prefix}"
        if self.problems.get(step) != text:
            logger.warning("%s: %s", self._device.name, text)
        self.problems[step] = text

    def _apply_to_host(self, step: plan.Step, netlink: Netlink, index: int) -> None:
        match step:
            case plan.SetMtu(mtu):
                netlink.set_link(index, mtu=mtu)
            case plan.AddAddress(address):
                netlink.add_address(index, ipaddress.ip_interface(host_prefix(address)))
                self._addresses = (*self._addresses, address)
            case plan.RemoveAddress(address):
                netlink.delete_address(index, ipaddress.ip_interface(host_prefix(address)))
                self._addresses = tuple(other for other in self._addresses if other != address)
            case plan.AddRoute(prefix):
                netlink.add_route(Route(prefix, index))
                self._routes |= {prefix}
            case plan.RemoveRoute(prefix):
                netlink.delete_route(Route(prefix, index))
                self._routes -= {prefix}

    def _apply_to_interface(self, step: plan.Step) -> None:
        interface, now = self._device.interface, boottime()
        match step:
            case plan.RenamePeer(old, new):
                if interface.rename_peer(old, new, now) and old in self._peers:
                    self._peers = self._peers - {old} | {new}
                    self._keepalives[new] = self._keepalives.pop(old, 0)
            case plan.RemovePeer(key):
                interface.remove_peer(key, now)
                self._peers.discard(key)
                self._keepalives.pop(key, None)
            case plan.RemoveAllowedIps(key, prefixes):
                interface.remove_allowed_ips(interface.peers[key], prefixes, now)
            case plan.AddAllowedIps(key, prefixes):
                interface.add_allowed_ips(interface.peers[key], prefixes, now)
            case plan.SetKeepalive(key, seconds):
                self._keepalives[key] = seconds
                if interface.peers[key].persistent_keepalive:
                    interface.set_persistent_keepalive(interface.peers[key], seconds, now)
            case plan.AddPeer(key, setting):
                added = interface.add_peer(key, now)
                if added is None:
                    return  # our own key, in another node's record
                self._peers.add(key)
                interface.set_agent(added, True, now)
                interface.replace_allowed_ips(added, setting.allowed_ips, now)
                self._keepalives[key] = setting.keepalive

    def use_path(self, key: PublicKey, endpoint: Endpoint, also: Sequence[Endpoint]) -> None:
        """Send to the peer there, and by each of `also` too."""
        interface, engine, now = self._device.interface, self._device.engine, boottime()
        peer = interface.peers[key]
        if peer.endpoint != endpoint:
            interface.set_endpoint(peer, endpoint, now)
        engine.set_paths(peer.id, Origin(endpoint) if also else None, [Origin(other) for other in also])
        self.start_keepalives(key)
        self._device.changed()

    def initiate(self, key: PublicKey) -> None:
        """Look for a peer; in a network without keepalives, when there is something to send."""
        self.start_keepalives(key)
        if self._keepalives.get(key):
            interface = self._device.interface
            interface.initiate(interface.peers[key], boottime())
        self._device.changed()

    def set_quiet(self, keys: Set[PublicKey]) -> None:
        """To these no keepalives are sent, whatever the map says; to all others as it says."""
        changed, self._quiet = self._quiet ^ keys, frozenset(keys)
        for key in changed & self._device.interface.peers.keys():
            if key in keys or self._device.interface.peers[key].endpoint is not None:
                self.start_keepalives(key)

    def start_keepalives(self, key: PublicKey) -> None:
        """For a peer that has an endpoint by now. Without one they would ask for an initiation that has
        nowhere to go, and that closes the gate on the one that has (REKEY_TIMEOUT).
        """
        peer = self._device.interface.peers[key]
        seconds = 0 if key in self._quiet else self._keepalives.get(key, 0)
        if peer.persistent_keepalive != seconds:
            self._device.interface.set_persistent_keepalive(peer, seconds, boottime())
            self._device.changed()


def concerns_us(change: Change) -> bool:
    """Whether it is worth a look around. Routes by a gateway, of which a router learns thousands, are not."""
    return not isinstance(change, RouteChanged) or change.route.gateway is None


def look_around(
    own_interface: str,
    coordinators: Sequence[IPAddress],
    describe_tunnel: Callable[[str], str] = lambda interface: interface,
) -> Surroundings:
    """What the host has of its own: the prefixes of its other interfaces, what other tunnels are routed, and
    where its coordinator is. `describe_tunnel` says whose a tunnel is, by its interface.
    """
    ours = ("lo", own_interface, clients_interface(own_interface))
    with Netlink() as netlink:
        links = {link.index: link for link in netlink.links() if link.name not in ours}
        connected = [
            (address.address.network, links[address.index].name)
            for address in netlink.addresses()
            if address.index in links
        ]
        for link in links.values():
            if link.kind in _TUNNELS:
                routes = [*netlink.routes(4, interface=link.index), *netlink.routes(6, interface=link.index)]
                whose = describe_tunnel(link.name)
                connected += [(route.prefix, whose) for route in routes if route.table == RT_TABLE_MAIN]
    own = [(prefix, name) for prefix, name in connected if prefix.prefixlen and not _is_special(prefix)]
    return Surroundings(tuple(dict.fromkeys(own)), tuple(coordinators))


def _is_special(prefix: Prefix) -> bool:
    return prefix.is_link_local or prefix.is_multicast or prefix.is_loopback


def literal_address(url: str) -> IPAddress | None:
    """The address in a URL whose host is none but that."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None
