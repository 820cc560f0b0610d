"""Tunnels over a line that loses, doubles, delays and reorders (see `impairment`).

one --- bad line --- internet --- two
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.interop.tunnel import WIREGUARD_GO, Family, Implementation, Tunnel
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.impairment import Impairment, Line
from tests.netns.processes import wait_until
from wgpy.engine import ENGINES

pytestmark = [pytest.mark.root, pytest.mark.slow]

BAD = Impairment(delay=0.03, jitter=0.02, loss=0.1, duplicate=0.1, reorder=0.2)
V4: Family = "v4"
V6: Family = "v6"
RECOVERY = 40.0
"""Seconds: KEEPALIVE_TIMEOUT + REKEY_TIMEOUT to notice, a few handshakes lost at 5 s each, a slow machine."""


class BadInternet(Internet):
    """Every first host, the initiator's, is at the end of the line."""

    def __init__(self, lab: Lab, line: Line) -> None:
        super().__init__(lab)
        self._line: Line | None = line

    def host(self, name: str, line: object = None) -> Host:
        given, self._line = self._line, None
        return super().host(name, given)


@pytest.fixture(params=ENGINES)
def ours(request: pytest.FixtureRequest) -> Implementation:
    return Implementation(
        f"wgpy-{request.param}", ("wgpy-device", "--foreground"), (f"WGPY_ENGINE={request.param}",)
    )


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("badline") as lab:
        yield lab


def test_a_bad_line_makes_a_tunnel_slow_but_not_wrong(lab: Lab, ours: Implementation) -> None:
    line = Line(BAD, seed=5)
    # With itself over IPv4, with wireguard-go over IPv6: one of them for each engine.
    is_default = ours.name == f"wgpy-{ENGINES[0]}"
    other, outer = (ours, V4) if is_default else (WIREGUARD_GO, V6)
    tunnel = Tunnel(BadInternet(lab, line), "bad", ours, other, outer=outer)
    one, two = tunnel.initiator, tunnel.responder
    wait_until(lambda: one.ping(two, timeout=2), "the tunnel comes up", timeout=RECOVERY)
    text = one.host.run("ping", "-c100", "-i0.05", "-W3", two.inner["v4"], check=False).stdout
    [(sent, received)] = re.findall(r"(\d+) packets transmitted, (\d+) received", text)
    # 0.9 twice is 0.81 of them. Doubles never come out of the tunnel: the replay window.
    assert int(sent) == 100
    assert 60 <= int(received) <= 100
    assert "DUP!" not in text
    one.send_to(two, "v4", 1 << 18, timeout=90)
    two.send_to(one, "v6", 1 << 18, timeout=90)
    tunnel.close()


def test_traffic_recovers_from_a_line_that_was_cut(lab: Lab, ours: Implementation) -> None:
    line = Line(Impairment())
    tunnel = Tunnel(BadInternet(lab, line), "cut", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    assert one.ping(two)
    before = one.latest_handshake
    line.set(Impairment(cut=True))
    # Longer than silence is borne: a handshake is begun, and forgets where it was sent from.
    ping = one.host.start("ping", "-i0.5", two.inner["v4"])
    sent = one.transfer[1]
    wait_until(lambda: one.transfer[1] - sent > 10 * 128 + 148 and not one.ping(two, timeout=1), "it is cut")
    line.set(Impairment())
    echoes = ping.text().count("time=")
    ping.wait_for(lambda text: text.count("time=") > echoes, "echoes again", timeout=RECOVERY)
    assert one.ping(two, count=3)
    assert two.ping(one, "v6")
    assert one.latest_handshake >= before
    tunnel.close()
