"""Timestamps of initiations: coarse, strictly rising for each peer, and never behind what was sent before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.tai64n import TimestampSource, decode, encode

STEP_NS = 1 << 24
SECOND_NS = 10**9
NOW_NS = 1_700_000_000 * SECOND_NS


def test_stamp_is_tai64n_with_the_low_24_bits_of_the_nanoseconds_masked_off() -> None:
    stamp = encode(NOW_NS + 0x12345678)
    assert stamp == (0x400000000000000A + 1_700_000_000).to_bytes(8, "big") + (0x12000000).to_bytes(4, "big")


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_later_is_greater_as_octets(first: int, second: int) -> None:
    early, late = sorted((first, second))
    assert encode(early) <= encode(late)
    if late - early >= 2 * STEP_NS:
        assert encode(early) < encode(late)


@given(st.lists(st.integers(0, 2**60), min_size=2, max_size=40))
def test_each_stamp_to_a_peer_is_greater_than_the_last_whatever_the_clock_does(clock: list[int]) -> None:
    source = TimestampSource()
    last = None
    for wall_ns in clock:
        stamp = source.create(last, wall_ns)
        assert last is None or stamp > last
        last = stamp


def test_stamps_within_one_step_still_rise_across_the_second() -> None:
    source = TimestampSource()
    last = source.create(None, NOW_NS)
    for _ in range(70):  # a second has less than 60 steps
        stamp = source.create(last, NOW_NS)
        assert stamp > last
        last = stamp


def test_clock_set_back_recovers_at_once() -> None:
    source = TimestampSource()
    before = source.create(None, NOW_NS)
    assert source.create(before, NOW_NS - 86400 * SECOND_NS) > before


def test_with_a_clock_set_back_a_peer_that_was_removed_and_came_back_is_stamped_above_what_it_had() -> None:
    source = TimestampSource()
    before = source.create(None, NOW_NS)
    again = source.create(None, NOW_NS - 86400 * SECOND_NS)
    assert again > before
    assert source.create(again, NOW_NS - 86400 * SECOND_NS) > again


def test_host_that_boots_in_the_past_goes_on_above_what_it_sent_in_its_earlier_life() -> None:
    earlier = TimestampSource()
    sent = earlier.create(None, NOW_NS)
    assert earlier.highest == sent
    later = TimestampSource(sent)
    assert later.highest == sent
    assert later.create(None, 0) > sent


def test_stamps_to_many_peers_at_once_do_not_run_ahead_of_the_clock() -> None:
    source = TimestampSource()
    for _ in range(1000):
        source.create(None, NOW_NS)
    assert source.highest == encode(NOW_NS)


def test_highest_is_none_before_the_first_stamp() -> None:
    assert TimestampSource().highest is None


def test_stamp_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="12 octets"):
        decode(b"short")
