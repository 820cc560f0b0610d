"""Nodes that cannot reach each other, and the relay that carries their packets, with real processes."""

from __future__ import annotations

import itertools
import re
import signal
import time
from pathlib import Path
from typing import Any

from tests.netns.hosts import Internet, Lab
from tests.netns.meeting import make_certificate
from tests.netns.mesh import Mesh, Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import Process, wait_until


def behind(mesh: Mesh, name: str, nat: Nat) -> Node:
    """A node behind a router of its own."""
    node = Node(Home(mesh.internet, f"{name}-home", nat).host(name), mesh.network)
    mesh.nodes[name] = node
    node.up(mesh.token())
    node.wait_up()
    return node


def start_relay(mesh: Mesh, name: str) -> Process:
    """A relay of its own, made and started as an admin would."""
    host = mesh.internet.host(name)
    key = mesh.admin("relay", "create", name, "--endpoint", f"{host.ipv4}:3478").strip()
    host.run("sh", "-c", "umask 077; cat > /run/relay.key", input=key)
    relay = host.start("wgpy", "relay", "serve", "/run/relay.key", log="relay")
    relay.wait_text("on UDP port 3478")
    return relay


class Echoes:
    """An echo each tenth of a second, and when its answers came."""

    def __init__(self, one: Node, other: Node) -> None:
        address = other.address("v4")
        self._ping = one.host.start(
            "ping", "-D", "-i", "0.1", "-O", address, log=f"echoes-{time.monotonic()}"
        )

    def answers(self) -> list[float]:
        return [float(at) for at in re.findall(r"\[([\d.]+)\] \d+ bytes from", self._ping.text())]

    def wait_more(self, count: int) -> None:
        before = len(self.answers())
        wait_until(lambda: len(self.answers()) >= before + count, "echoes come back", timeout=30)

    def stop(self) -> tuple[float, int]:
        """The longest time without an answer, and how many did not come."""
        self._ping.signal(signal.SIGINT)
        self._ping.wait()
        sent, received = re.findall(r"(\d+) packets transmitted, (\d+) received", self._ping.text())[0]
        answers = self.answers()
        gap = max(later - earlier for earlier, later in itertools.pairwise(answers))
        return gap, int(sent) - int(received)


def wait_relayed(one: Node, other: Node) -> dict[str, Any]:
    """Until one says that it reaches the other by a relay, and that it answered; what it says."""

    def is_proven() -> dict[str, Any] | None:
        peer = one.peer(other) or {}
        return peer if "relayed: it answers there" in peer.get("reason", "") else None

    return wait_until(is_proven, f"{one.host.name} is relayed to {other.host.name}", timeout=20)


def test_two_nodes_behind_hard_nats_talk_through_the_coordinators_relay() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab))
        one, other = behind(mesh, "one", Nat.SYMMETRIC), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        peer = wait_relayed(one, other)
        assert (peer["path"], peer["endpoint"]) == ("relayed", "relay coordinator"), peer
        (relay,) = one.report()["relays"]
        assert (relay["name"], relay["state"], relay["reason"]) == ("coordinator", "up", ""), relay


def test_where_udp_is_blocked_the_relay_is_reached_over_tls_and_by_udp_once_that_passes() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), is_public=True)
        home = Home(mesh.internet, "one-home", Nat.SYMMETRIC)
        home.block_udp()
        one = Node(home.host("one"), mesh.network)
        one.up(mesh.token())
        one.wait_up()
        other = behind(mesh, "other", Nat.TCP_443_ONLY)
        one.wait_reach(other)
        assert wait_relayed(one, other)["path"] == "relayed"
        (relay,) = one.report()["relays"]
        assert relay["state"] == "up", relay
        assert relay["endpoint"] == mesh.url, relay
        home.block_udp(blocked=False)

        def uses_udp() -> bool:
            (relay,) = one.report()["relays"]
            return relay["state"] == "up" and relay["endpoint"] != mesh.url

        wait_until(uses_udp, "the relay is reached by UDP", timeout=40)
        one.wait_reach(other)


