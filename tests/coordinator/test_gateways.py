"""Ranges behind nodes: what may be published, who approves what, and which of several gateways is the one."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import Refusal
from coordinator.gateways import Candidate, check_range, choose_virtual, elect, parse_range
from coordinator.netmap import map_for
from coordinator.store import forwards, nodes
from coordinator.store.forwards import ForwardWish
from coordinator.store.snapshot import read_snapshot
from tests.coordinator.asgi import running_service, wait_until
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from wgpy.addresses import Prefix
from wgpy.errors import ConfigError
from wgpy.mesh.forward import Forward, Offer
from wgpy.mesh.netmap import Node
from wgpy.mesh.record import Record, sign_record

HOME = "networks/home"
RANGES = f"{HOME}/ranges"
LAN = ip_network("192.168.1.0/24")
LAN6 = ip_network("fd12:3456::/64")
MESH = [ip_network("10.7.0.0/16"), ip_network("fd07::/64")]


# --- what may be published ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("192.168.1.5/24", "192.168.1.5/24 is an address in 192.168.1.0/24: publish 192.168.1.0/24"),
        ("192.168.1", "a range is ADDRESS/LENGTH, such as 192.168.1.0/24; got '192.168.1'"),
        ("10.0.0.0/33", "a range is ADDRESS/LENGTH"),
        ("fe80::%3/64", "a range is ADDRESS/LENGTH"),
        ("0.0.0.0/0", "0.0.0.0/0 is everything there is: to make an exit node, say --exit"),
        ("::/0", "::/0 is everything there is"),
        ("127.0.0.0/8", "127.0.0.0/8 overlaps 127.0.0.0/8 (loopback)"),
        ("224.0.0.0/24", "overlaps 224.0.0.0/4 (multicast)"),
        ("fe80::/64", "overlaps fe80::/10 (link-local)"),
        ("10.7.3.0/24", "10.7.3.0/24 overlaps 10.7.0.0/16, where the network's own nodes are"),
        ("10.0.0.0/8", "10.0.0.0/8 overlaps 10.7.0.0/16"),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_range(parse_range(text), MESH)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_host_is_a_range_too() -> None:
    assert parse_range("192.168.1.7") == ip_network("192.168.1.7/32")


@given(st.integers(12, 32), st.integers())
def test_a_virtual_range_is_private_of_the_same_size_and_nobody_elses(length: int, seed: int) -> None:
    target = ip_network(f"172.16.0.0/{length}")
    taken = [*MESH, ip_network("10.128.0.0/9")]
    found = choose_virtual(target, taken, random.Random(seed))
    assert found.prefixlen == length
    assert found.subnet_of(ip_network("10.0.0.0/8"))  # type: ignore[arg-type]
    assert not any(found.version == other.version and found.overlaps(other) for other in taken)


# --- elections ---


def candidates(text: str) -> list[Candidate]:
    """`a* b!`: a is elected, b is ready and online."""
    found = []
    for word in text.split():
        fit = "!" in word
        found.append(Candidate(word.rstrip("*!"), "*" in word, fit, fit))
    return found


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("a! b!", "a"),
        ("a!* b!", "a"),
        ("a! b!*", "b"),
        ("a* b!", "b"),
        ("a* b", "a"),
        ("a b", "a"),
        ("a b! c!*", "c"),
    ],
)
def test_the_elected_gateway_stays_until_it_is_gone(text: str, winner: str) -> None:
    assert elect(candidates(text)) == winner


def test_of_no_gateways_none_is_elected() -> None:
    assert elect([]) is None


# --- in the store ---


def sign_ranges(rows: Rows, host: Host, ranges: tuple[Prefix, ...], seq: int) -> Record:
    assert host.membership is not None
    record = sign_record(
        host.machine_key,
        host.wireguard_key.public_key(),
        network=host.membership.network.id,
        node=host.membership.node,
        addresses=host.membership.addresses,
        ranges=ranges,
        seq=seq,
    )
    rows.write(nodes.put_record, record, rows.now)
    return record


@dataclasses.dataclass
class Home:
    rows: Rows
    id: str
    hosts: list[Host]

    def publish(self, host: Host, *ranges: Prefix, **more: object) -> list[forwards.ForwardRow]:
        def write(connection: object) -> list[forwards.ForwardRow]:
            wish = ForwardWish(ranges, **more)  # type: ignore[arg-type]
            return forwards.publish(connection, self.id, host.id, wish, self.rows.rng, now=self.rows.now)  # type: ignore[arg-type]

        found: list[forwards.ForwardRow] = self.rows.write(write)
        return found

    def offer(self, host: Host, *ranges: Prefix, problems: tuple[tuple[Prefix, str], ...] = ()) -> None:
        offer = Offer(ranges, problems)
        self.rows.write(
            lambda connection: forwards.take_offer(
                connection, self.id, host.id, offer, self.rows.rng, now=self.rows.now
            )
        )

    def listed(self) -> list[tuple[str, str, str, bool]]:
        rows: list[forwards.ForwardRow] = self.rows.read(forwards.list_forwards, self.id)
        return [(str(r.forward.range), r.node_name, r.state, r.forward.elected) for r in rows]

    def seen_by(self, host: Host, other: Host) -> tuple[Forward, ...]:
        snapshot = self.rows.read(read_snapshot, self.id)
        node = map_for(snapshot, host.id).peers[other.id]
        assert isinstance(node, Node)
        return node.forwards

    def settle(self, *online: Host) -> set[str]:
        is_online = {host.id: host in online for host in self.hosts}
        found: set[str] = self.rows.write(forwards.settle_elections, self.id, is_online, self.rows.now)
        return found


@pytest.fixture
def home(rows: Rows) -> Home:
    network = rows.network("home", "10.7.0.0/16", "fd07::/64")
    return Home(rows, network.network.id, [rows.member(network, number) for number in (1, 2, 3)])


def test_what_an_admin_publishes_is_in_every_map_and_signed_by_the_node(home: Home) -> None:
    first, second, _ = home.hosts
    home.publish(first, LAN, LAN6, nat=False, interface="eth1")
    assert home.seen_by(second, first) == (
        Forward(LAN, LAN, nat=False, interface="eth1"),
        Forward(LAN6, LAN6, nat=False, interface="eth1"),
    )
    assert [state for _, _, state, _ in home.listed()] == ["waiting", "waiting"]
    sign_ranges(home.rows, first, (LAN,), 2)
    assert [state for _, _, state, _ in home.listed()] == ["active", "waiting"]


def test_a_node_cannot_sign_what_it_was_not_given(home: Home) -> None:
    home.publish(home.hosts[0], LAN)
    with pytest.raises(Refusal, match="not given to forward"):
        sign_ranges(home.rows, home.hosts[1], (LAN,), 2)
    with pytest.raises(Refusal, match="not given to forward"):
        sign_ranges(home.rows, home.hosts[0], (LAN, LAN6), 2)


def test_what_a_node_offers_is_in_no_map_until_it_is_approved(home: Home) -> None:
    first, second, _ = home.hosts
    home.offer(first, LAN)
    assert home.listed() == [("192.168.1.0/24", "host-1", "pending", False)]
    assert home.seen_by(second, first) == ()
    home.publish(first, LAN)
    assert home.listed() == [("192.168.1.0/24", "host-1", "waiting", True)]
    home.offer(first)
    assert home.listed() == [("192.168.1.0/24", "host-1", "waiting", True)]


def test_an_offer_that_is_taken_back_before_it_was_approved_is_forgotten(home: Home) -> None:
    home.offer(home.hosts[0], LAN)
    home.offer(home.hosts[0])
    assert home.listed() == []


def test_what_is_withdrawn_and_still_offered_is_pending_again(home: Home) -> None:
    first = home.hosts[0]
    home.offer(first, LAN)
    [row] = home.publish(first, LAN)
    home.rows.write(forwards.withdraw, home.id, row.id, home.rows.now)
    assert home.listed() == [("192.168.1.0/24", "host-1", "pending", False)]
    home.rows.write(forwards.withdraw, home.id, row.id, home.rows.now)
    assert home.listed() == []


def test_a_nodes_reason_against_a_range_is_shown(home: Home) -> None:
    first = home.hosts[0]
    home.publish(first, LAN, interface="eth7")
    home.offer(first, LAN, problems=((LAN, "there is no interface eth7"),))
    [row] = home.rows.read(forwards.list_forwards, home.id)
    assert row.problem == "there is no interface eth7"


def test_of_two_gateways_for_a_range_one_is_elected_and_stays_when_the_other_comes_back(home: Home) -> None:
    first, second, _ = home.hosts
    for host in (first, second):
        home.publish(host, LAN)
        sign_ranges(home.rows, host, (LAN,), 2)

    def elected() -> list[str]:
        return [name for _, name, _, is_elected in home.listed() if is_elected]

    assert elected() == ["host-1"]
    assert home.settle(first, second) == set()
    assert home.settle(second) == {first.id, second.id}
    assert elected() == ["host-2"]
    assert home.settle(first, second) == set()
    assert elected() == ["host-2"]
    home.rows.remove(second)
    assert elected() == ["host-1"]


def test_the_same_lan_in_two_places_has_two_virtual_ranges(home: Home) -> None:
    first, second, _ = home.hosts
    [one] = home.publish(first, LAN, virtual="auto")
    [other] = home.publish(second, LAN, virtual="auto")
    assert one.forward.target == other.forward.target == LAN
    assert not one.forward.range.overlaps(other.forward.range)  # type: ignore[arg-type]
    assert all(is_elected for *_, is_elected in home.listed())
    [again] = home.publish(first, LAN, virtual="auto", nat=False)
    assert again.forward.range == one.forward.range
    assert not again.forward.nat


REFUSED = [
    ({"virtual": ip_network("10.9.0.0/16")}, "as large as the one it stands for, /24; got 10.9.0.0/16"),
    ({"virtual": ip_network("10.7.1.0/24")}, "overlaps 10.7.0.0/16, where the network's own nodes are"),
    ({"virtual": ip_network("10.9.1.0/24")}, "10.9.1.0/24 stands for 192.168.2.0/24 at host-2"),
]


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_a_virtual_range_that_cannot_be_is_refused(home: Home, more: dict[str, object], words: str) -> None:
    home.publish(home.hosts[1], ip_network("192.168.2.0/24"), virtual=ip_network("10.9.1.0/24"))
    with pytest.raises((ConfigError, Refusal)) as caught:
        home.publish(home.hosts[0], LAN, **more)
    assert words in str(caught.value)


def test_a_lan_that_overlaps_the_mesh_is_published_under_a_virtual_range(home: Home) -> None:
    inside = ip_network("10.7.5.0/24")
    with pytest.raises(ConfigError, match="overlaps"):
        home.publish(home.hosts[0], inside)
    [row] = home.publish(home.hosts[0], inside, virtual=ip_network("10.200.5.0/24"))
    assert row.forward.target == inside


def test_a_removed_node_takes_its_ranges_along(home: Home) -> None:
    home.publish(home.hosts[0], LAN)
    home.rows.remove(home.hosts[0])
    assert home.listed() == []


# --- over the API ---


async def test_ranges_are_published_listed_and_withdrawn_and_nodes_hear_of_it(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.admin("POST", "networks", {"name": "home"})).status == 201
        first, _ = await service.member(1)
        _, bearer = await service.member(2)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            body = {"node": "host-1", "ranges": ["192.168.1.0/24", "fd12::/64"], "nat": False}
            made = await service.admin("POST", RANGES, body)
            assert made.status == 201, made.body
            assert [row["state"] for row in made.json["ranges"]] == ["waiting", "waiting"]

            def forwarded() -> int:
                assert follower.held is not None
                node = follower.held.map.peers[first.id]
                return len(node.forwards) if isinstance(node, Node) else -1

            await wait_until(lambda: forwarded() == 2)
            listed = (await service.admin("GET", RANGES)).json["ranges"]
            gone = await service.admin("DELETE", f"{RANGES}/{listed[0]['id']}")
            assert gone.json["range"] == "192.168.1.0/24"
            await wait_until(lambda: forwarded() == 1)
        assert not follower.refused
        audit = (await service.admin("GET", "audit")).json["entries"]
        assert [entry["action"] for entry in audit[:2]] == ["range.withdraw", "range.publish"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"ranges": ["192.168.1.5/24"]}, 400, "publish 192.168.1.0/24"),
        ({"ranges": ["0.0.0.0/0"]}, 400, "a default route is published by `exit`, not as a range"),
        ({"ranges": []}, 400, "name at least one range"),
        ({"ranges": ["192.168.1.0/24"], "node": "nobody"}, 404, "no node of this network is called 'nobody'"),
        ({"ranges": ["192.168.1.0/24"], "interface": "eth 0"}, 400, "interface: "),
        ({"exit": True, "virtual": "auto"}, 400, "an exit node has no virtual range"),
    ],
)
async def test_bad_input_is_refused_with_one_sentence(
    sqlite_rows: Rows, body: dict[str, object], status: int, words: str
) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.admin("POST", "networks", {"name": "home"})).status == 201
        await service.member(1)
        answer = await service.admin("POST", RANGES, {"node": "host-1", **body})
        assert answer.status == status, answer.body
        assert words in answer.json["detail"]
        assert (await service.admin("GET", RANGES)).json["ranges"] == []


async def test_a_node_offers_ranges_and_renames_itself(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.admin("POST", "networks", {"name": "home"})).status == 201
        _, bearer = await service.member(1)
        await service.member(2)
        offer = Offer((LAN,), ()).to_json()
        answer = await service.request("PUT", "/v1/node/offer", offer, bearer=bearer)
        assert answer.json == {"changed": True}
        [row] = (await service.admin("GET", RANGES)).json["ranges"]
        assert (row["state"], row["offered"]) == ("pending", True)
        renamed = await service.request("PUT", "/v1/node/name", {"name": "NAS at home"}, bearer=bearer)
        assert renamed.json == {"name": "nas-at-home"}
        renamed = await service.request("PUT", "/v1/node/name", {"name": "host-2"}, bearer=bearer)
        assert renamed.json == {"name": "host-2-2"}
