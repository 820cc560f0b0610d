"""A network with nodes gets another name or other ranges: nodes follow, and no address changes its owner."""

from __future__ import annotations

import pytest

from coordinator.addresses import Taken
from coordinator.errors import Refusal
from coordinator.store import forwards, networks, tokens
from coordinator.store.forwards import ForwardWish
from coordinator.store.networks import NetworkChanges
from tests.coordinator.asgi import running_service, wait_until
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import HOME
from wgpy.addresses import parse_prefix
from wgpy.errors import ConfigError
from wgpy.mesh.frames import DeltaFrame
from wgpy.mesh.signing import BearerSecret

ULA = "fd07::/64"


def edit(rows: Rows, *ranges: str, name: str | None = None, taken: tuple[Taken, ...] = ()) -> list[str]:
    changes = NetworkChanges(name=name, ranges=tuple(map(parse_prefix, ranges)))
    row = rows.write(networks.edit_network, "home", changes, rows.now, taken)
    return [str(prefix) for prefix in row.network.ranges]


async def test_nodes_follow_another_range_and_name_within_a_second(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        body = {"name": "home", "ranges": ["10.7.0.0/24", ULA]}
        assert (await service.admin("POST", "networks", body)).status == 201
        host, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            changed = await service.edit(HOME, {"name": "house", "ranges": ["10.6.0.0/15"]})
            assert changed.status == 200, changed.body
            assert changed.json["ranges"] == ["10.6.0.0/15", ULA]
            await wait_until(lambda: network_of(follower) == ("house", ["10.6.0.0/15", ULA]), 1)
            assert isinstance(follower.frames[-1], DeltaFrame)
        assert not follower.refused
        assert (await service.admin("GET", "networks/house")).json["suffix"] == "home.internal"
        assert (await service.admin("GET", HOME)).code == "not_found"
        assert host.membership is not None
        [entry] = (await service.admin("GET", "audit?action=network.edit")).json["entries"]
        assert (entry["before"]["name"], entry["after"]["name"]) == ("home", "house")


def network_of(follower: Follower) -> tuple[str, list[str]]:
    assert follower.held is not None
    network = follower.held.map.network
    return network.name, [str(prefix) for prefix in network.ranges]


def test_a_range_grows_and_new_nodes_go_on_where_it_stopped(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/30", ULA)
    secret = rows.token(network)
    first = [str(rows.join(Host(number), secret).addresses[0]) for number in range(2)]
    with pytest.raises(Refusal):
        rows.join(Host(2), secret)
    assert edit(rows, "10.7.0.0/24") == ["10.7.0.0/24", ULA]
    more = [str(rows.join(Host(number), secret).addresses[0]) for number in range(2, 6)]
    assert [*first, *more] == [f"10.7.0.{number}/32" for number in range(1, 7)]


def test_a_range_may_move_its_start_or_fall_in_two_and_no_address_is_given_twice(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/24", ULA)
    secret = rows.token(network)
    given = {str(rows.join(Host(number), secret).addresses[0]) for number in range(5)}
    assert edit(rows, "10.6.0.0/15") == ["10.6.0.0/15", ULA]
    assert edit(rows, "10.8.0.0/24", "10.7.0.0/29") == ["10.8.0.0/24", "10.7.0.0/29", ULA]
    given |= {str(rows.join(Host(number), secret).addresses[0]) for number in range(5, 10)}
    assert len(given) == 10
    assert "10.8.0.1/32" in given


def test_ranges_that_leave_a_node_outside_are_refused_with_its_name(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/24", ULA)
    secret = rows.token(network)
    for number in range(1, 4):
        rows.member(network, number, secret)
    revision = rows.read(networks.find_network, "home").revision
    for wrong, whose in (
        ("10.8.0.0/24", "node host-1 has 10.7.0.1"),
        ("10.7.0.0/30", "node host-3 has 10.7.0.3"),  # it would be the broadcast address
        ("fd08::/64", "node host-1 has fd07::1"),
    ):
        with pytest.raises(Refusal, match=whose) as refused:
            edit(rows, wrong)
        assert refused.value.code == "address_in_use"
    found = rows.read(networks.find_network, "home")
    assert [str(prefix) for prefix in found.network.ranges] == ["10.7.0.0/24", ULA]
    assert found.revision == revision
    assert str(rows.join(Host(9), secret).addresses[0]) == "10.7.0.4/32"


def test_an_address_that_a_token_keeps_stays_inside_and_one_that_rests_need_not(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/24", ULA)
    secret = BearerSecret(rows.rng.randbytes(32))
    kept = network.network.ranges[0].network_address + 200
    terms = tokens.TokenTerms(node_addresses=(kept,))
    rows.write(tokens.create_token, network.network.id, secret, terms, rows.now)
    with pytest.raises(Refusal, match=f"token {secret.id} keeps 10.7.0.200"):
        edit(rows, "10.7.0.0/25")
    edit(rows, "10.7.0.128/25")
    assert str(rows.join(Host(1), secret).addresses[0]) == "10.7.0.200/32"
    rows.write(networks.node_rows.remove_node, network.network.id, "host-1", rows.now)
    assert edit(rows, "10.9.0.0/24") == ["10.9.0.0/24", ULA]


def test_an_address_rests_on_in_a_range_that_grows(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/29", ULA)
    secret = rows.token(network)
    hosts = [rows.member(network, number, secret) for number in range(6)]
    rows.remove(hosts[0])
    edit(rows, "10.7.0.0/28")
    assert [str(rows.join(Host(n), secret).addresses[0]) for n in (10, 11)] == ["10.7.0.7/32", "10.7.0.8/32"]


def test_other_networks_the_host_and_places_behind_gateways_are_in_the_way(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/24", ULA)
    rows.network("lab", "10.8.0.0/24", "fd08::/64")
    host = rows.member(network, 1)
    eth0 = Taken(parse_prefix("10.9.0.0/24"), "this host's own interface eth0")
    ours = Taken(parse_prefix("10.7.0.0/24"), "this host's own interface wg-home")
    with pytest.raises(Refusal, match=r"10\.0\.0\.0/12 overlaps 10\.8\.0\.0/24 of network lab"):
        edit(rows, "10.0.0.0/12")
    with pytest.raises(Refusal, match="interface eth0"):
        edit(rows, "10.7.0.0/24", "10.9.0.0/25", taken=(eth0,))
    assert edit(rows, "10.6.0.0/15", taken=(ours, eth0)) == ["10.6.0.0/15", ULA]
    wish = ForwardWish((parse_prefix("192.168.1.0/24"),))
    rows.write(
        lambda connection: forwards.publish(
            connection, network.network.id, host.id, wish, rows.rng, now=rows.now
        )
    )
    with pytest.raises(Refusal, match="of what host-1 forwards") as refused:
        edit(rows, "10.6.0.0/15", "192.168.0.0/16")
    assert refused.value.code == "range_in_use"


def test_names_and_ranges_that_no_network_can_have_are_refused(rows: Rows) -> None:
    rows.network("home", "10.7.0.0/24", ULA)
    rows.network("lab")
    for ranges in (("127.0.0.0/16",), ("10.7.0.0/31",), ("10.7.0.0/24", "10.7.0.0/25")):
        with pytest.raises(ConfigError):
            edit(rows, *ranges)
    with pytest.raises(ConfigError):
        edit(rows, name="Not A Label")
    with pytest.raises(Refusal, match="'lab' exists"):
        edit(rows, name="lab")
    assert edit(rows, name="home") == ["10.7.0.0/24", ULA]
    edit(rows, name="house")
    assert rows.read(networks.find_network, "house").network.name == "house"


async def test_a_refused_edit_changes_nothing_and_the_api_says_why(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24", ULA]})
        await service.member(1)
        before = (await service.admin("GET", HOME)).json
        answer = await service.edit(HOME, {"name": "house", "mtu": 1300, "ranges": ["10.8.0.0/24"]})
        assert (answer.status, answer.code) == (409, "address_in_use")
        assert answer.json["detail"] == (
            "node host-1 has 10.7.0.1, which no node of 10.8.0.0/24 can have: name ranges that hold every "
            "address given, or remove it and let it join again"
        )
        assert (await service.admin("GET", HOME)).json == before
