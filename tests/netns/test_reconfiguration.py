"""`wg syncconf` by the thousand while traffic flows: nothing is lost, no session ends, nothing grows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.tunnel import PORT, WGPY, End, Family, Implementation, Keys, Tunnel
from tests.netns.hosts import Internet, Lab

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone]

OTHERS = 20
"""Peers that come and go beside the one that the traffic is with."""
SIZE = 8 << 20
MOST_GROWTH = 6 << 20
"""Octets of resident memory: an allocator's pools have filled by then."""


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("syncconf") as lab:
        yield Internet(lab)


def peer(public: str, allowed: str, *lines: str) -> str:
    return "\n".join(["[Peer]", f"PublicKey = {public}", f"AllowedIPs = {allowed}", *lines, ""])


def configurations(one: End, two: End) -> tuple[str, str]:
    """Two for `one`: other neighbours, other keepalives, another mark; the peer `two` is in both."""
    device = f"[Interface]\nPrivateKey = {one.keys.private}\nListenPort = {PORT}\n"
    both = f"{two.inner['v4']}/32, {two.inner['v6']}/128"
    endpoint = f"Endpoint = {two.outer('v4')}"
    strangers = [Keys.generate().public for _ in range(2 * OTHERS)]

    def neighbours(keys: list[str], network: int) -> str:
        return "".join(
            peer(key, f"10.{network}.{number}.0/24, fd{network}:{number}::/64")
            for number, key in enumerate(keys)
        )

    first = device + peer(two.keys.public, both, endpoint) + neighbours(strangers[:OTHERS], 80)
    more = f"{both}, 10.99.0.0/16"
    second = device + "FwMark = 0x20\n" + peer(two.keys.public, more, endpoint, "PersistentKeepalive = 25")
    # Half of the addresses move to other peers.
    return first, second + neighbours(strangers[OTHERS // 2 : OTHERS], 80) + neighbours(
        strangers[OTHERS:], 81
    )


def run(internet: Internet, ours: Implementation, changes: int) -> None:
    tunnel = Tunnel(internet, f"sync-{ours}", ours, ours)
    one, two = tunnel.initiator, tunnel.responder
    texts = configurations(one, two)
    for name, text in zip("ab", texts, strict=True):
        one.host.run("sh", "-c", f"umask 077; cat > /run/{name}.conf", input=text)
    loop = (
        f"i=0; while [ $i -lt {changes // 2} ]; do "
        "wg syncconf wg0 /run/a.conf && wg syncconf wg0 /run/b.conf || exit 1; i=$((i + 1)); done"
    )
    # Once round, so that what is allocated for good is there.
    one.host.run("sh", "-c", "for f in a b a b; do wg syncconf wg0 /run/$f.conf; done")
    one.send_to(two, "v4", SIZE, timeout=60)
    handshake = two.latest_handshake
    proc = Path(f"/proc/{one.device.pid}")
    before, resident = [sorted(os.listdir(proc / of)) for of in ("fd", "task")], one.device.resident_bytes()
    changing = one.host.start("sh", "-c", loop, log="syncconf")
    rounds = 0
    families: tuple[Family, ...] = ("v4", "v6")
    ways = itertools.product([(one, two), (two, one)], families)
    for (sender, receiver), family in itertools.cycle(ways):
        sender.send_to(receiver, family, SIZE, timeout=60)
        rounds += 1
        if changing.returncode is not None:
            break
    assert changing.wait() == 0, changing.tail()
    assert rounds > 1, "traffic flowed meanwhile"
    assert f"{two.keys.public}\t25" in one.wg("show", "wg0", "persistent-keepalive")
    assert one.wg("show", "wg0", "fwmark") == "0x20"
    assert len(one.wg("show", "wg0", "peers").split()) == 1 + OTHERS + OTHERS // 2
    # Every two minutes a handshake is due, and no other was.
    assert (two.latest_handshake - handshake) % 120 < 10, "the session went on"
    assert [sorted(os.listdir(proc / of)) for of in ("fd", "task")] == before
    assert one.device.resident_bytes() - resident < MOST_GROWTH
    tunnel.close()


def test_a_thousand_changes_disturb_no_traffic(internet: Internet) -> None:
    run(internet, WGPY["native"], 1000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", list(WGPY))
def test_ten_thousand_changes_disturb_no_traffic(internet: Internet, engine: str) -> None:
    run(internet, WGPY[engine], 10_000)
