"""The index table (paper §5.4.2)."""

from __future__ import annotations

import random
from typing import Any

from wgpy.protocol.indices import IndexTable
from wgpy.protocol.keypairs import Keypair


def keypair() -> Keypair:
    keys: Any = None
    return Keypair(keys)


class Repeating(random.Random):
    """Gives each number twice: a table must not hand out an index that is in use."""

    def randbytes(self, n: int) -> bytes:
        self.calls = getattr(self, "calls", -1) + 1
        return (self.calls // 2 + 1).to_bytes(n, "little")


def test_an_index_in_use_is_never_given_again() -> None:
    table: IndexTable[str] = IndexTable(Repeating())
    indices = [table.reserve("alice") for _ in range(50)]
    assert len(set(indices)) == 50
    assert len(table) == 50


def test_indices_use_all_32_bits() -> None:
    table: IndexTable[str] = IndexTable(random.Random(1))
    indices = [table.reserve("alice") for _ in range(200)]
    assert max(indices) > 1 << 31
    assert min(indices) < 1 << 28


def test_an_index_passes_from_the_handshake_to_its_keypair() -> None:
    table: IndexTable[str] = IndexTable(random.Random(1))
    index = table.reserve("alice")
    pair = keypair()
    assert table.take_over(index, pair)
    entry = table.get(index)
    assert entry is not None
    assert (entry.owner, entry.keypair) == ("alice", pair)
    table.release_handshake(index)  # what the handshake held is the keypair's now
    assert index in table
    table.release_keypair(index, pair)
    assert index not in table


def test_a_released_or_taken_index_cannot_be_taken_over() -> None:
    table: IndexTable[str] = IndexTable(random.Random(1))
    released, taken = table.reserve("alice"), table.reserve("alice")
    table.release_handshake(released)
    assert not table.take_over(released, keypair())
    assert table.take_over(taken, keypair())
    assert not table.take_over(taken, keypair())


def test_a_keypair_frees_only_its_own_index() -> None:
    table: IndexTable[str] = IndexTable(random.Random(1))
    index = table.reserve("alice")
    old = keypair()
    table.release_keypair(index, old)  # never took it over
    assert index in table