def test_when_a_relay_dies_the_other_one_takes_over_and_one_that_stops_in_order_costs_nothing() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        relays = {name: start_relay(mesh, name) for name in ("paris", "oslo")}
        one, other = behind(mesh, "one", Nat.SYMMETRIC), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        wait_relayed(one, other)
        wait_relayed(other, one)
        for node in (one, other):
            wait_until(lambda node=node: len(ups(node)) == 2, "both relays are up", timeout=20)  # type: ignore[misc]
        # Told to stop, it sends its nodes away first.
        echoes = Echoes(one, other)
        echoes.wait_more(10)
        used = str(wait_relayed(one, other)["endpoint"]).removeprefix("relay ")
        relays[used].stop(timeout=20)
        echoes.wait_more(20)
        gap, lost = echoes.stop()
        print(f"draining: gap {gap:.2f} s, {lost} lost")
        assert lost <= 1, "the last may be under way"
        # Started again, it is used again; killed, it is missed for a moment.
        host = relays[used].host
        relays[used] = host.start("wgpy", "relay", "serve", "/run/relay.key", log="relay-again")
        wait_until(lambda: len(ups(one)) == len(ups(other)) == 2, "both relays are up again", timeout=40)
        echoes = Echoes(one, other)
        echoes.wait_more(10)
        used = str(wait_relayed(one, other)["endpoint"]).removeprefix("relay ")
        relays[used].kill()
        echoes.wait_more(30)
        gap, lost = echoes.stop()
        print(f"killed: gap {gap:.2f} s, {lost} lost")
        assert gap < 5


def ups(node: Node) -> list[str]:
    return [
        relay["name"] for relay in node.report()["relays"] if relay["state"] == "up" and not relay["draining"]
    ]


def test_with_the_coordinator_away_a_relay_lets_in_whom_it_gave_a_ticket() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        relay = start_relay(mesh, "paris")
        one, other = behind(mesh, "one", Nat.SYMMETRIC), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        mesh.serving.kill()
        relay.kill()
        relay = relay.host.start("wgpy", "relay", "serve", "/run/relay.key", log="relay-again")
        one.wait_reach(other)
        assert one.agent is not None
        one.agent.kill()
        one.up()
        one.wait_up()
        one.wait_reach(other)
        assert ups(one) == ["paris"]


def test_a_disabled_node_is_carried_by_no_relay_until_it_is_let_in_again() -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        start_relay(mesh, "paris")
        one, other = behind(mesh, "one", Nat.SYMMETRIC), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        mesh.admin("node", "edit", "one", "--disable")

        def state() -> str:
            (said,) = one.report()["relays"]
            return f"{said['state']}: {said['reason']}"

        wait_until(
            lambda: state() == "refused: the node is disabled, or its time is over",
            "its next word is refused",
            25,
        )
        mesh.admin("node", "edit", "one", "--enable")
        one.wait_reach(other)
        wait_until(lambda: ups(one) == ["paris"], "the relay is up", 10)


def test_a_relay_with_a_certificate_is_reached_over_tls_by_whom_udp_does_not_let_out(tmp_path: Path) -> None:
    with Lab("relay") as lab:
        mesh = Mesh(Internet(lab), has_relay=False)
        host = mesh.internet.host("paris")
        url = f"https://{host.ipv4}"
        key = mesh.admin("relay", "create", "paris", "--endpoint", f"{host.ipv4}:3478", "--url", url).strip()
        certificate, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
        for path, text in zip((certificate, private), make_certificate(), strict=True):
            path.write_text(text)
        relay = host.start(
            "wgpy", "relay", "serve", "-", "--tls-port", "443", "--tls-cert", str(certificate),
            "--tls-key", str(private), log="relay", stdin=True,
        )  # fmt: skip
        relay.write(key + "\n")
        relay.wait_text("over TLS on TCP port 443")
        one, other = behind(mesh, "one", Nat.UDP_BLOCKED), behind(mesh, "other", Nat.SYMMETRIC)
        one.wait_reach(other)
        (report,) = one.report()["relays"]
        assert (report["state"], report["endpoint"]) == ("up", url), report
