"""The trie of allowed IPs against a dictionary of `ipaddress` networks."""

from __future__ import annotations

import ipaddress
import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rust_binding.packets import UDP, Packet
from wgpy._engine import AllowedIps
from wgpy.addresses import IPAddress, Prefix

# Few distinct bits, so that prefixes nest and collide.
V4 = st.builds(lambda a, b: IPv4Address(a << 30 | b), st.integers(0, 3), st.integers(0, 15))
V6 = st.builds(lambda a, b: IPv6Address(a << 126 | b), st.integers(0, 3), st.integers(0, 15))
ADDRESSES = st.one_of(V4, V6)
PEERS = st.integers(0, 3)


def prefix_of(address: IPAddress, cut: int) -> Prefix:
    return ipaddress.ip_network((address, max(0, address.max_prefixlen - cut)), strict=False)


STEPS = st.tuples(
    st.sampled_from(["insert", "insert", "insert", "insert", "remove", "remove_peer"]),
    PEERS,
    ADDRESSES,
    st.one_of(st.integers(0, 5), st.integers(0, 128)),
)


def lookup(table: dict[Prefix, int], address: IPAddress) -> int | None:
    covering = [prefix for prefix in table if prefix.version == address.version and address in prefix]
    return table[max(covering, key=lambda prefix: prefix.prefixlen)] if covering else None


@given(st.lists(STEPS, max_size=60), st.lists(ADDRESSES, min_size=1, max_size=30))
def test_any_changes_agree_with_a_dictionary_of_networks(
    steps: list[tuple[str, int, IPAddress, int]], probes: list[IPAddress]
) -> None:
    trie = AllowedIps()
    table: dict[Prefix, int] = {}
    for what, peer, address, cut in steps:
        prefix = prefix_of(address, cut)
        if what == "insert":
            trie.insert(peer, address.packed, prefix.prefixlen)
            if table.get(prefix) != peer:
                table.pop(prefix, None)
                table[prefix] = peer
        elif what == "remove":
            assert trie.remove(peer, address.packed, prefix.prefixlen) is (table.get(prefix) == peer)
            if table.get(prefix) == peer:
                del table[prefix]
        else:
            trie.remove_peer(peer)
            table = {prefix: owner for prefix, owner in table.items() if owner != peer}
    assert len(trie) == len(table)
    for address in probes:
        assert trie.lookup(address.packed) == lookup(table, address)
    for peer in range(4):
        own = [prefix for prefix, owner in table.items() if owner == peer]
        ordered = sorted(own, key=lambda prefix: prefix.version)
        assert trie.prefixes(peer) == [(p.network_address.packed, p.prefixlen) for p in ordered]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("vnet_hdr", [False, True])
def test_a_packet_is_looked_up_by_where_it_is_from_and_where_it_goes(version: int, vnet_hdr: bool) -> None:
    trie = AllowedIps()
    for peer, packet in ((1, Packet(b"", version=version)), (2, Packet(b"", version=version))):
        half = len(packet.addresses) // 2
        address = packet.addresses[:half] if peer == 1 else packet.addresses[half:]
        trie.insert(peer, address, len(address) * 8)
    octets = bytes(10 if vnet_hdr else 0) + Packet(b"data", version=version, protocol=UDP).encode()
    for buffer in (octets, bytearray(octets), memoryview(octets)):
        assert trie.lookup_source(buffer, vnet_hdr=vnet_hdr) == 1
        assert trie.lookup_destination(buffer, vnet_hdr=vnet_hdr) == 2
    header = (10 if vnet_hdr else 0) + (20 if version == 4 else 40)
    assert trie.lookup_destination(octets[: header - 1], vnet_hdr=vnet_hdr) is None


@given(st.binary(max_size=80), st.booleans())
def test_random_octets_belong_to_somebody_or_nobody(octets: bytes, vnet_hdr: bool) -> None:
    trie = AllowedIps()
    trie.insert(7, bytes(4), 0)
    trie.insert(7, bytes(16), 0)
    assert trie.lookup_source(octets, vnet_hdr=vnet_hdr) in (None, 7)
    assert trie.lookup_destination(octets, vnet_hdr=vnet_hdr) in (None, 7)


def test_packets_are_grouped_by_peer_in_order_and_stay_the_same_objects() -> None:
    trie = AllowedIps()
    trie.insert(1, bytes([10, 0, 0, 0]), 8)
    trie.insert(2, bytes([10, 0, 0, 9]), 32)
    to = [
        Packet(b"", destination=d).encode()
        for d in ("10.0.0.1", "10.0.0.9", "11.0.0.1", "10.0.0.1", "10.0.0.9")
    ]
    groups = trie.group_by_destination(iter(to))
    assert groups == [(1, [to[0], to[3]]), (2, [to[1], to[4]]), (None, [to[2]])]
    assert groups[0][1][1] is to[3]
    assert trie.group_by_destination([]) == []


def test_130560_prefixes_of_one_peer_are_inserted_and_listed_in_well_under_a_second() -> None:
    prefixes = [((0x0A000000 + (number << 2)).to_bytes(4, "big"), 30) for number in range(130_560)]
    trie = AllowedIps()
    started = time.perf_counter()
    trie.insert_many(1, prefixes)
    assert trie.prefixes(1) == prefixes
    trie.remove_peer(1)
    elapsed = time.perf_counter() - started
    assert len(trie) == 0
    assert elapsed < 1


def test_a_bad_prefix_is_refused_and_nothing_of_its_batch_is_kept() -> None:
    trie = AllowedIps()
    for address, length, message in (
        (bytes(4), 33, "at most 32 bits, not 33"),
        (bytes(16), 129, "at most 128 bits, not 129"),
        (bytes(5), 8, "4 or 16 octets, not 5"),
    ):
        with pytest.raises(ValueError, match=message):
            trie.insert(1, address, length)
        with pytest.raises(ValueError, match=message):
            trie.insert_many(1, [(bytes(4), 0), (address, length)])
    with pytest.raises(OverflowError):
        trie.insert(2**32, bytes(4), 0)
    assert len(trie) == 0
