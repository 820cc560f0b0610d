"""A relay that does with packets whatever it likes: it reads nothing, and nothing of its making gets in.

one ---+
other -+- meddler and relay      three nodes behind symmetric NATs, and no other way
third -+
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import wait_until
from wgpy.engine import ENGINES

MEDDLER = Path(__file__).with_name("meddler.py")
PATTERN = "c0ffee5afe"
COUNT = 100

pytestmark = [pytest.mark.root, pytest.mark.slow]


def packets_out_of_tunnel(node: Node) -> int:
    shown = node.host.run("ip", "-json", "-s", "link", "show", "dev", node.interface).stdout
    count: int = json.loads(shown)[0]["stats64"]["rx"]["packets"]
    return count


@pytest.mark.parametrize("engine", ENGINES)
def test_a_relay_reads_nothing_gets_nothing_in_and_puts_nobody_in_anothers_place(
    engine: str, tmp_path: Path
) -> None:
    with Lab("malicious") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        relay = mesh.internet.host("relay")
        key = mesh.admin("relay", "create", "paris", "--endpoint", f"{relay.ipv4}:3478").strip()
        relay.run("sh", "-c", "umask 077; cat > /run/relay.key", input=key)
        serving = relay.start("wgpy", "relay", "serve", "/run/relay.key", "--port", "3500", log="relay")
        serving.wait_text("on UDP port 3500")
        capture = tmp_path / "capture"
        meddler = relay.start(sys.executable, MEDDLER, "3478", "3500", str(capture), log="meddler")
        meddler.wait_text("ready")
        nodes = []
        for name in ("one", "other", "third"):
            node = Node(Home(mesh.internet, f"{name}-home", Nat.SYMMETRIC).host(name), mesh.network)
            node.up(mesh.token(), env={"WGPY_ENGINE": engine})
            nodes.append(node)
        for node in nodes:
            node.wait_up()
        one, other, third = nodes
        for node in (other, third):
            one.wait_reach(node)
        third.wait_reach(other)

        before = [packets_out_of_tunnel(node) for node in nodes]
        ping = ("ping", "-c", f"{COUNT}", "-i", "0.05", "-p", PATTERN, other.address("v4"))
        said = one.host.run(*ping, timeout=60).stdout
        assert f"{COUNT} packets transmitted, {COUNT} received, 0% packet loss" in said, said
        assert "duplicates" not in said
        after = [packets_out_of_tunnel(node) for node in nodes]
        assert [late - early for late, early in zip(after, before, strict=True)] == [COUNT, COUNT, 0]

        fakes = re.findall(r"^(changed|of another|repeated|made up)$", meddler.text(), re.MULTILINE)
        assert len(fakes) > 8 * COUNT, "each echo and its answer came with four that are not true"
        seen = capture.read_bytes()
        assert len(seen) > 2 * COUNT * 84
        assert bytes.fromhex(PATTERN) not in seen
        for peer in (one.peer(other), one.peer(third), other.peer(one)):
            assert peer is not None
            assert peer["path"] == "relayed"
        wait_until(lambda: third.ping(one, "v6", timeout=1), "nobody's place was taken")
