"""As many allowed IPs and peers as `wg` is used with: set by `wg setconf`, read back by `wg show`."""

from __future__ import annotations

import base64
import os
import random
import resource
from collections.abc import Iterator

import pytest

from tests.netns.hosts import Host, Lab
from tests.netns.processes import process_stat
from wgpy.engine import ENGINES

pytestmark = pytest.mark.root

UTIME, STIME = 11, 12


def key(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(32)).decode()


@pytest.fixture(params=ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """With a wgpy-device that serves wg0."""
    with Lab("scale") as lab:
        host = lab.host("host")
        host.run("wgpy-device", "wg0", env={"WGPY_ENGINE": request.param})
        yield host


def set_configuration(host: Host, text: str) -> None:
    host.run("sh", "-c", "umask 077; cat > /run/wg0; wg setconf wg0 /run/wg0", input=text)


def show(host: Host, what: str) -> str:
    """What `wg show` prints, which takes under 2 s: of processor time, `wg`'s and the device's together, so
    that it is the same on a machine that has more to do.
    """
    [device] = host.processes()

    def used() -> float:
        words = process_stat(device)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        of_device = (int(words[UTIME]) + int(words[STIME])) / os.sysconf("SC_CLK_TCK")
        return of_device + children.ru_utime + children.ru_stime

    before = used()
    text = host.run("wg", "show", "wg0", what).stdout
    took = used() - before
    assert took < 2, f"wg show takes {took} s"
    return text


def test_130560_allowed_ips_of_one_peer_are_set_and_shown(host: Host) -> None:
    rng = random.Random(1)
    peer = key(rng)
    prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(65280)]
    prefixes += [f"fd00:{number:x}::/64" if number else "fd00::/64" for number in range(65280)]
    blocks = [", ".join(prefixes[start : start + 100]) for start in range(0, len(prefixes), 100)]
    allowed = "".join(f"AllowedIPs = {block}\n" for block in blocks)
    text = f"[Interface]\nPrivateKey = {key(rng)}\n[Peer]\nPublicKey = {peer}\n{allowed}"
    # The second time each is there already, and stays.
    for _ in range(2):
        set_configuration(host, text)
        shown = show(host, "allowed-ips").split()
        assert shown[0] == peer
        assert sorted(shown[1:]) == sorted(prefixes)
    host.run("wg", "set", "wg0", "peer", peer, "allowed-ips", "192.0.2.0/24")
    assert show(host, "allowed-ips").split() == [peer, "192.0.2.0/24"]


def test_1000_peers_are_set_and_shown(host: Host) -> None:
    rng = random.Random(2)
    peers = {key(rng): (f"10.0.{number >> 8}.{number & 255}/32", number) for number in range(1000)}
    text = f"[Interface]\nPrivateKey = {key(rng)}\n"
    for peer, (allowed, number) in peers.items():
        text += f"[Peer]\nPublicKey = {peer}\nAllowedIPs = {allowed}\nEndpoint = 192.0.2.1:{number + 1}\n"
    set_configuration(host, text)
    lines = [line.split("\t") for line in show(host, "dump").splitlines()[1:]]
    assert {line[0]: (line[3], int(line[2].rpartition(":")[2]) - 1) for line in lines} == peers
