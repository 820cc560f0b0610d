from __future__ import annotations

import ipaddress
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.addresses import (
    MAX_HOST_NUMBER,
    check_ranges,
    choose_host_number,
    complete_ranges,
    host_address,
    last_host_number,
)
from wgpy.errors import ConfigError


def net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@given(st.integers(0, 2**32))
def test_chosen_ranges_are_private_and_of_both_families(number: int) -> None:
    v4, v6 = complete_ranges([], [], random.Random(number))
    assert v4.subnet_of(net("10.0.0.0/8"))  # type: ignore[arg-type]
    assert v4.prefixlen == 16
    assert v6.subnet_of(net("fd00::/8"))  # type: ignore[arg-type]
    assert v6.prefixlen == 64


def test_a_chosen_range_keeps_clear_of_those_in_use() -> None:
    in_use = [net("10.0.0.0/9"), net("10.128.0.0/10")]
    for number in range(50):
        v4, _ = complete_ranges([], in_use, random.Random(number))
        assert not any(v4.overlaps(other) for other in in_use)


def test_when_nothing_is_free_the_admin_is_asked_for_a_range() -> None:
    with pytest.raises(ConfigError, match="--cidr"):
        complete_ranges([], [net("10.0.0.0/8")], random.Random(1))


@pytest.mark.parametrize(
    "texts",
    [
        ["0.0.0.0/0"], ["0.0.0.0/8"], ["127.0.0.0/8"], ["169.254.0.0/16"], ["224.0.0.0/8"], ["240.0.0.0/8"],
        ["::/0"], ["::/64"], ["fe80::/64"], ["ff00::/64"], ["10.0.0.0/31"], ["10.0.0.1/32"], ["fd00::/127"],
        ["10.0.0.0/16", "10.0.3.0/24"], ["fd00::/48", "fd00::/64"], [f"10.{n}.0.0/16" for n in range(9)],
    ],
)  # fmt: skip
def test_a_range_that_nodes_cannot_live_in_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError):
        check_ranges([net(text) for text in texts])


def test_numbers_go_upwards_and_come_round_to_the_lowest_free() -> None:
    prefix = net("10.0.0.0/29")  # 1 to 6

    def choose(*taken: int) -> int | None:
        return choose_host_number(prefix, max(taken, default=None), lambda: sorted(taken))

    assert choose() == 1
    assert choose(1) == 2
    assert choose(4) == 5  # not back to what was released before
    assert choose(1, 2, 6) == 3
    assert choose(2, 3, 6) == 1
    assert choose(1, 2, 3, 4, 5, 6) is None


@given(st.sets(st.integers(1, 6)))
def test_a_chosen_number_is_never_taken(taken: set[int]) -> None:
    prefix = net("10.0.0.0/29")
    number = choose_host_number(prefix, max(taken, default=None), lambda: sorted(taken))
    if number is None:
        assert taken == {1, 2, 3, 4, 5, 6}
    else:
        assert number not in taken
        assert host_address(prefix, number) in prefix


def test_the_net_and_the_broadcast_address_are_nobodys() -> None:
    assert last_host_number(net("10.0.0.0/30")) == 2
    assert last_host_number(net("fd00::/126")) == 3
    assert last_host_number(net("fd00::/16")) == MAX_HOST_NUMBER
