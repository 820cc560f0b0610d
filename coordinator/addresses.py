"""Which addresses a network has and which one a new node gets. Pure.

A host number counts from the start of its range: number 2 of 10.1.0.0/16 is 10.1.0.2. Numbers go upwards and
come round only when the range is used up, so that an address stays out of use for as long as it can.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from wgpy.addresses import IPAddress, Prefix
from wgpy.errors import ConfigError

REST_AGE: Final = 7 * 86400.0
"""Seconds for which a released address is given to nobody."""

MAX_RANGES: Final = 8

MAX_HOST_NUMBER: Final = 2**62
"""More hosts than a range of any network will have; fits the database's integers."""

_TAKEN_OFTEN: Final = frozenset(
    {0, 1, 2, 8, 10, 11, 20, 42, 43, 50, 88, 89, 96, 100, 128, 152, 217, 233, 244, 254, 255}
)
"""Second octets of 10/8 that home routers, OpenVPN, Podman, Kubernetes and its distributions like to use."""

_UNUSABLE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "fe80::/10",
        "ff00::/8",
    )
)


class RandomSource(Protocol):
    """`random.SystemRandom` in production, `random.Random(seed)` in tests."""

    def randbytes(self, n: int, /) -> bytes: ...

    def randrange(self, stop: int, /) -> int: ...


def check_ranges(ranges: Sequence[Prefix]) -> None:
    """Whether nodes may live in these ranges. Raises ConfigError."""
    if len(ranges) > MAX_RANGES:
        raise ConfigError(f"a network has at most {MAX_RANGES} ranges; got {len(ranges)}")
    for prefix in ranges:
        if any(prefix.version == other.version and prefix.overlaps(other) for other in _UNUSABLE):
            raise ConfigError(
                f"{prefix} has addresses that no host can have: take a private range, "
                "such as 10.7.0.0/16 or fd07::/64"
            )
        longest = 30 if prefix.version == 4 else 126
        shortest = 8 if prefix.version == 4 else 16
        if not shortest <= prefix.prefixlen <= longest:
            raise ConfigError(f"an IPv{prefix.version} range is /{shortest} to /{longest}; got {prefix}")
    for number, prefix in enumerate(ranges):
        for other in ranges[:number]:
            if prefix.version == other.version and prefix.overlaps(other):
                raise ConfigError(f"the ranges {other} and {prefix} overlap: give each address once")


@dataclass(frozen=True, slots=True)
class Taken:
    """A range that is somebody's already, and whose, in words."""

    prefix: Prefix
    whose: str


def complete_ranges(
    given: Sequence[Prefix], in_use: Sequence[Prefix], rng: RandomSource
) -> tuple[Prefix, ...]:
    """`given`, and a range of our own choice for each family that is missing: every network has IPv4 and
    IPv6.

    A chosen range overlaps none that is `in_use`. Raises ConfigError.
    """
    check_ranges(given)
    ranges = list(given)
    for version, choose in ((4, _random_ipv4), (6, _random_ula)):
        if not any(prefix.version == version for prefix in given):
            ranges.append(_unused(choose, [*in_use, *given], rng))
    return tuple(ranges)


def _unused(choose: Callable[[RandomSource], Prefix], in_use: Sequence[Prefix], rng: RandomSource) -> Prefix:
    for _attempt in range(1000):
        prefix = choose(rng)
        if not any(prefix.version == other.version and prefix.overlaps(other) for other in in_use):
            return prefix
    raise ConfigError("no free range was found in 10.0.0.0/8: name one with --cidr")


def _random_ipv4(rng: RandomSource) -> Prefix:
    second = rng.randrange(256)
    while second in _TAKEN_OFTEN:
        second = rng.randrange(256)
    return ipaddress.ip_network(f"10.{second}.0.0/16")


def _random_ula(rng: RandomSource) -> Prefix:
    """A unique local /64: fd, 40 random bits, subnet 0 (RFC 4193 §3.2.2)."""
    return ipaddress.IPv6Network((b"\xfd" + rng.randbytes(5) + bytes(10), 64))


def last_host_number(prefix: Prefix) -> int:
    """The highest number that a node may have; 1 is the lowest: 0 names the net, IPv4's last is its
    broadcast.
    """
    return min(prefix.num_addresses - (2 if prefix.version == 4 else 1), MAX_HOST_NUMBER)


def choose_host_number(
    prefix: Prefix, highest: int | None, taken_in_order: Callable[[], Iterable[int]]
) -> int | None:
    """The next number: above the highest one taken, else the lowest that is free, else None: the range is
    full.

    `taken_in_order` gives all numbers that have an owner or rest, ascending; it is asked only when the end is
    reached.
    """
    last = last_host_number(prefix)
    if highest is None or highest < last:
        return 1 if highest is None else highest + 1
    free = 1
    for number in taken_in_order():
        if number > free:
            break
        free = number + 1
    return free if free <= last else None


def host_address(prefix: Prefix, number: int) -> IPAddress:
    return prefix.network_address + number


def host_number(prefix: Prefix, address: IPAddress) -> int | None:
    """The number of an address of this prefix; None for one that no node can have."""
    number = int(address) - int(prefix.network_address)
    return number if 1 <= number <= last_host_number(prefix) else None
