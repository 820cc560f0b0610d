"""How often a stranger may ask: a token bucket per source address, and one for all of them. Pure, bounded."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from wgpy.mesh.bucket import Bucket

SOURCES: Final = 8192
"""Addresses remembered; the one that was quiet for longest is forgotten first."""


class RateLimit:
    """A whole IPv6 /64 counts as one source: that is what one customer gets."""

    def __init__(
        self,
        rate: float = 50.0,
        burst: float = 500.0,
        total_rate: float = 1000.0,
        total_burst: float = 4000.0,
    ) -> None:
        self._rate, self._burst = rate, burst
        self._total_rate, self._total_burst = total_rate, total_burst
        self._total = Bucket(total_burst, 0.0)
        self._sources: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, source: str, now: float) -> float:
        """0 to go on, else the seconds to wait."""
        key = source_key(source)
        bucket = self._sources.pop(key, None) or Bucket(self._burst, now)
        self._sources[key] = bucket
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
        return bucket.take(self._rate, self._burst, now) or self._total.take(
            self._total_rate, self._total_burst, now
        )

    @classmethod
    def for_sign_in(cls) -> tuple[RateLimit, RateLimit]:
        """By address and by name. A name's is the larger one, so that a stranger at one address, who can use
        up his own, keeps nobody else from signing in.
        """
        return cls(1 / 15, 10.0, 20.0, 200.0), cls(1 / 5, 50.0, 20.0, 200.0)

    @classmethod
    def for_page(cls) -> RateLimit:
        """Of the page's files, which are in memory: a visit asks for 30 of them, and browsers keep none of a
        coordinator whose certificate they do not trust.
        """
        return cls(500.0, 5000.0, 5000.0, 20000.0)

    @property
    def remembered(self) -> int:
        """How many sources take up memory."""
        return len(self._sources)


class Sample:
    """Which of many events of one kind are told of, so that strangers cannot fill what is told. Pure.

    `note` gives how many there were since the last that was told, this one included; 0: do not tell.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._untold = 0

    def note(self, source: str, now: float) -> int:
        self._untold += 1
        if self._limit.take(source, now):
            return 0
        told, self._untold = self._untold, 0
        return told

    @classmethod
    def of_failed_sign_ins(cls) -> Sample:
        """Five from one address and then one in five minutes; of all addresses 3,000 a day."""
        return cls(RateLimit(1 / 300, 5.0, 1 / 30, 100.0))


def source_key(source: str) -> str:
    """The address, or its /64."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:64]
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
