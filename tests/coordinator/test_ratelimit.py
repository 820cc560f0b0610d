from __future__ import annotations

import pytest

from coordinator.ratelimit import SOURCES, RateLimit, source_key


def test_a_burst_passes_and_then_the_rate_decides() -> None:
    limit = RateLimit(rate=2, burst=5)
    assert [limit.take("192.0.2.1", 10.0) for _ in range(5)] == [0.0] * 5
    assert limit.take("192.0.2.1", 10.0) == pytest.approx(0.5)
    assert limit.take("192.0.2.2", 10.0) == 0.0
    assert limit.take("192.0.2.1", 10.5) == 0.0
    assert limit.take("192.0.2.1", 10.5) > 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    limit = RateLimit(rate=1, burst=2)
    assert [limit.take("192.0.2.1", now) for now in (100.0, 50.0)] == [0.0, 0.0]
    assert limit.take("192.0.2.1", 50.0) > 0


def test_all_sources_together_have_a_limit() -> None:
    limit = RateLimit(rate=1, burst=5, total_rate=1, total_burst=10)
    taken = [limit.take(f"192.0.2.{number}", 10.0) for number in range(20)]
    assert taken.count(0.0) == 10


def test_the_table_stays_small_however_many_come() -> None:
    limit = RateLimit(total_rate=1e9, total_burst=1e9)
    for number in range(2 * SOURCES):
        limit.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
    assert limit.remembered == SOURCES


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("", ""), ("x" * 100, "x" * 64),
    ],
)  # fmt: skip
def test_a_source_is_an_address_or_its_slash_64(source: str, key: str) -> None:
    assert source_key(source) == key
