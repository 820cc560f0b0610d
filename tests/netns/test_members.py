"""Who is let in, who is kept out, and what nodes make of edits, with real processes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import Mesh, Node
from tests.netns.processes import Process, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

CODE = re.compile(r"^    ([0-9A-Z]{3}-[0-9A-Z]{3})$", re.MULTILINE)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Lab("members") as lab:
        yield Mesh(Internet(lab), "home", "--keyless")


def ask(mesh: Mesh, node: Node, *options: str) -> Process:
    """`wgpy up` without a token, in the background."""
    command = ("wgpy", "up", "--coordinator", mesh.url, "--network", mesh.network, *options)
    node.agent = node.host.start(*command, log="agent")
    return node.agent


def shown_code(agent: Process) -> str:
    return wait_until(lambda: (found := CODE.search(agent.text())) and found[1], "the code is shown")


def waiting(mesh: Mesh) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mesh.admin("node", "waiting", mesh.network, "--json"))
    return found


def mtu(node: Node) -> int:
    shown = node.host.run("ip", "-json", "link", "show", "dev", node.interface).stdout
    found: int = json.loads(shown)[0]["mtu"]
    return found


def peers(node: Node) -> list[str]:
    report = json.loads(node.host.run("wgpy", "status", node.network, "--json").stdout)
    return [peer["name"] for peer in report["networks"][0]["peers"]]


def test_without_a_token_the_typed_code_lets_a_host_in_whatever_is_killed_meanwhile(mesh: Mesh) -> None:
    identity = re.search(r"identity +(\S+)", mesh.serving.tail())
    assert identity is not None
    friend, node = mesh.join("friend"), mesh.node("guest")
    code = shown_code(ask(mesh, node, "--pin", identity[1]))
    [row] = waiting(mesh)
    assert row["name"] == "guest"
    assert row["needs_code"]
    assert node.agent is not None
    node.agent.wait_text(f"    {mesh.url}/join/{mesh.network}/{row['id']}\n")

    node.agent.kill()
    again = ask(mesh, node, "--pin", identity[1])
    wait_until(lambda: len(CODE.findall(again.text())) == 2, "the code is shown again")
    assert set(CODE.findall(again.text())) == {code}
    assert [one["id"] for one in waiting(mesh)] == [row["id"]]

    mesh.serving.kill()
    wait_until(lambda: "asking again" in node.agent.text(), "it says that nobody answers")  # type: ignore[union-attr]
    mesh.serve()
    wrong = "000-000" if code != "000-000" else "111-111"
    done = mesh.coordinator.run(
        "wgpy", "coordinator", "node", "approve", "guest", "--code", wrong, check=False
    )
    assert done.returncode != 0
    assert "not the code of this host" in done.stderr
    assert "guest is in" in mesh.admin("node", "approve", "guest", "--code", code.lower())
    node.wait_up()
    assert waiting(mesh) == []
    node.wait_reach(friend)

    node.agent.kill()
    ask(mesh, node)
    node.wait_up()
    wait_until(lambda: "joined home before; starting it" in node.agent.text(), "it starts what it is")  # type: ignore[union-attr]
    node.wait_reach(friend)


def test_a_refused_host_ends_with_one_line_and_leaves_nothing(mesh: Mesh) -> None:
    node = mesh.node("refused")
    agent = ask(mesh, node)
    shown_code(agent)
    assert "nobody vouches" in agent.text()
    mesh.admin("node", "refuse", "refused")
    wait_until(lambda: agent.returncode is not None, "it ends")
    assert "an admin of the network refused this host" in agent.text()
    assert node.host.run("find", "/var/lib/wgpy", "-type", "f", check=False).stdout == ""


def test_another_identity_than_the_pin_names_is_refused_before_anything_is_asked(mesh: Mesh) -> None:
    node = mesh.node("pinned")
    command = ("wgpy", "up", "--coordinator", mesh.url, "--network", mesh.network, "--pin", "A" * 43)
    done = node.host.run(*command, check=False)
    assert done.returncode != 0
    assert "is not the coordinator that was named" in done.stderr
    assert "pinned" not in [row["name"] for row in waiting(mesh)]


def test_a_join_by_token_waits_for_approval_over_a_kill_and_spends_one_use(mesh: Mesh) -> None:
    token = mesh.token("--approval", "--tag", "servers")
    node = mesh.node("patient")
    agent = node.up(token)
    wait_until(lambda: "waiting for an admin" in agent.text(), "it says that it waits")
    agent.kill()
    agent = node.up(token)
    wait_until(lambda: "waiting for an admin" in agent.text(), "it says so again")
    mesh.admin("node", "approve", "patient")
    node.wait_up()
    shown = json.loads(mesh.admin("node", "show", "patient", "--json"))
    assert shown["tags"] == ["servers"]


@pytest.mark.alone
def test_nodes_follow_what_an_admin_changes(mesh: Mesh) -> None:
    first, second = mesh.join("first"), mesh.join("second")
    mesh.join("untagged")
    first.wait_reach(second)
    began = time.monotonic()
    mesh.admin("network", "edit", "home", "--mtu", "1320", "--listen-port", "43210")
    told = time.monotonic()
    for node in (first, second):
        wait_until(lambda node=node: mtu(node) == 1320, "the MTU is the network's", 2)  # type: ignore[misc]
        assert '"listen_port": 43210' in node.host.run("wgpy", "status", "home", "--json").stdout
    print(f"the command took {told - began:.2f} s, both nodes had it {time.monotonic() - told:.2f} s later")
    first.wait_reach(second)

    mesh.admin("node", "edit", "second", "--rename", "renamed")
    wait_until(lambda: "renamed" in peers(first), "the new name is there", 2)
    mesh.admin("node", "edit", "renamed", "--disable")
    wait_until(lambda: "renamed" not in peers(first) and peers(second) == [], "nobody sees it", 2)
    assert first.ping(second, "v4", timeout=1) is None
    assert "keeps this node out" in second.host.run("wgpy", "status", "home").stdout
    mesh.admin("node", "edit", "renamed", "--enable")
    first.wait_reach(second)

    mesh.admin("node", "edit", "first", "--tag", "a")
    mesh.admin("node", "edit", "renamed", "--tag", "b")
    mesh.admin("network", "edit", "home", "--see", "a:a")
    wait_until(lambda: peers(second) == [] and peers(first) == [], "these tags do not see each other", 2)
    mesh.admin("network", "edit", "home", "--see", "a:b")
    first.wait_reach(second)
    assert peers(second) == ["first"]
    mesh.admin("network", "edit", "home", "--all-see-all")
    wait_until(lambda: "untagged" in peers(second), "all see all again", 2)


def test_a_host_is_in_networks_of_two_coordinators_unless_their_ranges_collide() -> None:
    with Lab("two") as lab:
        internet = Internet(lab)
        home = Mesh(internet, "home", "--cidr", "10.71.0.0/16")
        work = Mesh(internet, "work", "--cidr", "10.72.0.0/16", coordinator="coordinator2")
        clash = ("--cidr", "10.71.5.0/24", "--cidr", "fd71::/64")
        work.admin("network", "create", "clash", *clash)
        at_home, at_work, both = home.join("at-home"), work.join("at-work"), home.join("both")
        also = Node(both.host, "work")
        also.up(work.token())
        also.wait_up()
        both.wait_reach(at_home)
        also.wait_reach(at_work)

        status = both.host.run("wgpy", "status").stdout
        assert "home" in status
        assert "work" in status
        agent = both.host.start("wgpy", "up", work.token(network="clash"), log="clash")
        said = "10.71.5.0/24 overlaps 10.71.0.0/16 of network home (wg-home)"
        wait_until(lambda: said in agent.text(), f"it says both names: {agent.text()}")
        assert "clash" in agent.text()
        both.wait_reach(at_home)  # its routes are as they were
        agent.kill()

        home.serving.kill()  # one coordinator away does not concern the other network
        also.wait_reach(at_work)
        both.wait_reach(at_home)


def wireguard_key(mesh: Mesh, name: str) -> str:
    found: str = json.loads(mesh.admin("node", "show", name, "--json"))["wireguard_key"]
    return found


def test_a_new_key_costs_no_packet_and_the_next_handshakes_are_made_with_it(mesh: Mesh) -> None:
    one, two = mesh.join("rotating"), mesh.join("watching")
    one.wait_reach(two)
    before = wireguard_key(mesh, "rotating")
    ping = two.host.start("ping", "-i", "0.02", "-c", "400", one.address("v4"), log="ping")
    mesh.admin("node", "rotate", "rotating")
    wait_until(lambda: wireguard_key(mesh, "rotating") != before, "it has a new key", 5)
    new = wireguard_key(mesh, "rotating")
    wait_until(lambda: new in two.host.run("wg", "show", two.interface).stdout, "its peer knows", 5)
    assert before not in two.host.run("wg", "show", two.interface).stdout
    mesh.admin("node", "rotate", "rotating")
    wait_until(lambda: wireguard_key(mesh, "rotating") != new, "and another", 5)
    wait_until(lambda: ping.returncode is not None, "the pings end", 30)
    assert re.search(r"400 packets transmitted, 400 received", ping.text()), ping.tail()
    print(ping.tail(3))

    last = wireguard_key(mesh, "rotating")
    assert one.agent is not None
    one.agent.kill()  # what is on disk is the new key, and handshakes are made with it
    one.up()
    one.wait_up()
    one.wait_reach(two)
    two.wait_reach(one)
    assert last in one.host.run("wg", "show", one.interface).stdout


def test_a_peer_that_was_off_when_a_key_changed_comes_back_though_nobody_can_tell_it() -> None:
    with Lab("asleep") as lab:
        mesh = Mesh(Internet(lab), "home")
        one, two = mesh.join("rotating"), mesh.join("asleep")
        one.wait_reach(two)
        before = wireguard_key(mesh, "rotating")
        wait_until(lambda: two.knows_by_itself(one), "it will find the other without the coordinator")
        assert two.agent is not None
        two.agent.kill()
        mesh.admin("node", "rotate", "rotating")
        wait_until(lambda: wireguard_key(mesh, "rotating") != before, "it has a new key", 5)
        wait_until(lambda: before not in one.host.run("wg", "show", one.interface).stdout, "and uses it", 5)
        mesh.serving.kill()
        two.up()
        two.wait_up()
        two.wait_reach(one)
        assert before in two.host.run("wg", "show", two.interface).stdout
        assert one.agent is not None
        one.agent.kill()  # also after a restart it answers for the key of before
        one.up()
        one.wait_up()
        two.wait_reach(one)
        after = wait_until(lambda: mesh.serve() and wireguard_key(mesh, "rotating"), "it is back")
        wait_until(lambda: after in two.host.run("wg", "show", two.interface).stdout, "it hears of it", 60)
        two.wait_reach(one)


def test_the_coordinators_own_host_is_a_node_and_the_same_one_after_a_restart() -> None:
    with Lab("own") as lab:
        mesh = Mesh(Internet(lab), "home")
        mesh.serving.kill()
        host = mesh.coordinator
        for _ in range(2):
            serving = host.start(*mesh.serve_command, "--join", "home", log="joined")
            own = Node(host, "home")
            wait_until(lambda own=own: len(own._addresses()) == 2, "the node is up", 30)  # type: ignore[misc]
            other = mesh.nodes.get("other") or mesh.join("other")
            own.wait_reach(other)
            found = json.loads(mesh.admin("node", "list", "home", "--json"))
            assert len(found) == 2
            serving.kill()
            own.wait_reach(other)  # it outlives the server
            host.run("wgpy", "down", "home")
