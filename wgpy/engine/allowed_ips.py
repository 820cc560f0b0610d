"""Allowed IPs (paper §2): which peer an address belongs to. The trie is in Rust, here are the types of the
core.
"""

from __future__ import annotations

from collections.abc import Iterable

from wgpy import _engine
from wgpy.addresses import PackedPrefixes, Prefix
from wgpy.protocol.actions import PeerId


class AllowedIps:
    """Prefixes of all peers. A prefix has one owner, and the longest that matches decides."""

    def __init__(self) -> None:
        self.trie = _engine.AllowedIps()
        """For lookups by packet."""

    def __len__(self) -> int:
        return len(self.trie)

    def add(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        """Give prefixes to a peer, taking them from whoever had them."""
        self.trie.insert_many(peer, [(each.network_address.packed, each.prefixlen) for each in prefixes])

    def remove(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        """Prefixes that are not this peer's are passed over."""
        for prefix in prefixes:
            self.trie.remove(peer, prefix.network_address.packed, prefix.prefixlen)

    def remove_peer(self, peer: PeerId) -> None:
        self.trie.remove_peer(peer)

    def of(self, peer: PeerId) -> PackedPrefixes:
        """In the order they came to the peer."""
        return PackedPrefixes(self.trie.prefixes(peer))
