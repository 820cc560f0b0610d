"""The fast lane of one network: where its nodes are and which are online. Pure; no part of the map or its
hash.

Of two reports the larger (boot counter, sequence) counts, whenever it comes. A node is online while its lease
lasts: a stream renews it, a check-in gives one, a broken stream leaves a short one, so that a reconnect makes
no noise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, ip_network
from typing import Final

from wgpy.addresses import Endpoint, IPAddress, Prefix
from wgpy.mesh.encoding import MAX_ENDPOINTS, encode_json
from wgpy.mesh.frames import Presence, PresenceFrame
from wgpy.mesh.paths import PathKind, kind_of

_CARRIER: Final = IPv4Network("100.64.0.0/10")
"""Between a carrier's NAT and its customers (RFC 6598)."""

LEASE: Final = 45.0
"""Seconds for which a node counts as online after it was heard."""

GRACE: Final = 5.0
"""Seconds that a broken stream leaves of its lease."""

_REWRITE: Final = 20.0
"""A lease is written again when it ends this much later than what is written."""

AHEAD: Final = 300.0
"""Seconds that a lease is written longer than it is, where no other process reads it: ten thousand quiet
streams then cost 30 rows a second in place of 400.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a node said last."""

    boot: int
    sequence: int
    endpoints: tuple[Endpoint, ...]
    at: float


@dataclass(slots=True)
class _Node:
    report: Report | None = None
    online: bool = False
    until: float = 0.0
    until_elsewhere: float = 0.0
    written_until: float = 0.0
    version: int = 0

    @property
    def presence(self) -> Presence:
        return Presence(() if self.report is None else self.report.endpoints, self.online)


class PresenceLane:
    """`version` goes up with each change that others should hear of."""

    def __init__(
        self, reports: dict[str, Report], until: dict[str, float], now: float, ahead: float = 0.0
    ) -> None:
        """`ahead`: how many seconds longer leases are written than they are; what is read is cut again."""
        self.version = 1
        self._ahead = ahead
        self._ended: set[str] = set()
        self._nodes: OrderedDict[str, _Node] = OrderedDict()  # by the version of their last change
        self._unwritten: dict[str, Report] = {}
        self._unwritten_leases: set[str] = set()
        for node_id in reports.keys() | until.keys():
            end = min(until.get(node_id, 0.0), now + LEASE)
            self._nodes[node_id] = _Node(reports.get(node_id), end > now, end, end, 1)

    def report(self, node_id: str, report: Report) -> None:
        """Take what a node said, unless it said something newer before."""
        if self._take(node_id, report):
            self._unwritten[node_id] = report  # else the row is right as it stands: no write per check-in
            self.touch(node_id)

    def _take(self, node_id: str, report: Report) -> bool:
        """Whether its endpoints are others than before."""
        node = self._node(node_id)
        before = node.report
        if before is not None and (before.boot, before.sequence) >= (report.boot, report.sequence):
            return False
        node.report = report
        return before is None or before.endpoints != report.endpoints

    def hear(self, node_id: str, now: float) -> None:
        """The node is there."""
        node = self._node(node_id)
        node.until = now + LEASE
        self._ended.discard(node_id)
        if node.until > node.written_until + _REWRITE:
            self._unwritten_leases.add(node_id)
        if not node.online:
            node.online = True
            self.touch(node_id)

    def hang_up(self, node_id: str, now: float) -> None:
        """Its last stream broke."""
        node = self._nodes.get(node_id)
        if node is not None and node.until > now + GRACE:
            node.until = now + GRACE
            self._end(node_id)

    def _end(self, node_id: str) -> None:
        """What is written is longer than the truth."""
        self._ended.add(node_id)
        self._unwritten_leases.add(node_id)

    def expire(self, now: float) -> None:
        """Who was not heard for the length of a lease is offline."""
        for node_id, node in list(self._nodes.items()):
            if node.online and max(node.until, node.until_elsewhere) <= now:
                node.online = False
                self.touch(node_id)
                if node.written_until > now:
                    self._end(node_id)

    def learn(self, reports: dict[str, Report], until: dict[str, float], now: float) -> None:
        """What other processes have written: newer reports, and the last end of the leases they hold."""
        for node_id, report in reports.items():
            if self._take(node_id, report):
                self.touch(node_id)
        for node_id, end in until.items():
            node = self._node(node_id)
            node.until_elsewhere = end
            if end > now and not node.online:
                node.online = True
                self.touch(node_id)

    def touch(self, node_id: str) -> None:
        """Others are to hear of this node."""
        if node_id in self._nodes:
            self.version += 1
            self._nodes[node_id].version = self.version
            self._nodes.move_to_end(node_id)

    def forget(self, node_id: str) -> None:
        """The node was removed."""
        self._nodes.pop(node_id, None)
        self._unwritten.pop(node_id, None)
        self._unwritten_leases.discard(node_id)
        self._ended.discard(node_id)

    def _node(self, node_id: str) -> _Node:
        if node_id not in self._nodes:
            self._nodes[node_id] = _Node()
        return self._nodes[node_id]

    def presence_of(self, node_id: str) -> Presence:
        return self._nodes[node_id].presence if node_id in self._nodes else Presence((), False)

    def complete(self, peers: Iterable[str]) -> PresenceFrame:
        """All of them that were ever heard."""
        found = {id_: self._nodes[id_].presence for id_ in peers if id_ in self._nodes}
        return PresenceFrame(True, found)

    def since(self, version: int, is_peer: Callable[[str], bool]) -> PresenceFrame:
        """Those that changed after `version`."""
        found = {}
        for node_id, node in reversed(self._nodes.items()):
            if node.version <= version:
                break
            if is_peer(node_id):
                found[node_id] = node.presence
        return PresenceFrame(False, found)

    @property
    def is_dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._unwritten or self._unwritten_leases)

    def drain_unwritten(self) -> tuple[dict[str, Report], dict[str, float]]:
        """Reports, and ends of leases, that the database does not have yet."""
        reports, self._unwritten = self._unwritten, {}
        leases = {}
        for node_id in self._unwritten_leases:
            node = self._nodes[node_id]
            ahead = 0.0 if node_id in self._ended else self._ahead
            leases[node_id] = node.written_until = node.until + ahead
        self._unwritten_leases = set()
        return reports, leases


