"""What `--dry-run` shows: the steps that a start, or a change of choices, would take on this host."""

from __future__ import annotations

from collections.abc import Mapping

from wgpy.agent import plan
from wgpy.agent.host_link import HostLink, look_around
from wgpy.agent.host_part import HostPart
from wgpy.agent.plan import PeerSetting, Setting, make_plan, wanted_setting
from wgpy.agent.state_file import State
from wgpy.host.footprint import Footprint
from wgpy.host.setting import NOTHING
from wgpy.host.steps import make_steps
from wgpy.keys import PublicKey
from wgpy.mesh.consent import Surroundings, clip
from wgpy.mesh.gateways import GatewayChoice
from wgpy.mesh.netmap import Map


def preview_start(state: State) -> list[str]:
    """Of a network that does not run, from the map that it has last seen. Raises HostError."""
    around = look_around(state.interface, ())
    netmap = Map.of(state.network, None, {}) if state.held is None else state.held.map
    lines = [f"make the interface {state.interface}, listening on UDP port {state.listen_port or 'any'}"]
    lines += link_lines(state, netmap, around, Setting(netmap.network.mtu))
    part = HostPart(state.name, state.interface)
    own = [address.network_address for address in state.addresses]
    wanted = part.wanted(state.choices, netmap.self_node, netmap.network.ranges, own, index=0)
    lines += [str(step) for step in make_steps(NOTHING, wanted)]
    return [*lines, *(f"note: {problem}" for problem in part.problems())]


def preview_change(
    state: State, netmap: Map, around: Surroundings, link: HostLink, footprint: Footprint
) -> list[str]:
    """Of a network that runs, with other choices. Raises HostError."""
    lines = link_lines(state, netmap, around, link.present())
    part = HostPart(state.name, state.interface)
    own = [address.network_address for address in state.addresses]
    wanted = part.wanted(state.choices, netmap.self_node, netmap.network.ranges, own, index=link.index())
    return [*lines, *map(str, footprint.plan(wanted))]


def link_lines(state: State, netmap: Map, around: Surroundings, present: Setting) -> list[str]:
    """What would be changed on our own link and its peers, a line each; and what of the map is not taken."""
    gateways = GatewayChoice().choose(netmap, lambda _node_id: False, 0.0)
    clipped = clip(netmap, state.choices.consent, around, state.addresses, {}, gateways)
    wanted = wanted_setting(netmap.network, clipped, state.addresses, state.choices)
    names = {granted.node.record.wireguard_key: granted.node.name for granted in clipped.peers.values()}
    lines = [describe(step, state.interface, names) for step in make_plan(present, wanted)]
    refused = [*clipped.grant.refused, *(each for peer in clipped.peers.values() for each in peer.refused)]
    return [*lines, *(f"left out: {each}" for each in refused)]


def describe(step: plan.Step, interface: str, names: Mapping[PublicKey, str]) -> str:
    """A step in words."""
    match step:
        case plan.AddPeer(key, PeerSetting(allowed_ips, _)):
            ranges = ", ".join(map(str, sorted(allowed_ips, key=str)))
            return f"add the peer {names.get(key, key)} with {ranges}"
        case plan.RenamePeer(old, new):
            return f"go on with the peer {names.get(new, old)} under its new key {new}"
        case plan.RemovePeer(key):
            return f"remove the peer {names.get(key, key)}"
        case plan.AddAllowedIps(key, prefixes):
            return f"let {names.get(key, key)} have {', '.join(map(str, prefixes))}"
        case plan.RemoveAllowedIps(key, prefixes):
            return f"take {', '.join(map(str, prefixes))} from {names.get(key, key)}"
        case plan.SetKeepalive(key, seconds):
            return f"send {names.get(key, key)} keepalives every {seconds} s"
        case plan.SetMtu(mtu):
            return f"set the MTU of {interface} to {mtu}"
        case plan.AddAddress(address):
            return f"add the address {address} to {interface}"
        case plan.RemoveAddress(address):
            return f"remove the address {address} from {interface}"
        case plan.AddRoute(prefix):
            return f"add the route {prefix} by {interface}"
        case plan.RemoveRoute(prefix):
            return f"remove the route {prefix} by {interface}"
