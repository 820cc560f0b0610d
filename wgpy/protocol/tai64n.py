"""The timestamp of an initiation: TAI64N, 12 octets, coarse, and never going back.

Eight octets of seconds since the TAI epoch, four of nanoseconds, both big-endian, so that later is greater as
bytes. Only its order matters: a responder refuses what is not greater than the greatest it has seen, so a
replay is worthless. It is made of the *wall* clock: of the boot-time clock, every reboot would look like one.
"""

from __future__ import annotations

from typing import Final

from wgpy.protocol.constants import TIMESTAMP_GRANULARITY_NS

_TAI_EPOCH: Final = 0x400000000000000A
_SECOND_NS: Final = 1_000_000_000


def round_down(wall_ns: int) -> int:
    """Unix nanoseconds with the low 24 bits *of the nanoseconds within the second* gone, as the kernel
    does.
    """
    seconds, ns = divmod(wall_ns, _SECOND_NS)
    return seconds * _SECOND_NS + ns - ns % TIMESTAMP_GRANULARITY_NS


def encode(wall_ns: int) -> bytes:
    """12 octets, of unix nanoseconds."""
    seconds, ns = divmod(round_down(wall_ns), _SECOND_NS)
    return (_TAI_EPOCH + seconds).to_bytes(8, "big") + ns.to_bytes(4, "big")


def decode(stamp: bytes) -> int:
    """Unix nanoseconds of 12 octets that `encode` made. Raises ValueError for another length."""
    if len(stamp) != 12:
        raise ValueError(f"a TAI64N timestamp has 12 octets, not {len(stamp)}")
    seconds, ns = int.from_bytes(stamp[:8], "big"), int.from_bytes(stamp[8:], "big")
    return (seconds - _TAI_EPOCH) * _SECOND_NS + ns


class TimestampSource:
    """Stamps for the initiations of one interface, each greater than the one before it to the same peer.

    A stamp is the rounded wall clock, unless that is not later than what this peer has had from us: then a
    step more than that. Nor does one fall below the highest stamp sent to anyone, so that a clock set back,
    and a host that boots in the past with `highest` from its state file, still talk. While the clock is
    behind, a peer of which nothing is known gets a step more: it may be one that was removed and came back.
    """

    def __init__(self, highest: bytes | None = None) -> None:
        """`highest`: 12 octets that were sent, perhaps, by whoever had this key before. Raises ValueError."""
        self._highest_ns = None if highest is None else decode(highest)
        self._floor_ns = 0 if self._highest_ns is None else self._highest_ns + TIMESTAMP_GRANULARITY_NS

    @property
    def highest(self) -> bytes | None:
        """12 octets: the highest stamp made so far, or given at the start."""
        return None if self._highest_ns is None else encode(self._highest_ns)

    def create(self, last_sent: bytes | None, wall_ns: int) -> bytes:
        """A stamp for the peer whose last one is `last_sent`."""
        ns = round_down(wall_ns)
        if ns < self._floor_ns:
            ns = self._floor_ns + (TIMESTAMP_GRANULARITY_NS if last_sent is None else 0)
        if last_sent is not None:
            ns = max(ns, decode(last_sent) + TIMESTAMP_GRANULARITY_NS)
        ns = round_down(ns)
        self._floor_ns = max(self._floor_ns, ns)
        self._highest_ns = ns if self._highest_ns is None else max(self._highest_ns, ns)
        return encode(ns)
