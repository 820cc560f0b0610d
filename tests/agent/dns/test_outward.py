"""Who is asked for the rest of the world beside an exit node, and what is said of it."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from wgpy.addresses import Endpoint
from wgpy.agent.dns.outward import (
    PASSED_OVER_TIME,
    ExitNames,
    ExitOrder,
    RestReport,
    Server,
    Way,
    report_untold,
)

EXIT = ExitNames("oslo", (ipaddress.ip_address("10.77.0.2"),), (ipaddress.ip_network("192.168.1.0/24"),))
FIRST = Endpoint(ipaddress.ip_address("10.77.0.2"), 53)
ROUTER = Endpoint(ipaddress.ip_address("192.168.1.1"), 53)
PUBLIC = Endpoint(ipaddress.ip_address("192.0.2.53"), 53)
OWN = [ROUTER, PUBLIC]


def server(address: str, *, by_tunnel: bool, is_bound: bool = False) -> Server:
    return Server(ipaddress.ip_address(address), by_tunnel, is_bound)


def test_the_exit_node_is_asked_first_and_never_a_server_in_the_lan() -> None:
    assert ExitOrder().servers(EXIT, OWN, 0.0) == [FIRST, PUBLIC]


def test_an_exit_node_without_an_answer_is_passed_over_for_a_while() -> None:
    order = ExitOrder()
    order.note_answer(EXIT, [FIRST, PUBLIC], PUBLIC, 0, 100.0)
    assert order.servers(EXIT, OWN, 100.0) == [PUBLIC, FIRST]
    assert order.report(EXIT, OWN) == RestReport(Way.TUNNEL, ("192.0.2.53",), "oslo")
    assert order.report(EXIT, [ROUTER]) == RestReport(Way.LOST, (), "oslo")
    later = 100.0 + PASSED_OVER_TIME
    assert order.servers(EXIT, OWN, later) == [FIRST, PUBLIC]
    order.note_answer(EXIT, [FIRST, PUBLIC], FIRST, 3, later)
    assert order.report(EXIT, OWN) == RestReport(Way.EXIT, ("10.77.0.2",), "oslo")


def test_what_others_answered_while_it_was_passed_over_says_nothing_of_it() -> None:
    order = ExitOrder()
    order.note_answer(EXIT, [FIRST, PUBLIC], None, 0, 100.0)
    order.note_answer(EXIT, [PUBLIC, FIRST], PUBLIC, 0, 120.0)
    assert order.servers(EXIT, OWN, 100.0 + PASSED_OVER_TIME) == [FIRST, PUBLIC]


def test_an_exit_node_that_refuses_answers_no_names_and_one_that_fails_may() -> None:
    order = ExitOrder()
    order.note_answer(EXIT, [FIRST], FIRST, 2, 0.0)
    assert order.report(EXIT, [ROUTER]).way is Way.EXIT
    order.note_answer(EXIT, [FIRST], FIRST, 5, 0.0)
    assert order.report(EXIT, [ROUTER]).way is Way.LOST


@pytest.mark.parametrize(
    ("asked", "keeps_lan", "kill_switch", "way"),
    [
        (server("192.168.1.1", by_tunnel=False), True, False, Way.OUTSIDE),
        (server("192.168.1.1", by_tunnel=False), True, True, Way.OUTSIDE),
        (server("192.168.1.1", by_tunnel=True), False, False, Way.LOST),
        (server("192.168.1.1", by_tunnel=True, is_bound=True), False, False, Way.OUTSIDE),
        (server("192.168.1.1", by_tunnel=True, is_bound=True), False, True, Way.LOST),
        (server("192.0.2.53", by_tunnel=True), True, False, Way.TUNNEL),
        (server("192.0.2.53", by_tunnel=True, is_bound=True), True, False, Way.OUTSIDE),
        (server("192.0.2.53", by_tunnel=True, is_bound=True), True, True, Way.LOST),
        (server("127.0.0.1", by_tunnel=False), True, False, Way.LOCAL),
        (server("fe80::1", by_tunnel=False), True, False, Way.OUTSIDE),
    ],
)
def test_with_names_off_a_question_goes_as_the_host_has_it(
    asked: Server, keeps_lan: bool, kill_switch: bool, way: Way
) -> None:
    exit_ = dataclasses.replace(EXIT, keeps_lan=keeps_lan, kill_switch=kill_switch)
    assert exit_.way_to(asked) is way
    assert report_untold(exit_, [asked]) == RestReport(way, (str(asked.address),), "oslo")


def test_what_leaves_outside_is_told_before_all_else_and_one_that_works_before_what_is_lost() -> None:
    lost, tunnel = server("192.168.1.1", by_tunnel=True), server("192.0.2.53", by_tunnel=True)
    outside = server("192.168.1.2", by_tunnel=False)
    assert report_untold(EXIT, [lost, tunnel, outside]).servers == ("192.168.1.2",)
    assert report_untold(EXIT, [lost, tunnel]) == RestReport(Way.TUNNEL, ("192.0.2.53",), "oslo")
    assert report_untold(EXIT, []) == RestReport(Way.LOST, (), "oslo")


def test_a_note_says_what_to_do_and_nothing_where_all_is_well() -> None:
    for way in (Way.HOST, Way.EXIT, Way.TUNNEL, Way.LOCAL):
        assert not RestReport(way, ("192.0.2.53",), "oslo").note(is_on=True)
    outside = RestReport(Way.OUTSIDE, ("192.168.1.1", "192.168.1.2"), "oslo").note(is_on=False)
    assert outside == (
        "questions to the name servers 192.168.1.1, 192.168.1.2 leave outside of the tunnel: "
        "wgpy set --dns on has the exit node oslo answer them"
    )
    assert "192.168.1.1 are lost" in RestReport(Way.LOST, ("192.168.1.1",), "oslo").note(is_on=False)
    assert "this host has no name server: " in RestReport(Way.LOST, (), "oslo").note(is_on=False)
    assert "oslo answers no names" in RestReport(Way.LOST, (), "oslo").note(is_on=True)
