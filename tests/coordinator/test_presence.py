from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.presence import GRACE, LEASE, PresenceLane, Report, unproven_endpoints, usable_endpoints
from wgpy.addresses import Endpoint

A, B = "a" * 32, "b" * 32


def report(boot: int, sequence: int, *ports: int) -> Report:
    endpoints = tuple(Endpoint(ipaddress.ip_address("192.0.2.1"), port) for port in ports)
    return Report(boot, sequence, endpoints, 0.0)


@given(st.permutations([(1, 1), (1, 2), (2, 1), (2, 9), (3, 0)]))
def test_the_largest_boot_and_sequence_wins_in_whatever_order_reports_come(
    order: list[tuple[int, int]],
) -> None:
    lane = PresenceLane({}, {}, 0.0)
    for boot, sequence in order:
        lane.report(A, report(boot, sequence, 1000 * boot + sequence))
    assert lane.presence_of(A).endpoints[0].port == 3000


def test_a_lease_runs_out_and_a_report_does_not() -> None:
    lane = PresenceLane({}, {}, 0.0)
    lane.report(A, report(1, 1, 5))
    lane.hear(A, 100.0)
    lane.expire(100.0 + LEASE - 1)
    assert lane.presence_of(A).online
    lane.expire(100.0 + LEASE)
    assert not lane.presence_of(A).online
    assert lane.presence_of(A).endpoints


def test_a_broken_stream_leaves_a_short_lease() -> None:
    lane = PresenceLane({}, {}, 0.0)
    lane.hear(A, 100.0)
    lane.hang_up(A, 101.0)
    lane.expire(101.0 + GRACE - 1)
    assert lane.presence_of(A).online
    lane.expire(101.0 + GRACE)
    assert not lane.presence_of(A).online
    lane.hang_up(B, 101.0)  # who was never heard


def test_only_what_changed_is_told() -> None:
    lane = PresenceLane({A: report(1, 1, 1), B: report(1, 1, 2)}, {A: 50.0}, 10.0)
    assert lane.complete([A, B]).nodes[A].online
    assert not lane.complete([A, B]).nodes[B].online
    version = lane.version
    lane.hear(A, 11.0)  # it was online before
    lane.report(A, report(1, 2, 1))  # with the same endpoints
    assert lane.version == version
    lane.report(B, report(1, 2, 3))
    frame = lane.since(version, lambda _id: True)
    assert set(frame.nodes) == {B}
    assert not frame.complete
    assert not lane.since(version, lambda id_: id_ != B).nodes
    assert not lane.since(lane.version, lambda _id: True).nodes


def test_a_check_in_that_says_nothing_new_writes_nothing() -> None:
    lane = PresenceLane({}, {}, 0.0)
    lane.report(A, report(1, 1, 1))
    lane.hear(A, 100.0)
    assert lane.is_dirty
    reports, leases = lane.drain_unwritten()
    assert set(reports) == set(leases) == {A}
    for second in range(1, 15):
        lane.report(A, report(1, 1 + second, 1))
        lane.hear(A, 100.0 + second)
    assert not lane.is_dirty
    lane.hear(A, 130.0)
    assert lane.drain_unwritten() == ({}, {A: 130.0 + LEASE})


def test_a_node_is_online_while_any_process_has_a_lease() -> None:
    lane = PresenceLane({}, {}, 0.0)
    lane.hear(A, 100.0)
    lane.learn({A: report(1, 5, 9)}, {A: 200.0, B: 90.0}, 100.0)
    assert lane.presence_of(A).endpoints[0].port == 9
    lane.hang_up(A, 101.0)  # here; elsewhere it goes on
    lane.expire(199.0)
    assert lane.presence_of(A).online
    assert not lane.presence_of(B).online
    lane.learn({A: report(1, 4, 8)}, {A: 150.0}, 199.0)
    lane.expire(200.0)
    assert not lane.presence_of(A).online
    assert lane.presence_of(A).endpoints[0].port == 9
    assert set(lane.drain_unwritten()[0]) == set()  # what others wrote is not written again


def test_written_ahead_a_quiet_node_costs_no_row_and_its_end_is_written_at_once() -> None:
    lane = PresenceLane({}, {}, 0.0, ahead=300.0)
    written = 0
    for second in range(0, 3600, 15):
        lane.hear(A, float(second))
        _, leases = lane.drain_unwritten()
        written += len(leases)
        assert not leases or leases[A] == second + LEASE + 300.0
    assert written == 3600 // 330 + 1
    lane.hang_up(A, 3590.0)
    assert lane.drain_unwritten()[1] == {A: 3590.0 + GRACE}
    lane.hear(A, 3591.0)  # and back again
    assert lane.drain_unwritten()[1] == {A: 3591.0 + LEASE + 300.0}
    lane.expire(3591.0 + LEASE)  # it fell silent
    assert lane.drain_unwritten()[1] == {A: 3591.0 + LEASE}
    assert not lane.presence_of(A).online
    assert lane.drain_unwritten() == ({}, {})


