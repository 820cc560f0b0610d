"""The many peers of the benchmarks: distinct, the same in every process, and read by our own parser."""

from __future__ import annotations

from benchmarks.identities import NEAR_NUMBER, configuration, inner_address, outer_address, private_key
from wgpy.config import parse_config


def test_each_number_has_keys_and_addresses_of_its_own() -> None:
    numbers = range(1000)
    assert len({private_key(number).public_key() for number in numbers}) == 1000
    assert len({inner_address(number) for number in numbers}) == 1000
    assert len({outer_address(number) for number in numbers}) == 1000
    assert outer_address(256) == "10.200.1.0"


def test_a_number_always_has_the_same_key() -> None:
    assert private_key(7) == private_key(7)


def test_the_configuration_has_the_device_and_all_its_peers() -> None:
    config = parse_config(configuration(300, {2: "192.0.2.1:51822"}), "benchmark")
    assert config.private_key == private_key(NEAR_NUMBER)
    assert [peer.public_key for peer in config.peers] == [private_key(n).public_key() for n in range(1, 301)]
    assert [str(prefix) for prefix in config.peers[299].allowed_ips] == ["10.78.1.44/32"]
    assert [bool(peer.endpoint) for peer in config.peers[:3]] == [False, True, False]
