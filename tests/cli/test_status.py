from __future__ import annotations

import time
from typing import Any

import pytest

from wgpy.cli.status import describe_rtt, render


def peer(name: str, **changes: Any) -> dict[str, Any]:
    facts = {
        "name": name, "addresses": ["10.1.0.2", "fd00::2"], "path": "direct", "reason": "", "rtt_ms": 34.12,
        "endpoint": "192.0.2.7:51820", "latest_handshake": int(time.time()) - 30, "rx_bytes": 2048,
        "tx_bytes": 0, "refused": [], "ranges": [],
    }  # fmt: skip
    return facts | changes


def report(*peers: dict[str, Any]) -> dict[str, Any]:
    coordinator = {"state": "connected", "reason": "", "url": "https://c", "since": int(time.time())}
    return {
        "name": "home", "node": "alice", "interface": "wg-home", "listen_port": 51820, "problems": [],
        "relays": [], "forwards": [], "exit_node": "",
        "addresses": ["10.1.0.1"], "coordinator": coordinator, "peers": list(peers),
    }  # fmt: skip


def test_a_row_has_path_round_trip_handshake_and_transfer_under_their_headings() -> None:
    lost = peer("carol", path="none", reason="offline", rtt_ms=None, latest_handshake=None, endpoint=None)
    lines = render(report(peer("bob"), lost)).splitlines()
    header, bob, carol = lines[-3:]
    for heading, at_bob, at_carol in [
        ("PATH", "direct", "none"), ("RTT", "34 ms", "-"), ("HANDSHAKE", "30 s ago", "never"),
        ("RECEIVED", "2.0 KiB", "2.0 KiB"), ("ENDPOINT", "192.0.2.7:51820", "-"),
    ]:  # fmt: skip
        column = header.index(heading)
        assert bob[column:].startswith(at_bob)
        assert carol[column:].startswith(at_carol)
    assert carol.endswith("  offline")


def test_a_path_that_takes_less_than_the_interface_is_said() -> None:
    tried = [
        {
            "path": "direct",
            "endpoint": "192.0.2.7:1",
            "state": "answered 1 s ago",
            "rtt_ms": 4.0,
            "mtu": 1200,
        },
        {"path": "relayed", "endpoint": "relay", "state": "answered 1 s ago", "rtt_ms": 9.0, "mtu": None},
    ]
    reason = "direct: it answers there in 4 ms; MTU 1200, for longer packets are lost there"
    narrow = peer("bob", reason=reason, mtu=1200, tried=tried, next_try=None)
    row, why, direct, relayed = render(report(narrow), with_paths=True).splitlines()[-4:]
    assert row.endswith(reason)
    assert why.strip() == reason
    assert direct.endswith("answered 1 s ago, MTU 1200")
    assert relayed.endswith("answered 1 s ago")


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(None, "-"), (0.341, "0.34 ms"), (4.56, "4.6 ms"), (141.7, "142 ms")]
)
def test_round_trips_have_two_figures_and_a_unit(milliseconds: float | None, text: str) -> None:
    assert describe_rtt(milliseconds) == text
