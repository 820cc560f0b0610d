"""Where we are seen from outside: servers that answer as NATs of each kind let them."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.addresses import Endpoint
from wgpy.mesh.discovery import REFRESH_INTERVAL, Discovery, Mapping
from wgpy.mesh.stun import encode_binding_answer, parse_binding_request_untrusted

OWN = Endpoint.parse("192.168.1.11:4000")
SERVER = Endpoint.parse("198.51.100.1:443")
OTHER = Endpoint.parse("198.51.100.1:444")
SECOND = Endpoint.parse("198.51.100.2:443")
SIXTH = Endpoint.parse("[2001:db8::1]:443")

Nat = Callable[[Endpoint], Endpoint | None]


def outside(port: int) -> Endpoint:
    return Endpoint(ipaddress.ip_address("203.0.113.5"), port)


def behind(*servers: Endpoint) -> Discovery:
    counter = itertools.count(1)
    discovery = Discovery(lambda: next(counter).to_bytes(12, "big"))
    discovery.set_own([OWN])
    discovery.set_servers(servers, 0.0)
    return discovery


def answer(discovery: Discovery, nat: Nat, now: float) -> list[Endpoint]:
    """Let all that is asked be answered through `nat`, and what that leads to; who was asked, in order."""
    asked = []
    while discovery.asks:
        ask = discovery.asks.pop(0)
        asked.append(ask.to)
        seen, question = nat(ask.to), parse_binding_request_untrusted(ask.data)
        assert question is not None
        if seen is not None:
            second = Endpoint(ask.to.address, 444 if ask.to.port == 443 else 443)
            discovery.handle_answer(encode_binding_answer(question.transaction, seen, second), ask.to, now)
    return asked


def run(discovery: Discovery, nat: Nat, until: float) -> list[tuple[float, Endpoint]]:
    """All questions until then, each with its instant."""
    asked = [(0.0, to) for to in answer(discovery, nat, 0.0)]
    while (now := discovery.next_deadline()) is not None and now <= until:
        discovery.handle_timeout(now)
        asked += [(now, to) for to in answer(discovery, nat, now)]
    return asked


def symmetric(to: Endpoint) -> Endpoint:
    return outside(10000 + to.port + int(to.address) % 256)


@pytest.mark.parametrize(
    ("nat", "mapping", "endpoint"),
    [
        (lambda _: OWN, Mapping.NONE, OWN),
        (lambda _: outside(4000), Mapping.INDEPENDENT, outside(4000)),
        (lambda _: outside(9), Mapping.INDEPENDENT, outside(9)),
        (symmetric, Mapping.DEPENDENT, symmetric(SERVER)),
    ],
    ids=["no NAT", "port kept", "port moved", "symmetric"],
)
def test_one_server_with_two_ports_tells_how_the_nat_maps(
    nat: Nat, mapping: Mapping, endpoint: Endpoint
) -> None:
    discovery = behind(SERVER)
    assert answer(discovery, nat, 0.0) == [SERVER, OTHER]
    view = discovery.views()[4]
    assert (view.mapping, view.endpoint) == (mapping, endpoint)
    assert discovery.views()[6].mapping is Mapping.UNKNOWN


def test_nobody_answers_where_udp_is_blocked_and_asking_goes_on_for_ever() -> None:
    discovery = behind(SERVER)
    asked = run(discovery, lambda _: None, 3600.0)
    assert discovery.views()[4].mapping is Mapping.BLOCKED
    assert discovery.transactions == frozenset()
    assert asked[-1][0] > 3500
    assert 5 * 100 <= len(asked) <= 5 * 121


def test_udp_that_comes_through_again_is_noticed_within_half_a_minute() -> None:
    discovery = behind(SERVER)
    run(discovery, lambda _: None, 1000.0)
    run(discovery, lambda _: OWN, 1035.0)
    assert discovery.views()[4].mapping is Mapping.NONE


def test_one_family_may_be_blocked_while_the_other_works() -> None:
    discovery = behind(SERVER, SIXTH)
    run(discovery, lambda to: outside(5) if to.address.version == 4 else None, 10.0)
    assert discovery.views()[4].mapping is Mapping.INDEPENDENT
    assert discovery.views()[6].mapping is Mapping.BLOCKED


def test_a_quiet_hour_costs_one_question_in_25_seconds_and_a_round_in_ten_minutes() -> None:
    discovery = behind(SERVER, SECOND)
    asked = run(discovery, lambda _: outside(7), 3600.0)
    assert len(asked) <= 3600 / REFRESH_INTERVAL + 7 * 4
    assert max(b - a for (a, _), (b, _) in itertools.pairwise(asked)) <= REFRESH_INTERVAL


def test_a_mapping_that_changed_is_noticed_by_the_next_question_and_seen_as_one_again() -> None:
    discovery = behind(SERVER, SECOND)
    run(discovery, lambda _: outside(7), 100.0)
    run(discovery, lambda _: outside(8), 100.0 + REFRESH_INTERVAL)
    view = discovery.views()[4]
    assert (view.mapping, view.endpoint) == (Mapping.INDEPENDENT, outside(8))
    assert {seen for _, seen in view.seen} == {outside(8)}


def test_a_server_that_is_lost_leaves_the_view_to_the_others() -> None:
    discovery = behind(SERVER, SECOND)
    run(discovery, lambda _: outside(7), 100.0)
    discovery.begin(100.0)
    run(discovery, lambda to: outside(8) if to.address == SECOND.address else None, 110.0)
    assert discovery.views()[4].endpoint == outside(8)


def test_answers_of_strangers_and_old_ones_count_for_nothing() -> None:
    discovery = behind(SERVER)
    (ask,) = discovery.asks
    question = parse_binding_request_untrusted(ask.data)
    assert question is not None
    transaction = question.transaction
    data = encode_binding_answer(transaction, outside(6), None)
    assert not discovery.handle_answer(data, SECOND, 0.0)
    assert not discovery.handle_answer(encode_binding_answer(bytes(12), outside(6), None), SERVER, 0.0)
    assert discovery.views()[4].endpoint is None
    assert discovery.handle_answer(data, SERVER, 0.0)
    late = encode_binding_answer(transaction, outside(66), None)
    assert not discovery.handle_answer(late, SERVER, 0.1)
    assert discovery.views()[4].endpoint == outside(6)


def test_a_server_cannot_have_us_send_to_another_host() -> None:
    discovery = behind(SERVER)
    (ask,) = discovery.asks
    discovery.asks.clear()
    question = parse_binding_request_untrusted(ask.data)
    assert question is not None
    transaction = question.transaction
    victim = Endpoint.parse("192.0.2.66:53")
    discovery.handle_answer(encode_binding_answer(transaction, outside(6), victim), SERVER, 0.0)
    assert {ask.to.address for ask in discovery.asks} == {SERVER.address}


@given(st.lists(st.sampled_from(["lose", "seven", "eight", "own", "symmetric", "begin"]), max_size=30))
def test_after_any_weather_a_quiet_time_shows_the_truth(weather: list[str]) -> None:
    nats: dict[str, Nat] = {
        "lose": lambda _: None,
        "seven": lambda _: outside(7),
        "eight": lambda _: outside(8),
        "own": lambda _: OWN,
        "symmetric": symmetric,
    }
    discovery, now = behind(SERVER, SECOND, SIXTH), 0.0
    for what in weather:
        if what == "begin":
            discovery.begin(now)
        else:
            now += 7.0
            run(discovery, nats[what], now)
    run(discovery, lambda _: outside(7), now + 700.0)
    view = discovery.views()[4]
    assert (view.mapping, view.endpoint) == (Mapping.INDEPENDENT, outside(7))
    assert len(discovery.transactions) <= 6
