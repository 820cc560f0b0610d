"""Endpoints and prefixes: what is read, how it is written, what is refused and in which words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.addresses import (
    Endpoint,
    PackedPrefixes,
    Prefix,
    host_prefix,
    parse_interface_address,
    parse_port,
    parse_prefix,
)
from wgpy.errors import ConfigError

ports = st.integers(1, 65535)


@given(st.ip_addresses(v=4), ports)
def test_ipv4_endpoint_survives_its_text(address: IPv4Address, port: int) -> None:
    endpoint = Endpoint(address, port)
    assert str(endpoint) == f"{address}:{port}"
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.ip_addresses(v=6), ports, st.integers(0, 2**31 - 1))
def test_ipv6_endpoint_survives_its_text(address: IPv6Address, port: int, scope_id: int) -> None:
    endpoint = Endpoint(address, port, scope_id)
    assert str(endpoint) == f"[{address}%{scope_id}]:{port}" if scope_id else f"[{address}]:{port}"
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "192.0.2.1",
        "192.0.2.1:",
        ":51820",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2.1:١",
        "192.0.2.256:1",
        "192.0.2.1%3:1",
        "[192.0.2.1]:1",
        "2001:db8::1:51820",
        "[2001:db8::1]",
        "[2001:db8::1]51820",
        "[2001:db8::1:51820",
        "[fe80::1%eth0]:1",
        "[fe80::1%]:",
        "host.example:51820",
    ],
)
def test_text_that_is_not_an_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Endpoint.parse(text)


@pytest.mark.parametrize("text", ["1", "51820", "65535"])
def test_port_is_a_number_from_1_to_65535(text: str) -> None:
    assert parse_port(text) == int(text)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.0", "0x10", " 1", "²", "1" * 10_000])
def test_text_that_is_not_a_port_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="1 to 65535"):
        parse_port(text)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.0.7/24", "10.0.0.0/24"),
        ("10.0.0.7", "10.0.0.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("fd00::1:2/64", "fd00::/64"),
        ("fd00::1", "fd00::1/128"),
    ],
)
def test_prefix_has_its_host_bits_masked(text: str, prefix: str) -> None:
    assert parse_prefix(text) == ip_network(prefix)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "10.0.0.0/",
        "10.0.0.0/33",
        "fd00::/129",
        "10.0.0.0/255.255.255.0",
        "10.0.0.0/-1",
        "10.0.0.0/٢",
        "10.0.0/24",
        "x/8",
    ],
)
def test_text_that_is_not_a_prefix_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ADDRESS/LENGTH"):
        parse_prefix(text)


def test_interface_address_keeps_its_host_bits() -> None:
    assert str(parse_interface_address("10.0.0.7/24")) == "10.0.0.7/24"
    assert str(parse_interface_address("fd00::7")) == "fd00::7/128"
    with pytest.raises(ConfigError, match="ADDRESS"):
        parse_interface_address("10.0.0.7/240")


@given(st.ip_addresses())
def test_prefix_of_one_host_holds_that_host_alone(address: IPv4Address | IPv6Address) -> None:
    prefix = host_prefix(address)
    assert prefix.num_addresses == 1
    assert ip_address(address) in prefix


prefixes = st.builds(
    lambda address, length: ip_network((address, min(length, address.max_prefixlen)), strict=False),
    st.ip_addresses()
    | st.lists(st.sampled_from([0, 1, 0xFD00]), min_size=8, max_size=8).map(
        lambda words: IPv6Address(b"".join(word.to_bytes(2, "big") for word in words))
    ),
    st.integers(0, 128),
)


@given(st.lists(prefixes))
def test_packed_prefixes_are_a_sequence_of_the_prefixes(given_: list[Prefix]) -> None:
    packed = PackedPrefixes.of(given_)
    assert packed == given_
    assert packed == PackedPrefixes(list(packed.packed))
    assert PackedPrefixes.of(packed) is packed
    assert list(packed) == given_
    assert [packed[number] for number in range(len(packed))] == given_
    assert packed[1:] == given_[1:]
    assert packed != [*given_, ip_network("192.0.2.0/24")]


@given(st.lists(prefixes))
def test_packed_prefixes_are_written_as_rfc_5952_says(given_: list[Prefix]) -> None:
    texts = list(PackedPrefixes.of(given_).texts())
    assert [parse_prefix(text) for text in texts] == given_
    # Of addresses with an IPv4 one in them there are two spellings; the standard library changed its own.
    for prefix, text in zip(given_, texts, strict=True):
        if not (isinstance(prefix, IPv6Network) and prefix.network_address.ipv4_mapped):
            assert text == str(prefix)


@pytest.mark.parametrize("text", ["fe80::%3", "fe80::%3/64", "E::%:"])
def test_neither_a_prefix_nor_an_interfaces_address_has_a_zone(text: str) -> None:
    for parse in (parse_prefix, parse_interface_address):
        with pytest.raises(ConfigError, match="such as 10"):
            parse(text)
