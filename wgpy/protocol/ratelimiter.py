"""The token bucket per source address (paper §5.3): 20 handshake messages a second, five at once.

It is asked only under load and only for messages with a valid mac2, so a source is an address that really
receives there. One IPv6 source is a /64, for whoever has one address of it has them all.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from wgpy.addresses import IPAddress
from wgpy.protocol.constants import RATE_BURST, RATE_PER_SECOND

TABLE_LIMIT: Final = 8192
"""Sources remembered at once. When so many are active, further ones are refused: memory stays bounded."""

IDLE_TIME: Final = 1.0
"""An entry unused for so long is forgotten; its bucket has long been full again."""


class RateLimiter:
    """One bucket a source; the caller tells the time."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, tuple[float, float]] = {}  # source → (tokens, when they were counted)
        self._collected_at = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, address: IPAddress, now: float) -> bool:
        """Take a token of the address's bucket; False when there is none."""
        source = address.packed if isinstance(address, IPv4Address) else address.packed[:8]
        bucket = self._buckets.get(source)
        if now - self._collected_at >= IDLE_TIME:
            self._collect(now)
        if bucket is None:
            if len(self._buckets) >= TABLE_LIMIT:
                return False
            tokens = float(RATE_BURST)
        else:
            tokens = min(RATE_BURST, bucket[0] + (now - bucket[1]) * RATE_PER_SECOND)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - 1 if allowed else tokens, now)
        return allowed

    def _collect(self, now: float) -> None:
        self._collected_at = now
        self._buckets = {
            source: bucket for source, bucket in self._buckets.items() if now - bucket[1] < IDLE_TIME
        }
