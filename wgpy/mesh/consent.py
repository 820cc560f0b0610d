"""What a node lets its coordinator do: the map is untrusted input, clipped to what was agreed to here.

Granted without asking are the network's ranges in private space that touch nothing of the host's own.
Anything else needs a local choice (`wgpy up --accept RANGE`, kept in the state file). A few things no
choice can grant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import IPAddress, Prefix, host_prefix, is_inside
from wgpy.mesh.forward import is_default
from wgpy.mesh.gateways import exit_nodes
from wgpy.mesh.ingress import read_mark
from wgpy.mesh.netmap import Map, Node, UnreadableNode
from wgpy.mesh.record import Record

_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)

_NEVER: Final = tuple(
    (ipaddress.ip_network(text), why)
    for text, why in (
        ("0.0.0.0/8", "this host itself"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved and broadcast"),
        ("::/127", "loopback"),
        ("::ffff:0:0/96", "IPv4 in another dress"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen on this host, by hand. `accepted` may be taken though nothing says so, `refused` never;
    `accept_routes`: ranges behind gateways are taken as the network's own are; `exit_node`: the id or name of
    the node that all else leaves by.
    """

    accepted: tuple[Prefix, ...] = ()
    refused: tuple[Prefix, ...] = ()
    accept_routes: bool = True
    exit_node: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host has of its own, and the map may not take.

    `connected`: the prefixes of its other interfaces, with the interface's name for the message;
    `coordinators`: the addresses where its coordinators are."""

    connected: tuple[tuple[Prefix, str], ...] = ()
    coordinators: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a map asked for and that this node does not do, and why, in a sentence."""

    prefix: Prefix
    reason: str

    def __str__(self) -> str:
        return f"{self.prefix} {self.reason}"


@dataclass(frozen=True, slots=True)
class Grant:
    """The ranges of a network that this node routes into it, and those that it does not."""

    ranges: tuple[Prefix, ...]
    refused: tuple[Refusal, ...] = ()

    def covers(self, prefix: Prefix) -> bool:
        return any(is_inside(prefix, granted) for granted in self.ranges)


def grant(wanted: Iterable[Prefix], accepted: Sequence[Prefix], around: Surroundings) -> Grant:
    """Decide on a network's ranges. `accepted` are those that were chosen here, by hand."""
    ranges, refused = [], []
    for prefix in wanted:
        reason = _forbidden(prefix) or _untouchable(prefix, around)
        if reason is None and not any(is_inside(prefix, choice) for choice in accepted):
            reason = _needs_choice(prefix, around)
        if reason is None:
            ranges.append(prefix)
        else:
            refused.append(Refusal(prefix, reason))
    return Grant(tuple(ranges), tuple(refused))


def _forbidden(prefix: Prefix) -> str | None:
    """Why no choice can grant it."""
    if prefix.prefixlen == 0:
        return "is a default route, which a map never sets"
    for never, what in _NEVER:
        if prefix.version == never.version and prefix.overlaps(never):
            return f"overlaps {never} ({what})"
    return None


def _untouchable(prefix: Prefix, around: Surroundings) -> str | None:
    """A route over the coordinator's own address would cut the branch that we sit on."""
    for address in around.coordinators:
        if is_inside(host_prefix(address), prefix):
            return f"contains the coordinator's own address {address}"
    return None


def _needs_choice(prefix: Prefix, around: Surroundings) -> str | None:
    for own, interface in around.connected:
        if prefix.version == own.version and prefix.overlaps(own):
            return f"overlaps {own} of {interface}; to let the mesh have it: wgpy up --accept {prefix}"
    if not any(is_inside(prefix, private) for private in _PRIVATE):
        return f"is not private address space; to let the mesh have it: wgpy up --accept {prefix}"
    return None


