from __future__ import annotations

import pytest

from tests.mesh.examples import node_id
from wgpy.addresses import Endpoint
from wgpy.mesh.encoding import MAX_INTEGER, MalformedMessage, encode_json
from wgpy.mesh.tunnels import (
    MAX_REASON,
    MAX_TRIED,
    MAX_TRIED_TEXT,
    MAX_TUNNELS,
    Tunnel,
    TunnelReport,
)
from wgpy.mesh.wire import MAX_BODY_SIZE, CheckinRequest

LONGEST = Tunnel(
    "relayed",
    "x" * MAX_REASON,
    Endpoint.parse("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"),
    MAX_INTEGER,
    60_000_000,
    MAX_INTEGER,
    MAX_INTEGER,
    ("x" * MAX_TRIED_TEXT,) * MAX_TRIED,
    MAX_INTEGER,
)


def test_the_largest_report_fits_into_a_body() -> None:
    report = TunnelReport(True, {node_id(number): LONGEST for number in range(MAX_TUNNELS)})
    request = CheckinRequest(None, 1, 1, 51820, (LONGEST.endpoint,) * 16, report, True)  # type: ignore[arg-type]
    assert len(encode_json(request.to_json())) < MAX_BODY_SIZE
    assert CheckinRequest.from_json(request.to_json()) == request


def test_a_report_of_more_peers_is_refused_without_reading_them_all() -> None:
    peers = {node_id(number): Tunnel("none").to_json() for number in range(MAX_TUNNELS + 1)}
    with pytest.raises(MalformedMessage, match=rf"tunnels\.peers: expected at most {MAX_TUNNELS}"):
        TunnelReport.from_json({"begin": True, "peers": peers}, "tunnels")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "teleported"),
        ("path", None),
        ("reason", "x" * (MAX_REASON + 1)),
        ("reason", "\x1b[2J"),
        ("endpoint", "example.com:1"),
        ("endpoint", "[2001:DB8::1]:1"),
        ("handshake_age", -1),
        ("handshake_age", 1.5),
        ("rtt_us", 60_000_001),
        ("rx_bytes", None),
        ("tx_bytes", True),
        ("tried", ["x"] * (MAX_TRIED + 1)),
        ("tried", ["x" * (MAX_TRIED_TEXT + 1)]),
        ("tried", ["\x1b[2J"]),
        ("next_try", -1),
    ],
)
def test_what_is_not_a_tunnel_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    peers = {node_id(2): LONGEST.to_json() | {field: value}}
    with pytest.raises(MalformedMessage, match=rf"tunnels\.peers\.{node_id(2)}\.{field}(\[0\])?: expected"):
        TunnelReport.from_json({"begin": False, "peers": peers}, "tunnels")
