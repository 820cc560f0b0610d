"""Where a network's external clients live, what they may reach, and which gateway they are at. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from coordinator.addresses import MAX_HOST_NUMBER
from wgpy.addresses import Prefix, is_inside, parse_port
from wgpy.errors import ConfigError

SESSION_TIME: Final = 180.0
"""Seconds after its last handshake for which a client counts as connected: WireGuard's REJECT_AFTER_TIME."""

_BITS: Final = {4: (6, 22, 29), 6: (16, 112, 124)}
"""By family: how many bits longer than the network's range that of clients is, the shortest and the
longest."""

_HOST: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def parse_endpoint(text: str) -> str:
    """HOST:PORT, a DNS name, an IPv4 address or [IPv6] → the same, canonical. Raises ConfigError."""
    host, colon, port_text = text.rpartition(":")
    wrong = ConfigError(
        "the endpoint that clients connect to is HOST:PORT, such as vpn.example.org:51820 or "
        f"[2001:db8::1]:51820; got {text[:64]!r}"
    )
    if not colon or not port_text.isascii() or not port_text.isdigit():
        raise wrong
    try:
        port = parse_port(port_text)
    except ConfigError:
        raise wrong from None
    if not port:
        raise wrong
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        address = None
    if address is None:
        if len(host) > 253 or not _HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise wrong
        return f"{host.lower()}:{port}"
    if "%" in bare or address.is_unspecified or address.is_multicast or address.is_loopback:
        raise ConfigError(f"clients cannot connect to {bare[:64]}: name an address that they reach")
    if (address.version == 6) != (host != bare):
        raise wrong
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def endpoint_port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def pool_length(range_: Prefix) -> int | None:
    """How long the prefix of clients in this range is; None: it is too small for any."""
    more, shortest, longest = _BITS[range_.version]
    length = min(max(range_.prefixlen + more, shortest), longest)
    return length if length > range_.prefixlen else None


def choose_pool(range_: Prefix, pools: Iterable[Prefix], taken: Collection[int]) -> Prefix | None:
    """The highest block of a range for a group's clients: none of the host numbers that are `taken` is in
    it. None: there is no such block.
    """
    length = pool_length(range_)
    if length is None:
        return None
    size = 1 << (range_.max_prefixlen - length)
    top = min(range_.num_addresses, MAX_HOST_NUMBER + 1)
    others = [pool for pool in pools if pool.version == range_.version and pool.overlaps(range_)]
    numbers = sorted(taken, reverse=True)
    start = (top // size - 1) * size
    while start >= size:  # the first block has the nodes
        block = ipaddress.ip_network((range_.network_address + start, length))
        if any(block.overlaps(other) for other in others):
            start -= size
            continue
        inside = next((number for number in numbers if number < start + size), None)
        if inside is None or inside < start:
            return block
        start = inside // size * size - size
    return None


def check_reachable(prefix: Prefix, network_ranges: Sequence[Prefix], published: Sequence[Prefix]) -> None:
    """Whether a client can be given this range: it lies in the network's, or in one behind a gateway. Raises
    ConfigError.
    """
    if not prefix.prefixlen:
        raise ConfigError(
            f"{prefix} is everything there is, and no range of the network: what gives a client the internet "
            "is `--internet`"
        )
    if any(is_inside(prefix, known) for known in (*network_ranges, *published)):
        return
    there = ", ".join(map(str, (*network_ranges, *published)))
    raise ConfigError(f"{prefix} lies in no range of this network and of its gateways; there is: {there}")


def allowed_prefixes(prefixes: Sequence[Prefix]) -> list[Prefix]:
    """For a file: what lies in another is left out, IPv4 first."""
    found: list[Prefix] = []
    for version in (4, 6):
        found += ipaddress.collapse_addresses(p for p in prefixes if p.version == version)  # type: ignore[type-var]
    return found


def crowded_gateway(elected: str | None, latest: Mapping[str, str]) -> str | None:
    """The gateway that a group's traffic has to come by: where most of the clients are that are connected.
    `latest` is the gateway of each of these, by client. As it was where as many are at the elected one.
    """
    counts: dict[str, int] = {}
    for node_id in latest.values():
        counts[node_id] = counts.get(node_id, 0) + 1
    if not counts:
        return elected
    most = max(counts.values())
    if elected is not None and counts.get(elected, 0) == most:
        return elected
    return min(node_id for node_id, count in counts.items() if count == most)
