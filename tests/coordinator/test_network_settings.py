"""What an admin says of a network, and says anew: checked, audited, and followed by nodes at once."""

from __future__ import annotations

import pytest

from coordinator.addresses import Taken
from coordinator.errors import Refusal
from coordinator.host_ranges import host_ranges
from coordinator.policy import Policy
from coordinator.settings import NetworkSettings
from coordinator.store import networks
from tests.coordinator.asgi import running_service, wait_until
from tests.coordinator.hosts import Follower
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import HOME, make_home
from wgpy.addresses import parse_prefix
from wgpy.errors import ConfigError
from wgpy.mesh.frames import DeltaFrame

SETTINGS = {
    "description": "the house",
    "mtu": 1400,
    "keepalive": 0,
    "listen_port": 51820,
    "suffix": "house.internal",
    "keyless": True,
    "approval": True,
    "rotate_after": 86400,
    "visibility": [["*", "admins"], ["laptops", "servers"]],
}


async def test_a_network_is_made_with_settings_and_edited_one_by_one(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        made = await service.admin("POST", "networks", {"name": "home", **SETTINGS})
        assert made.status == 201, made.body
        assert {name: made.json[name] for name in SETTINGS} == SETTINGS
        edited = await service.edit(HOME, {"mtu": 1300, "visibility": None})
        assert edited.status == 200, edited.body
        assert {name: edited.json[name] for name in SETTINGS} == SETTINGS | {"mtu": 1300, "visibility": None}
        assert (await service.admin("GET", HOME)).json == edited.json


async def test_two_admins_cannot_overwrite_each_other(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        seen = (await service.admin("GET", HOME)).headers["etag"]
        assert (await service.request("PATCH", f"/v1/admin/{HOME}", {}, bearer=service.admin_key)).code == (
            "needs_if_match"
        )
        first = await service.edit(HOME, {"mtu": 1300}, seen)
        assert first.status == 200
        assert (await service.edit(HOME, {"keepalive": 5}, seen)).code == "changed"
        assert (await service.edit(HOME, {"keepalive": 5}, first.headers["etag"])).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"mtu": 1279}, {"mtu": 9001}, {"mtu": None}, {"keepalive": -1}, {"keepalive": 65536},
        {"listen_port": 65536}, {"suffix": "home.local"}, {"suffix": ""}, {"suffix": "a..b"}, {"suffix": "Ä"},
        {"rotate_after": 60}, {"description": "a\nb"}, {"description": "x" * 501}, {"keyless": "yes"},
        {"visibility": [["a"]]}, {"visibility": [["a", "B"]]}, {"visibility": "all"},
    ],
)  # fmt: skip
async def test_what_no_network_can_have_is_refused_and_nothing_changes(
    sqlite_rows: Rows, wrong: dict[str, object]
) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        before = (await service.admin("GET", HOME)).json
        answer = await service.edit(HOME, {"keepalive": 7, **wrong})
        assert (answer.status, answer.code) == (400, "malformed"), answer.body
        assert (await service.admin("GET", HOME)).json == before


async def test_nodes_follow_an_edit_within_a_second_and_hear_nothing_of_what_is_not_theirs(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            await service.edit(HOME, {"mtu": 1300, "listen_port": 4242, "suffix": "x.internal"})
            await wait_until(lambda: follower.held is not None and follower.held.map.network.mtu == 1300, 1)
            assert follower.held is not None
            network = follower.held.map.network
            assert (network.listen_port, network.suffix) == (4242, "x.internal")
            assert isinstance(follower.frames[-1], DeltaFrame)
            heard = len(follower.frames)
            assert (await service.edit(HOME, {"description": "mine", "keyless": True})).status == 200
            await service.edit(HOME, {"mtu": 1301})
            await wait_until(lambda: follower.held is not None and follower.held.map.network.mtu == 1301, 1)
            assert len(follower.frames) == heard + 1
        assert not follower.refused


async def test_an_edit_is_in_the_audit_log_with_before_and_after(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await service.edit(HOME, {"approval": True})
        [entry] = (await service.admin("GET", "audit?action=network.edit")).json["entries"]
        assert (entry["before"]["approval"], entry["after"]["approval"]) == (False, True)
        await service.edit(HOME, {"approval": True})
        assert len((await service.admin("GET", "audit?action=network.edit")).json["entries"]) == 1


async def test_a_range_over_another_network_or_the_hosts_own_is_refused_with_both_names(
    sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [Taken(parse_prefix("10.9.0.0/16"), "this host's own interface eth0")]
    monkeypatch.setattr("coordinator.api.networks.host_ranges", lambda: own)
    async with running_service(sqlite_rows) as service:
        assert (
            await service.admin("POST", "networks", {"name": "a", "ranges": ["10.7.0.0/16"]})
        ).status == 201
        answer = await service.admin("POST", "networks", {"name": "b", "ranges": ["10.7.3.0/24"]})
        assert (answer.status, answer.code) == (409, "range_in_use")
        assert "10.7.3.0/24 overlaps 10.7.0.0/16 of network a" in answer.json["detail"]
        answer = await service.admin("POST", "networks", {"name": "b", "ranges": ["10.0.0.0/8"]})
        assert answer.code == "range_in_use"
        answer = await service.admin("POST", "networks", {"name": "b", "ranges": ["10.9.1.0/24"]})
        assert "this host's own interface eth0" in answer.json["detail"]
        assert (await service.admin("POST", "networks", {"name": "b"})).status == 201


def test_ranges_of_our_own_choice_avoid_those_of_the_host(sqlite_rows: Rows) -> None:
    taken = [Taken(parse_prefix(f"10.{second}.0.0/16"), "eth0") for second in range(256) if second != 77]
    wish = networks.NetworkWish("home")
    row = sqlite_rows.write(networks.create_network, wish, sqlite_rows.rng, sqlite_rows.now, taken)
    assert row.network.ranges[0] == parse_prefix("10.77.0.0/16")


@pytest.mark.root
def test_the_hosts_own_ranges_are_what_its_interfaces_are_connected_to() -> None:
    found = {str(taken.prefix): taken.whose for taken in host_ranges()}
    assert "127.0.0.0/8" not in found
    assert "0.0.0.0/0" not in found
    assert all("interface" in whose for whose in found.values())


def test_an_edit_survives_on_either_database(rows: Rows) -> None:
    network_id = rows.network().network.id
    changes = {**SETTINGS, "visibility": Policy.of([["a", "b"]])}
    edited = rows.write(networks.edit_network, network_id, networks.NetworkChanges(changes), rows.now)
    assert rows.read(networks.find_network, "home") == edited
    assert edited.settings == NetworkSettings(**changes)
    assert edited.network.mtu == 1400
    with pytest.raises(ConfigError):
        rows.write(networks.edit_network, network_id, networks.NetworkChanges({"mtu": 1}), rows.now)
    with pytest.raises(Refusal):
        rows.write(networks.edit_network, "nowhere", networks.NetworkChanges(), rows.now)
    assert rows.read(networks.find_network, "home") == edited
