"""Which ranges a network may publish behind its nodes, and which of several gateways is the one. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.addresses import RandomSource
from coordinator.netmap import Member
from wgpy.addresses import Prefix
from wgpy.errors import ConfigError
from wgpy.mesh.forward import is_default

EXIT_RANGES: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

_NEVER: Final = tuple(
    (ipaddress.ip_network(text), what)
    for text, what in (
        ("0.0.0.0/8", "this host itself"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/127", "loopback"),
        ("::ffff:0:0/96", "IPv4 in another dress"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)


def parse_range(text: str) -> Prefix:
    """A range to publish, as people write it; what is no network is refused, and the nearest one named.

    Raises ConfigError.
    """
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or "%" in text:
        raise ConfigError(f"a range is ADDRESS/LENGTH, such as 192.168.1.0/24; got {text[:64]!r}")
    if "/" in text and interface.ip != interface.network.network_address:
        raise ConfigError(f"{text[:64]} is an address in {interface.network}: publish {interface.network}")
    return interface.network


def check_range(prefix: Prefix, network_ranges: Sequence[Prefix]) -> None:
    """Whether a gateway may forward it for this network. Raises ConfigError."""
    if prefix.prefixlen == 0:
        raise ConfigError(f"{prefix} is everything there is: to make an exit node, say --exit")
    for never, what in _NEVER:
        if prefix.version == never.version and prefix.overlaps(never):
            raise ConfigError(f"{prefix} overlaps {never} ({what}), which no gateway forwards")
    for own in network_ranges:
        if prefix.version == own.version and prefix.overlaps(own):
            raise ConfigError(f"{prefix} overlaps {own}, where the network's own nodes are")


def choose_virtual(target: Prefix, taken: Collection[Prefix], rng: RandomSource) -> Prefix:
    """A private range of the target's size that overlaps nothing taken. Raises ConfigError."""
    if target.version == 4:
        pool, shortest = ipaddress.ip_network("10.0.0.0/8"), 12
    else:
        pool, shortest = ipaddress.ip_network("fd00::/8"), 32
    if target.prefixlen < shortest:
        raise ConfigError(f"{target} is too large for a virtual range: /{shortest} at most")
    for _attempt in range(1000):
        bits = rng.randrange(1 << min(target.prefixlen - pool.prefixlen, 60))
        start = int(pool.network_address) + (bits << (target.max_prefixlen - target.prefixlen))
        address = type(pool.network_address)(start)
        found = ipaddress.ip_network((address, target.prefixlen))
        if not any(found.version == other.version and found.overlaps(other) for other in taken):
            return found
    raise ConfigError(f"no free range of the size of {target} was found: name one with --virtual")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A gateway for a range, in the order in which they were named. `ready`: it has signed that it forwards
    the range.
    """

    node_id: str
    elected: bool
    ready: bool
    online: bool


def elect(candidates: Iterable[Candidate]) -> str | None:
    """The gateway that all are to use: the one there is for as long as it is fit, so that one that comes
    back changes nothing; else the first that is. None is fit: as it was, else the first of all.
    """
    order = list(candidates)
    fit = [each for each in order if each.ready and each.online]
    for among in (
        [each for each in fit if each.elected],
        fit,
        [each for each in order if each.elected],
        [each for each in order if each.ready],
        order,
    ):
        if among:
            return among[0].node_id
    return None


def has_to_elect(gateways: Mapping[str, Member], is_online: Callable[[str], bool]) -> bool:
    """Whether for some range that several gateways forward another one would be elected now. The order of
    candidates, which decides between equals, is the store's to know: any fit one is as good here.
    """
    by_range: dict[Prefix, list[Candidate]] = {}
    for node_id, member in gateways.items():
        record = member.record if member.is_in_maps else None
        signed = frozenset(() if record is None else record.ranges)
        for each in member.forwards:
            if not is_default(each.range):
                found = Candidate(node_id, each.elected, each.range in signed, is_online(node_id))
                by_range.setdefault(each.range, []).append(found)
    for candidates in by_range.values():
        elected = [each for each in candidates if each.elected]
        if len(elected) != 1 or elect(candidates) != elected[0].node_id:
            return True
    return False
