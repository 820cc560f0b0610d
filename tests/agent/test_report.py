from __future__ import annotations

from typing import Any

import pytest

from tests.mesh.examples import wireguard_key
from wgpy.addresses import Endpoint
from wgpy.agent.report import PeerFacts, PeerReport, describe_age, describe_peer, summary
from wgpy.keys import PresharedKey
from wgpy.mesh.frames import Presence
from wgpy.mesh.paths import CandidateReport, PathReport, kind_of
from wgpy.mesh.relay import relayed_endpoint
from wgpy.protocol.interface import PeerStatus

NOW = 1_800_000_000.0
WHERE = Endpoint.parse("192.0.2.7:51820")
ONLINE, OFFLINE = Presence((WHERE,), True), Presence((WHERE,), False)


def tried(
    *endpoints: Endpoint, attempts: int = 3, answers: bool = False, mtu: int | None = None
) -> PathReport:
    """The first of them is in use."""
    candidates = tuple(
        CandidateReport(endpoint, kind_of(endpoint), endpoint == endpoints[0], "not tried yet", None, mtu)
        for endpoint in endpoints
    )
    reason = "lan: it answers there in 0.4 ms"
    return PathReport(
        kind_of(endpoints[0]),
        endpoints[0],
        answers,
        reason,
        0.0004 if answers else None,
        attempts,
        None,
        candidates,
        mtu,
    )


def describe(
    *,
    endpoint: Endpoint | None = WHERE,
    age: float | None = None,
    coordinator_is_up: bool = True,
    keepalive: int = 20,
    **changes: Any,
) -> PeerReport:
    shaken_at = 0 if age is None else int((NOW - age) * 1e9)
    status = PeerStatus(
        wireguard_key(2).public_key(), PresharedKey.zero(), endpoint, shaken_at, 100, 200, keepalive, ()
    )
    facts = PeerFacts(
        id="b" * 32,
        name="bob",
        addresses=("10.1.0.2",),
        public_key="k",
        status=status,
        presence=ONLINE,
        is_alive=False,
        unanswered=0.0,
        paths=tried(WHERE),
    )
    changed = PeerFacts(**{name: getattr(facts, name) for name in PeerFacts.__slots__} | changes)
    return describe_peer(changed, coordinator_is_up, NOW)


def test_a_live_session_is_direct() -> None:
    report = describe(is_alive=True, age=12.0)
    assert (report.path, report.endpoint) == ("direct", str(WHERE))
    assert (report.rx_bytes, report.tx_bytes, report.online) == (100, 200, True)


def test_a_proven_path_tells_its_kind_its_round_trip_and_why_it_is_used() -> None:
    where = Endpoint.parse("192.168.7.2:51820")
    report = describe(is_alive=True, age=12.0, endpoint=where, paths=tried(where, WHERE, answers=True))
    assert (report.path, report.rtt_ms, report.reason) == ("lan", 0.4, "lan: it answers there in 0.4 ms")
    assert [each.endpoint for each in report.tried] == [str(where), str(WHERE)]


def test_a_path_with_less_room_than_the_interface_says_how_much_and_why() -> None:
    where = Endpoint.parse("192.168.7.2:51820")
    report = describe(is_alive=True, age=12.0, endpoint=where, paths=tried(where, answers=True, mtu=1200))
    assert report.mtu == report.tried[0].mtu == 1200
    assert report.reason == "lan: it answers there in 0.4 ms; MTU 1200, for longer packets are lost there"
    assert describe(endpoint=where, paths=tried(where, mtu=1200)).mtu is None, "there is no path at all"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"presence": OFFLINE}, "offline: the coordinator does not hear from it (no handshake yet)"),
        (
            {"presence": OFFLINE, "age": 4000.0},
            "offline: the coordinator does not hear from it (last handshake 66 min ago)",
        ),
        ({"endpoint": None, "presence": OFFLINE}, "offline: the coordinator does not hear from it"),
        ({"endpoint": None, "presence": None}, "no endpoint known yet"),
        (
            {"endpoint": None, "coordinator_is_up": False},
            "no endpoint known, and the coordinator cannot be asked",
        ),
        ({"paths": tried(WHERE, attempts=1)}, "connecting: handshakes are under way to it"),
        ({}, f"no answer from {WHERE}; no handshake yet; is UDP blocked in between?"),
        (
            {"unanswered": 20.0, "age": 60.0},
            f"no answer from {WHERE} for 20 s; last handshake 60 s ago; is UDP blocked in between?",
        ),
        (
            {"paths": tried(WHERE, Endpoint.parse("10.0.0.7:51820"))},
            "no answer from any of its 2 endpoints; no handshake yet; is UDP blocked in between?",
        ),
        ({"keepalive": 0}, f"idle: no handshake yet; the next packet makes one with {WHERE}"),
        ({"addresses": ()}, "none of its addresses is one that this node follows"),
    ],
)
def test_a_peer_out_of_reach_has_a_reason_in_words(changes: dict[str, Any], reason: str) -> None:
    report = describe(**changes)
    assert (report.path, report.reason) == ("none", reason)


def test_nobody_is_called_offline_on_the_word_of_a_coordinator_that_is_away() -> None:
    report = describe(presence=OFFLINE, coordinator_is_up=False)
    assert report.online is None
    assert "offline" not in report.reason


def test_ages_and_counts_read_well() -> None:
    ages = [describe_age(seconds) for seconds in (None, 0, 119, 120, 7199, 7200, 172_799, 172_800)]
    assert ages == ["never", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]
    live = describe(is_alive=True, age=1.0)
    assert summary([]) == "0 peers, 0 reachable"
    assert summary([live]) == "1 peer, 1 reachable"
    assert summary([live, describe()]) == "2 peers, 1 reachable"


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((), "; no endpoint of its own is known"),
        ((WHERE,), "; its own endpoint does not answer"),
        ((WHERE, Endpoint.parse("192.168.7.2:51820")), "; none of its 2 own endpoints answers"),
    ],
)
def test_a_relayed_path_tells_why_it_is_no_direct_one(others: tuple[Endpoint, ...], words: str) -> None:
    relayed = relayed_endpoint(1, 7)
    paths = tried(relayed, relayed_endpoint(2, 7), *others, answers=True)
    report = describe(is_alive=True, age=12.0, endpoint=relayed, paths=paths)
    assert (report.path, report.reason) == ("relayed", "lan: it answers there in 0.4 ms" + words)
