"""`--dry-run` of what admins type: what would change is told, and nothing does."""

from __future__ import annotations

import pytest

from tests.coordinator.process import Coordinator, RemoteHost


@pytest.fixture(autouse=True)
def nodes(coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "home")
    token = coordinator.token("home", "--uses", "2")
    for number in range(2):
        RemoteHost(number, token).join()


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
