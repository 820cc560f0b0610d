"""The per-source bucket (paper §5.3)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from wgpy.protocol.ratelimiter import TABLE_LIMIT, RateLimiter


def test_five_pass_at_once_then_twenty_a_second() -> None:
    limiter = RateLimiter()
    source = IPv4Address("192.0.2.1")
    assert [limiter.allow(source, 10.0) for _ in range(6)] == [True] * 5 + [False]
    assert not limiter.allow(source, 10.04)
    assert limiter.allow(source, 10.051)
    assert not limiter.allow(source, 10.06)


def test_a_steady_flood_gets_its_rate_and_no_more() -> None:
    limiter = RateLimiter()
    source = IPv4Address("192.0.2.1")
    passed = sum(limiter.allow(source, 100 + step / 1000) for step in range(10_000))
    assert 200 <= passed <= 206


def test_refused_messages_do_not_push_the_next_token_away() -> None:
    limiter = RateLimiter()
    source = IPv4Address("192.0.2.1")
    for _ in range(5):
        limiter.allow(source, 10.0)
    for step in range(10):
        limiter.allow(source, 10.0 + step / 1000)
    assert limiter.allow(source, 10.0501)


def test_ipv4_sources_are_single_addresses() -> None:
    limiter = RateLimiter()
    for _ in range(6):
        limiter.allow(IPv4Address("192.0.2.1"), 10.0)
    assert limiter.allow(IPv4Address("192.0.2.2"), 10.0)


def test_an_ipv6_source_is_a_slash_64() -> None:
    limiter = RateLimiter()
    for host in range(5):
        assert limiter.allow(ip_address(f"2001:db8::{host:x}"), 10.0)
    assert not limiter.allow(IPv6Address("2001:db8::ffff:ffff:ffff:ffff"), 10.0)
    assert limiter.allow(IPv6Address("2001:db8:0:1::"), 10.0)


def test_an_ipv4_address_and_a_slash_64_never_share_a_bucket() -> None:
    limiter = RateLimiter()
    for _ in range(5):
        limiter.allow(IPv4Address("32.1.13.184"), 10.0)
    assert limiter.allow(IPv6Address("2001:db8::1"), 10.0)


def test_idle_sources_are_forgotten() -> None:
    limiter = RateLimiter()
    for host in range(100):
        limiter.allow(IPv4Address(host), 10.0)
    assert len(limiter) == 100
    limiter.allow(IPv4Address(1000), 11.5)
    assert len(limiter) == 1


def test_the_table_is_capped_and_refuses_newcomers_while_full() -> None:
    limiter = RateLimiter()
    assert all(limiter.allow(IPv4Address(host), 10.0) for host in range(TABLE_LIMIT))
    assert not limiter.allow(IPv4Address(TABLE_LIMIT), 10.5)
    assert limiter.allow(IPv4Address(3), 10.5), "who is in the table goes on"
    assert len(limiter) == TABLE_LIMIT
    assert limiter.allow(IPv4Address(TABLE_LIMIT), 11.6), "and room is made when they are idle"