@dataclass(frozen=True, slots=True)
class PeerGrant:
    """A peer of a map after clipping: its allowed IPs, and what was cut."""

    node: Node
    allowed_ips: tuple[Prefix, ...]
    refused: tuple[Refusal, ...]

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Its own addresses, of those that it may have."""
        return tuple(
            prefix.network_address for prefix in self.node.record.addresses if prefix in self.allowed_ips
        )


@dataclass(frozen=True, slots=True)
class ClippedMap:
    """A map as far as this node follows it. `skipped` is id → why a whole node is left out."""

    grant: Grant
    peers: Mapping[str, PeerGrant]
    skipped: Mapping[str, str]


def clip(  # noqa: PLR0917 (a map, and all that is known here beside it)
    netmap: Map,
    choices: Choices,
    around: Surroundings,
    own: Sequence[Prefix],
    verified: MutableMapping[str, Record],
    gateways: Mapping[Prefix, str],
) -> ClippedMap:
    """What of `netmap` this node follows. `own` are its own addresses, which no peer can take; `gateways`
    says which node is the gateway of a range (gateways.py).

    A node is left out when its record is another's, is not signed by its machine key, or uses a WireGuard
    key that an earlier node (by id) has; so is one that cannot be read. A prefix that two nodes claim stays
    with the first by id."""
    granted = grant(netmap.network.ranges, choices.accepted, around)
    forwarded, exits = _forwarded_here(netmap), exit_nodes(netmap)
    peers: dict[str, PeerGrant] = {}
    skipped: dict[str, str] = {}
    keys: set[bytes] = set()
    taken: dict[Prefix, str] = dict.fromkeys(own, "this node")
    for node_id in sorted(netmap.peers):
        node = netmap.peers[node_id]
        if isinstance(node, UnreadableNode):
            skipped[node_id] = f"its entry cannot be read: {node.reason}"
        elif node.record.network != netmap.network.id:
            skipped[node_id] = "its record is of another network"
        elif bytes(node.record.wireguard_key) in keys:
            skipped[node_id] = "another node has its WireGuard key"
        elif verified.get(node_id) != node.record and not node.record.verify():
            skipped[node_id] = "its record is not signed by its machine key"
        else:
            keys.add(bytes(node.record.wireguard_key))
            verified[node_id] = node.record
            peer = _clip_peer(node, granted, choices.accepted, around, taken)
            mine = [range_ for range_, gateway in gateways.items() if gateway == node_id]
            mine = [*exits.get(node_id, ()), *(range_ for range_ in mine if range_ not in forwarded)]
            peers[node_id] = _with_clients(_with_ranges(peer, mine, granted, choices, around), mine, granted)
    for node_id in verified.keys() - peers.keys():
        del verified[node_id]
    return ClippedMap(granted, peers, skipped)


def _outside(prefix: Prefix, accepted: Sequence[Prefix], around: Surroundings) -> str | None:
    """Why a prefix outside of the ranges granted is not taken; None: a local choice takes it."""
    reason = _forbidden(prefix) or _untouchable(prefix, around)
    if reason is None and not any(is_inside(prefix, choice) for choice in accepted):
        return "lies in no range of the network that this node follows"
    return reason


def _clip_peer(
    node: Node,
    granted: Grant,
    accepted: Sequence[Prefix],
    around: Surroundings,
    taken: dict[Prefix, str],
) -> PeerGrant:
    allowed, refused = [], []
    for prefix in node.record.addresses:
        reason = None if granted.covers(prefix) else _outside(prefix, accepted, around)
        if reason is None and prefix in taken:
            reason = f"belongs to {taken[prefix]} already"
        if reason is None:
            taken[prefix] = node.name
            allowed.append(prefix)
        else:
            refused.append(Refusal(prefix, reason))
    return PeerGrant(node, tuple(allowed), tuple(refused))


# --- ranges behind gateways -----------------------------------------------------------------------


def _forwarded_here(netmap: Map) -> frozenset[Prefix]:
    """What we forward ourselves: we stand in it, and need no other gateway."""
    mine = netmap.self_node
    if not isinstance(mine, Node):
        return frozenset()
    mark = read_mark(mine.extra)
    clients = () if mark is None else mark.ranges
    return frozenset(
        forward.range
        for forward in mine.forwards
        if forward.range in mine.record.ranges and (forward.elected or forward.range not in clients)
    )


def _clients_of(node: Node) -> frozenset[Prefix]:
    """The ranges of external clients that come in by it."""
    mark = read_mark(node.extra)
    return frozenset(() if mark is None else mark.ranges)


def _with_clients(peer: PeerGrant, ranges: Iterable[Prefix], granted: Grant) -> PeerGrant:
    """The peer with the ranges of external clients for which it is the gateway: inside the network's own, so
    that they are taken as those are. Nodes' addresses in them are longer prefixes and stay theirs.
    """
    pools = [range_ for range_ in ranges if range_ in _clients_of(peer.node)]
    taken = tuple(pool for pool in pools if granted.covers(pool) and pool not in granted.ranges)
    refused = tuple(
        Refusal(pool, f"of external clients at {peer.node.name} is no part of the network's ranges")
        for pool in pools
        if pool not in taken
    )
    return PeerGrant(peer.node, (*peer.allowed_ips, *taken), (*peer.refused, *refused))


def _with_ranges(
    peer: PeerGrant,
    ranges: Iterable[Prefix],
    granted: Grant,
    choices: Choices,
    around: Surroundings,
) -> PeerGrant:
    """The peer with what it is the gateway of, as far as this node lets it."""
    allowed, refused = list(peer.allowed_ips), list(peer.refused)
    clients = _clients_of(peer.node)
    for prefix in ranges:
        if prefix in clients:
            continue
        if is_default(prefix):
            if choices.exit_node in (peer.node.id, peer.node.name):
                allowed.append(prefix)
        elif prefix not in choices.refused:
            reason = range_reason(prefix, peer.node.name, granted, choices, around)
            if reason is None:
                allowed.append(prefix)
            elif reason:
                refused.append(Refusal(prefix, reason))
    return PeerGrant(peer.node, tuple(allowed), tuple(refused))


def range_reason(
    prefix: Prefix, gateway: str, granted: Grant, choices: Choices, around: Surroundings
) -> str | None:
    """Why this node does not route a range to its gateway; "": it chose not to, None: it does."""
    is_accepted = any(is_inside(prefix, choice) for choice in choices.accepted)
    if not is_accepted and not choices.accept_routes:
        return ""
    reason = _forbidden(prefix) or _untouchable(prefix, around)
    if reason is not None:
        return f"behind {gateway} {reason}"
    for own in granted.ranges:
        if prefix.version == own.version and prefix.overlaps(own):
            return f"behind {gateway} overlaps {own}, where the nodes of the network are"
    for own, interface in around.connected:
        if prefix.version == own.version and prefix.overlaps(own):
            if is_inside(prefix, own):
                return (
                    f"behind {gateway} overlaps {own} of {interface} here: two places have the same range; "
                    f"the admin can show it under another: wgpy coordinator gateway add {gateway} {prefix} "
                    "--virtual auto"
                )
            if not is_accepted:
                return (
                    f"behind {gateway} contains {own} of {interface} here; to route the rest of it there: "
                    f"wgpy set --accept {prefix}"
                )
    if not is_accepted and not any(is_inside(prefix, private) for private in _PRIVATE):
        return f"behind {gateway} is not private address space; to route it there: wgpy set --accept {prefix}"
    return None