def presence_line(frame: PresenceFrame) -> bytes:
    return encode_json(frame.to_json()) + b"\n"


def usable_endpoints(
    observed: IPAddress | None,
    listen_port: int,
    reported: Iterable[Endpoint],
    proven: Iterable[IPAddress] = (),
) -> tuple[Endpoint, ...]:
    """What others may try, the likeliest first: nothing that cannot be another host's, nor a stranger's.
    `proven`: addresses of which the node has receipts.

    The address that we saw is the likeliest, with the ports that the node says it has there, else with the
    tunnel's own. A node that we saw on loopback shares our host: that address, of use to others there, comes
    last.
    """
    told = dict.fromkeys(Endpoint(_unmapped(endpoint.address), endpoint.port) for endpoint in reported)
    seen = None if observed is None else Endpoint(_unmapped(observed), listen_port)
    there = [endpoint for endpoint in told if seen is not None and endpoint.address == seen.address]
    guess = [seen] if seen is not None and not there else []
    found = dict.fromkeys((*guess, *there, *told))
    sites = {_site_of(_unmapped(address)) for address in proven}
    usable = [
        endpoint
        for endpoint in found
        if _is_reachable(endpoint.address) and not _is_foreign(endpoint.address, seen, sites)
    ]
    if seen is not None and seen.address.is_loopback:
        usable = [*usable[: MAX_ENDPOINTS - 1], seen]
    return tuple(usable[:MAX_ENDPOINTS])


def unproven_endpoints(reported: Iterable[Endpoint], usable: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Public ones that the node reported and others are not told of."""
    told = set(usable)
    plain = (Endpoint(_unmapped(endpoint.address), endpoint.port) for endpoint in reported)
    return tuple(
        one for one in plain if one not in told and _is_reachable(one.address) and not is_private(one.address)
    )


def _is_foreign(address: IPAddress, seen: Endpoint | None, proven: Container[Prefix]) -> bool:
    """A public address where the node itself was never seen, by us or by STUN: perhaps a victim's, whom the
    others are to flood. Nothing can be said of a node that is seen in our own private network.
    """
    if seen is None or is_private(address) or is_private(seen.address):
        return False
    return _site_of(address) != _site_of(seen.address) and _site_of(address) not in proven


def _site_of(address: IPAddress) -> Prefix:
    """The address alone, or the /64 of an IPv6 one: one link, and an address for each purpose."""
    return ip_network((address, 64 if isinstance(address, IPv6Address) else 32), strict=False)


def is_private(address: IPAddress) -> bool:
    """Not one of the internet: nobody outside its own network can be sent to there."""
    return address.is_loopback or address in _CARRIER or kind_of(Endpoint(address, 1)) is PathKind.LAN


def _unmapped(address: IPAddress) -> IPAddress:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_reachable(address: IPAddress) -> bool:
    return not (
        address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local
    ) and (address.version == 6 or int(address) >> 24 not in (0, 255))
