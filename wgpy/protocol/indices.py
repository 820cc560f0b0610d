"""The index table: which handshake or keypair a message is for (paper §5.4.2).

Every message but the initiation names its receiver by a 32-bit index that the receiver chose. Handshakes and
keypairs of all peers share one table, so that an index names one thing; indices are random, so that they tell
a watcher nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.keypairs import Keypair

Owner = TypeVar("Owner")


@dataclass(slots=True)
class IndexEntry(Generic[Owner]):
    """Whose index it is; `keypair` is None as long as it belongs to a handshake."""

    owner: Owner
    keypair: Keypair | None = None


class IndexTable(Generic[Owner]):
    """Random 32-bit indices, each of one handshake or one keypair."""

    def __init__(self, rng: RandomSource) -> None:
        self._rng = rng
        self._entries: dict[int, IndexEntry[Owner]] = {}

    @property
    def entries(self) -> dict[int, IndexEntry[Owner]]:
        """What is in use now, to be read."""
        return self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, index: int) -> bool:
        return index in self._entries

    def reserve(self, owner: Owner) -> int:
        """An index that is not in use, for a handshake of this owner."""
        while True:
            index = int.from_bytes(self._rng.randbytes(4), "little")
            if index not in self._entries:
                self._entries[index] = IndexEntry(owner)
                return index

    def get(self, index: int) -> IndexEntry[Owner] | None:
        return self._entries.get(index)

    def take_over(self, index: int, keypair: Keypair) -> bool:
        """Give a handshake's index to the keypair that came of it. False when it is not a handshake's (any
        more).
        """
        entry = self._entries.get(index)
        if entry is None or entry.keypair is not None:
            return False
        entry.keypair = keypair
        return True

    def release_handshake(self, index: int) -> None:
        """Free the index of a handshake; one that a keypair took over stays."""
        entry = self._entries.get(index)
        if entry is not None and entry.keypair is None:
            del self._entries[index]

    def release_keypair(self, index: int, keypair: Keypair) -> None:
        """Free the index of this keypair; another's stays."""
        entry = self._entries.get(index)
        if entry is not None and entry.keypair is keypair:
            del self._entries[index]