def test_after_a_crash_who_was_online_has_the_length_of_a_lease_to_come_back() -> None:
    lane = PresenceLane({}, {A: 1300.0, B: 900.0}, 1000.0, ahead=300.0)
    assert (lane.presence_of(A).online, lane.presence_of(B).online) == (True, False)
    lane.expire(1000.0 + LEASE - 1)
    assert lane.presence_of(A).online
    lane.expire(1000.0 + LEASE)
    assert not lane.presence_of(A).online


def test_a_removed_node_leaves_nothing_to_write() -> None:
    lane = PresenceLane({}, {}, 0.0)
    lane.report(A, report(1, 1, 1))
    lane.hear(A, 0.0)
    lane.forget(A)
    assert lane.drain_unwritten() == ({}, {})
    assert lane.complete([A]).nodes == {}


@pytest.mark.parametrize(
    ("observed", "reported", "usable"),
    [
        ("192.0.2.9", [], ["192.0.2.9:7"]),
        ("192.0.2.9", ["10.0.0.1:8", "192.0.2.9:7", "10.0.0.1:8"], ["192.0.2.9:7", "10.0.0.1:8"]),
        ("::ffff:192.0.2.9", ["[::ffff:10.0.0.1]:8"], ["192.0.2.9:7", "10.0.0.1:8"]),
        ("2001:db8::9", [], ["[2001:db8::9]:7"]),
        ("127.0.0.1", ["10.0.0.1:8"], ["10.0.0.1:8", "127.0.0.1:7"]),
        ("192.0.2.9", ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1",
        "[fe80::1]:1",
                       "[ff02::1]:1", "169.254.1.1:1", "0.1.2.3:1"], ["192.0.2.9:7"]),
        (None, ["10.0.0.1:8"], ["10.0.0.1:8"]),
    ],
)  # fmt: skip
def test_others_are_told_of_endpoints_that_can_be_another_hosts(
    observed: str | None, reported: list[str], usable: list[str]
) -> None:
    seen = None if observed is None else ipaddress.ip_address(observed)
    found = usable_endpoints(seen, 7, [Endpoint.parse(text) for text in reported])
    assert [str(endpoint) for endpoint in found] == usable


def test_no_more_than_sixteen_endpoints_are_told() -> None:
    many = [Endpoint(ipaddress.ip_address("10.0.0.1"), port) for port in range(1, 30)]
    assert len(usable_endpoints(ipaddress.ip_address("192.0.2.1"), 7, many)) == 16
    last = usable_endpoints(ipaddress.ip_address("127.0.0.1"), 7, many)
    assert len(last) == 16
    assert str(last[-1]) == "127.0.0.1:7"


@pytest.mark.parametrize(
    ("observed", "reported", "usable"),
    [
        ("192.0.2.9", ["198.51.100.66:53", "192.0.2.9:1"], ["192.0.2.9:1"]),
        ("192.0.2.9", ["100.64.0.7:9", "[fd00::1]:7"], ["192.0.2.9:7", "100.64.0.7:9", "[fd00::1]:7"]),
        (
            "2001:db8::9",
            ["[2001:db8::1:2]:7", "[2001:db8:0:1::9]:7"],
            ["[2001:db8::9]:7", "[2001:db8::1:2]:7"],
        ),
        ("192.0.2.9", ["[2001:db8::9]:7"], ["192.0.2.9:7"]),
        ("192.168.1.5", ["203.0.113.4:7"], ["192.168.1.5:7", "203.0.113.4:7"]),
    ],
)
def test_nobody_is_told_of_a_public_endpoint_where_the_node_was_not_seen(
    observed: str, reported: list[str], usable: list[str]
) -> None:
    found = usable_endpoints(ipaddress.ip_address(observed), 7, [Endpoint.parse(text) for text in reported])
    assert [str(endpoint) for endpoint in found] == usable


def test_where_a_node_has_a_receipt_others_are_told_of_it_and_of_what_they_are_not_told_it_hears() -> None:
    observed, proven = ipaddress.ip_address("192.0.2.9"), [ipaddress.ip_address("2001:db8::9")]
    reported = [
        Endpoint.parse(text)
        for text in ("[2001:db8::9]:7", "[2001:db8::1:5]:8", "203.0.113.5:9", "10.0.0.1:7", "192.0.2.9:7")
    ]
    usable = usable_endpoints(observed, 7, reported, proven)
    assert [str(endpoint) for endpoint in usable] == [
        "192.0.2.9:7",
        "[2001:db8::9]:7",
        "[2001:db8::1:5]:8",
        "10.0.0.1:7",
    ]
    assert [str(endpoint) for endpoint in unproven_endpoints(reported, usable)] == ["203.0.113.5:9"]
