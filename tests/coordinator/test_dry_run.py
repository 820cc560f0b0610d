"""`--dry-run` of what admins type: what would change is told, and nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coordinator.process import Connection, Coordinator, RemoteHost
from wgpy.keys import PrivateKey
from wgpy.mesh.ingress import KeyHandover
from wgpy.mesh.sealing import seal


@pytest.fixture(autouse=True)
def nodes(coordinator: Coordinator) -> list[RemoteHost]:
    coordinator.run("network", "create", "home")
    token = coordinator.token("home", "--uses", "2")
    hosts = [RemoteHost(number, token) for number in range(2)]
    for host in hosts:
        host.join()
    return hosts


def test_what_would_change_is_told_and_nothing_does(coordinator: Coordinator) -> None:
    def tried(*words: str) -> str:
        before = coordinator.json("audit", "list")
        said = coordinator.run(*words, "--dry-run").stdout
        assert coordinator.json("audit", "list") == before
        assert said.endswith("nothing was changed\n")
        return said

    assert "192.168.7.0/24" in tried("gateway", "add", "host-0", "192.168.7.0/24")
    assert coordinator.json("gateway", "list") == []
    coordinator.run("gateway", "add", "host-0", "192.168.7.0/24")
    assert "192.168.7.0/24" in tried("gateway", "remove", "host-0", "192.168.7.0/24")
    assert len(coordinator.json("gateway", "list")) == 1

    assert "nas" in tried("names", "add", "nas", "192.168.7.9")
    assert coordinator.json("names", "list")["records"] == []
    coordinator.run("names", "add", "nas", "192.168.7.9")
    assert "nas" in tried("names", "remove", "nas")
    assert "corp.example" in tried("names", "domain", "corp.example", "192.168.7.53")

    assert "renamed" in tried("node", "edit", "host-1", "--rename", "renamed")
    assert "host-1" in tried("node", "remove", "host-1")
    assert [node["name"] for node in coordinator.json("node", "list", "home")] == ["host-0", "host-1"]


def test_it_says_where_as_json_what_is_so_already_and_what_is_refused(coordinator: Coordinator) -> None:
    [change, *_] = coordinator.json("node", "edit", "host-1", "--disable", "--dry-run")
    assert {"text", "nodes", "count", "warning"} == set(change)
    coordinator.run("names", "add", "nas", "192.168.7.9")
    again = coordinator.run("names", "add", "nas", "192.168.7.9", "--dry-run").stdout
    assert again == "nothing would change: it is like that already\n"
    refused = coordinator.run("gateway", "add", "host-0", "192.168.7.1/24", "--dry-run", check=False)
    assert refused.returncode != 0
    assert "192.168.7.0/24" in refused.stderr


def make_key(host: RemoteHost) -> None:
    """What a gateway does once its host agrees."""
    key = PrivateKey(bytes(range(32)))
    body = KeyHandover(key.public_key(), {host.id: seal(bytes(key), host.machine_key.public_key())})
    with Connection(host.url) as connection:
        status, answer = connection.call("PUT", "/v1/node/ingress/key", body.to_json(), host.bearer)
    assert status == 200, answer


def test_clients_and_their_gateways_are_tried(
    coordinator: Coordinator, nodes: list[RemoteHost], tmp_path: Path
) -> None:
    def tried(*words: str) -> str:
        before = coordinator.json("audit", "list")
        said = coordinator.run("clients", *words, "--dry-run").stdout
        assert coordinator.json("audit", "list") == before
        assert said.endswith("nothing was changed\n")
        return said

    endpoint = ("--endpoint", "vpn.example.org:51820")
    told = tried("gateway", "add", "host-0", *endpoint)
    assert "clients come in by vpn.example.org:51820, at host-0" in told
    assert coordinator.json("clients", "gateway", "list") == []
    coordinator.run("clients", "gateway", "add", "host-0", *endpoint)
    assert "host-1 stands by for clients" in tried("gateway", "add", "host-1")
    assert "no client comes in by vpn.example.org:51820" in tried("gateway", "remove", "host-0")
    [group] = coordinator.json("clients", "gateway", "list")
    assert group["nodes"] == ["host-0"]

    refused = coordinator.run("clients", "add", "phone", "--dry-run", check=False)
    assert "has made its key yet" in refused.stderr, "as without it"
    make_key(nodes[0])
    file = tmp_path / "phone.conf"
    for more in (("--out", str(file)), ("--link", "24h"), ("--qr",)):
        said = tried("add", "phone", *more)
        assert said.startswith("phone comes in as ")
        assert len(said.splitlines()) == 2, "no file, no link, no code"
    assert not file.exists()
    assert coordinator.json("clients", "list") == []
    coordinator.run("clients", "add", "phone")
    assert "gets another key" in tried("key", "phone", "--out", str(file))
    assert not file.exists()
    assert "phone is kept out" in tried("disable", "phone")
    assert "phone reaches host-1; it was whatever" in tried("edit", "phone", "--reach", "host-1")
    assert "does not come in any more" in tried("remove", "phone")
    again = coordinator.run("clients", "enable", "phone", "--dry-run").stdout
    assert again == "nothing would change: it is like that already\n"
    [change] = coordinator.json("clients", "remove", "phone", "--dry-run")
    assert {"text", "nodes", "count", "warning"} == set(change)
    assert [row["state"] for row in coordinator.json("clients", "list")] == ["active"]
