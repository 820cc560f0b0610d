"""External clients: where they live, who makes their keys, what is kept of them, which gateway they use."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import trio
from sqlalchemy import select

from coordinator.ingress import (
    allowed_prefixes,
    check_reachable,
    choose_pool,
    crowded_gateway,
    parse_endpoint,
    pool_length,
)
from coordinator.netmap import map_for
from coordinator.store.snapshot import read_snapshot
from coordinator.store.tables import metadata
from tests.coordinator.asgi import Answer, Service, running_service
from tests.coordinator.hosts import Host
from tests.coordinator.rows import Rows
from wgpy.addresses import Endpoint
from wgpy.errors import ConfigError
from wgpy.keys import PrivateKey
from wgpy.mesh.client_file import insert_key
from wgpy.mesh.ingress import Group, KeyHandover, Mark, Sighting, read_mark
from wgpy.mesh.netmap import Map, Node
from wgpy.mesh.record import sign_record
from wgpy.mesh.sealing import seal, unseal_untrusted
from wgpy.mesh.wire import CheckinRequest

HOME = "networks/home"
INGRESS = f"{HOME}/ingress"
CLIENTS = f"{HOME}/clients"
ANY = {"if-match": "*"}


# --- where clients connect to, and where they live ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vpn.example.org:51820", "vpn.example.org:51820"),
        ("VPN.Example.org:1", "vpn.example.org:1"),
        ("192.0.2.1:51820", "192.0.2.1:51820"),
        ("[2001:DB8:0::1]:51820", "[2001:db8::1]:51820"),
    ],
)
def test_an_endpoint_is_a_name_or_an_address_with_a_port(text: str, found: str) -> None:
    assert parse_endpoint(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "vpn.example.org", "vpn.example.org:0", "vpn.example.org:70000", "2001:db8::1:51820",
        "[192.0.2.1]:5", "a b:5", "300.1.1.1:5", "vpn\n.example:5", "-x.example:5", "0.0.0.0:5",
        "127.0.0.1:5", "[::1]:5", "[fe80::1%eth0]:5", "x:٣",
    ],
)  # fmt: skip
def test_what_clients_cannot_connect_to_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(text)
    assert "connect to" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("range_", "taken", "pools", "found"),
    [
        ("10.7.0.0/16", [1, 2, 3], [], "10.7.252.0/22"),
        ("10.7.0.0/16", [1], ["10.7.252.0/22"], "10.7.248.0/22"),
        ("10.7.0.0/16", [1, 252 * 256 + 9], [], "10.7.248.0/22"),
        ("10.7.0.0/24", [1, 2], [], "10.7.0.248/29"),
        ("fd07::/64", [1, 2], [], "fd07::3fff:ffff:ffff:0/112"),
        ("10.7.0.0/30", [1], [], None),
        ("10.7.0.0/28", [1, 9], [], None),
    ],
)
def test_clients_get_the_highest_block_that_nobody_is_in(
    range_: str, taken: list[int], pools: list[str], found: str | None
) -> None:
    chosen = choose_pool(ip_network(range_), map(ip_network, pools), taken)
    assert chosen == (None if found is None else ip_network(found))
    if chosen is not None:
        assert chosen.prefixlen == pool_length(ip_network(range_))


def test_a_range_for_a_client_lies_in_the_network_or_behind_a_gateway() -> None:
    mesh, lan = [ip_network("10.7.0.0/16")], [ip_network("192.168.1.0/24")]
    check_reachable(ip_network("192.168.1.128/25"), mesh, lan)
    check_reachable(ip_network("10.7.3.0/24"), mesh, lan)
    for text in ("192.168.0.0/16", "10.8.0.0/16", "0.0.0.0/0", "fd07::/64"):
        with pytest.raises(ConfigError, match=r"--internet|lies in no range"):
            check_reachable(ip_network(text), mesh, lan)


def test_a_file_names_each_address_once() -> None:
    texts = ("fd07::/64", "10.7.0.9/32", "10.7.0.0/16", "192.168.0.0/25", "192.168.0.128/25")
    assert list(map(str, allowed_prefixes(list(map(ip_network, texts))))) == [
        "10.7.0.0/16", "192.168.0.0/24", "fd07::/64",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("elected", "latest", "winner"),
    [
        ("a", "", "a"),
        (None, "", None),
        ("a", "b", "b"),
        ("a", "ab", "a"),
        ("a", "abb", "b"),
        ("a", "cb", "b"),
        ("a", "aab", "a"),
    ],
)
def test_traffic_comes_by_the_gateway_where_most_clients_are(
    elected: str | None, latest: str, winner: str | None
) -> None:
    assert crowded_gateway(elected, dict(enumerate(latest))) == winner  # type: ignore[arg-type]


def test_a_sealed_key_opens_with_one_machine_key_alone() -> None:
    reader, other = Host(1).machine_key, Host(2).machine_key
    sealed = seal(bytes(range(32)), reader.public_key())
    assert unseal_untrusted(sealed, reader) == bytes(range(32))
    assert unseal_untrusted(sealed, other) is None
    assert unseal_untrusted(sealed[:-1] + bytes([sealed[-1] ^ 1]), reader) is None
    assert unseal_untrusted(b"", reader) is None


# --- in the store and the API ---


class Gateway:
    """A node that does a gateway's part by hand."""

    def __init__(self, service: Service, host: Host, bearer: str) -> None:
        self.service, self.host, self.bearer = service, host, bearer
        self.sequence = 0

    async def group(self) -> Group:
        answer = await self.service.request("GET", "/v1/node/ingress", bearer=self.bearer)
        assert answer.status == 200, answer.body
        return Group.from_json(answer.json)

    async def hand_over(self, key: PrivateKey, *to: Host) -> Answer:
        sealed = {host.id: seal(bytes(key), host.machine_key.public_key()) for host in to}
        body = KeyHandover(key.public_key(), sealed).to_json()
        return await self.service.request("PUT", "/v1/node/ingress/key", body, bearer=self.bearer)

    async def sign(self, *ranges: str, seq: int) -> Answer:
        membership = self.host.membership
        assert membership is not None
        record = sign_record(
            self.host.machine_key, self.host.wireguard_key.public_key(),
            network=membership.network.id, node=membership.node, addresses=membership.addresses,
            ranges=tuple(map(ip_network, ranges)), seq=seq,
        )  # fmt: skip
        return await self.service.request("PUT", "/v1/node/record", record.to_json(), bearer=self.bearer)

    async def tell(self, *sightings: Sighting) -> None:
        self.sequence += 1
        asked = CheckinRequest(None, 1, self.sequence, 51820, brief=True, clients=sightings)
        answer = await self.service.request("POST", "/v1/checkin", asked.to_json(), bearer=self.bearer)
        assert answer.status == 200, answer.body


async def network(service: Service, **wish: object) -> None:
    made = await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/16", "fd07::/64"]})
    assert made.status == 201, made.body


async def gateway(service: Service, number: int = 1) -> Gateway:
    host, bearer = await service.member(number)
    return Gateway(service, host, bearer)


async def group(service: Service, *names: str, **more: object) -> Any:
    body = {"endpoint": "vpn.example.org:51820", "nodes": names, **more}
    made = await service.admin("POST", INGRESS, body)
    assert made.status == 201, made.body
    return made.json


async def ready(service: Service) -> tuple[Gateway, PrivateKey]:
    """A network with a gateway that has made the group's key."""
    await network(service)
    first = await gateway(service)
    await group(service, "host-1")
    key = PrivateKey(bytes(range(32)))
    assert (await first.hand_over(key, first.host)).status == 200
    return first, key


def everything_kept(rows: Rows) -> bytes:
    def read(connection: Any) -> str:
        tables = metadata.sorted_tables
        return repr([tuple(row) for table in tables for row in connection.execute(select(table))])

    text: str = rows.read(read)
    return text.encode()


async def test_a_client_with_its_own_key(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        first, key = await ready(service)
        mine = PrivateKey(bytes(range(1, 33)))
        made = await service.admin("POST", CLIENTS, {"name": "phone", "public_key": str(mine.public_key())})
        assert made.status == 201, made.body
        row = made.json
        assert row["addresses"] == ["10.7.252.2", "fd07::3fff:ffff:ffff:2"]
        assert (row["state"], row["key_by"], row["link"]) == ("active", "client", None)
        assert insert_key(row["config"], mine).splitlines() == [
            "[Interface]",
            f"PrivateKey = {mine.to_base64()}",
            "Address = 10.7.252.2/32, fd07::3fff:ffff:ffff:2/128",
            "DNS = 10.7.252.1, fd07::3fff:ffff:ffff:1, home.internal",
            "MTU = 1380",
            "",
            "[Peer]",
            f"PublicKey = {key.public_key()}",
            "AllowedIPs = 10.7.0.0/16, fd07::/64",
            "Endpoint = vpn.example.org:51820",
            "PersistentKeepalive = 20",
        ]
        shown = await service.admin("GET", f"{CLIENTS}/phone/config")
        assert shown.body.decode() == row["config"]
        assert shown.headers["content-type"].startswith("text/plain")

        # Who sees the gateway knows its name.
        other, _ = await service.member(2)
        assert names_seen(sqlite_rows, other) == {"phone": row["addresses"]}
        await service.admin("PATCH", f"{CLIENTS}/phone", {"name": "mobile"}, ANY)
        assert names_seen(sqlite_rows, other) == {"mobile": row["addresses"]}
        await service.admin("PATCH", f"{CLIENTS}/mobile", {"name": "phone"}, ANY)

        # The gateway hears of it, and of everything that changes.
        heard = await first.group()
        [client] = heard.clients
        assert (client.id, client.public_key) == (row["id"], mine.public_key())
        assert client.reach.everything
        versions = [heard.version]
        for change, expected in (
            ({"disabled": True}, 0), ({"disabled": False}, 1),
            ({"reach": {"ranges": ["10.7.9.0/24"], "nodes": ["host-1"]}}, 1),
            ({"reach": {"ranges": ["10.7.9.0/24"], "nodes": ["host-1"], "internet": True}}, 1),
            ({"expires_at": sqlite_rows.now + 60}, 1),
        ):  # fmt: skip
            edited = await service.admin("PATCH", f"{CLIENTS}/phone", change, ANY)
            assert edited.status == 200, edited.body
            heard = await first.group()
            assert len(heard.clients) == expected
            versions.append(heard.version)
        assert versions == sorted(set(versions))
        [client] = heard.clients
        assert client.expires_in == 60
        assert client.reach.nodes == (first.host.id,)
        assert client.reach.ranges == (ip_network("10.7.9.0/24"),)
        file = (await service.admin("GET", f"{CLIENTS}/phone/config")).body.decode()
        assert client.reach.internet
        assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in file
        reach = {"ranges": ["10.7.9.0/24"], "nodes": ["host-1"]}
        await service.admin("PATCH", f"{CLIENTS}/phone", {"reach": reach}, ANY)
        file = (await service.admin("GET", f"{CLIENTS}/phone/config")).body.decode()
        assert "AllowedIPs = 10.7.0.1/32, 10.7.9.0/24, 10.7.252.1/32, fd07::1/128, fd07::3fff" in file

        # Its time is over; then it gets more, and goes in the end.
        sqlite_rows.now += 61
        assert (await first.group()).clients == ()
        await wait_until_expired(service)
        later = {"expires_at": sqlite_rows.now + 600}
        assert (await service.admin("PATCH", f"{CLIENTS}/phone", later, ANY)).json["state"] == "active"
        assert (await service.admin("DELETE", f"{CLIENTS}/phone")).status == 200
        assert (await service.admin("GET", CLIENTS)).json == {"clients": []}
        log = (await service.admin("GET", "audit")).json["entries"]
        actions = [entry["action"] for entry in log if entry["action"].startswith("client.")]
        assert actions == [
            "client.remove", "client.edit", "client.expire", *["client.edit"] * 8, "client.create",
        ]  # fmt: skip


def names_seen(rows: Rows, host: Host) -> dict[str, list[str]]:
    """External clients with their addresses, as this node's map has them."""
    assert host.membership is not None
    netmap = map_for(rows.read(read_snapshot, host.membership.network.id), host.id)
    found = {}
    for node in Map.from_json(netmap.to_json()).peers.values():
        assert isinstance(node, Node)
        if (mark := read_mark(node.extra)) is not None:
            found |= {name: [str(each.network_address) for each in mine] for name, mine in mark.names.items()}
    return found


def test_names_that_cannot_be_read_cost_nobody_the_way_to_the_clients() -> None:
    mark = Mark(3, (ip_network("10.7.252.0/22"),), {"phone": (ip_network("10.7.252.2/32"),)})
    assert read_mark({"ingress": mark.to_json()}) == mark
    without = Mark(3, mark.ranges)
    assert "names" not in without.to_json()
    for names in ("phone", [{"name": "Big One", "addresses": []}], [{"name": "x"}], [None] * 501):
        assert read_mark({"ingress": mark.to_json() | {"names": names}}) == without


async def wait_until_expired(service: Service) -> None:
    with trio.fail_after(20):
        while (await service.admin("GET", f"{CLIENTS}/phone")).json["state"] != "expired":  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_a_key_that_the_server_makes_is_shown_once_and_kept_nowhere(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await ready(service)
        headers = {"idempotency-key": "again"}
        made = await service.admin("POST", CLIENTS, {"name": "phone"}, headers)
        assert made.headers["cache-control"] == "no-store"
        config = made.json["config"]
        private = config.splitlines()[1].removeprefix("PrivateKey = ")
        assert str(PrivateKey.from_base64(private).public_key()) == made.json["public_key"]
        assert made.json["key_by"] == "server"
        for path in (CLIENTS, f"{CLIENTS}/phone", f"{CLIENTS}/phone/config", "audit"):
            assert private.encode() not in (await service.admin("GET", path)).body
        assert private.encode() not in everything_kept(sqlite_rows)
        assert repr(bytes(PrivateKey.from_base64(private))).encode() not in everything_kept(sqlite_rows)
        assert (await service.admin("POST", CLIENTS, {"name": "phone"}, headers)).code == "name_in_use"


async def test_a_link_gives_the_file_once(sqlite_rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    async with running_service(sqlite_rows) as service:
        await ready(service)
        made = (await service.admin("POST", CLIENTS, {"name": "phone", "link_for": 600})).json
        assert made["config"] is None
        assert made["link"].startswith("https://coordinator.example:8443/client#wgpyc_")
        assert made["link_until"] == sqlite_rows.now + 600
        secret = made["link"].rpartition("_")[2]
        kept = everything_kept(sqlite_rows)
        assert b"PrivateKey" not in kept
        assert secret.encode() not in kept

        async def fetch(link: str) -> Answer:
            return await service.request("POST", "/v1/client-file", {"link": link})

        for wrong in ("", "x", "wgpyc_" + "A" * 43, made["link"] + "A", "wgpyk_" + secret):
            assert (await fetch(wrong)).code == "client_link"
        got = await fetch(made["link"])
        assert got.status == 200
        assert got.headers["content-disposition"] == 'attachment; filename="phone.conf"'
        assert b"PrivateKey = " in got.body
        assert (await fetch(made["link"])).code == "client_link"
        assert secret not in caplog.text
        entry = (await service.admin("GET", "audit")).json["entries"][0]
        assert (entry["action"], entry["actor"], entry["subject"]) == (
            "client.fetch",
            "download link",
            "phone",
        )

        # Another key ends the link of before, and time ends any.
        renewed = (await service.admin("POST", f"{CLIENTS}/phone/key", {"link_for": 60})).json
        again = (await service.admin("POST", f"{CLIENTS}/phone/key", {"link_for": 60})).json
        assert renewed["public_key"] != again["public_key"]
        assert (await fetch(renewed["link"])).code == "client_link"
        sqlite_rows.now += 61
        assert (await fetch(again["link"])).code == "client_link"
        assert (await service.admin("GET", f"{CLIENTS}/phone")).json["link_until"] is None


async def test_a_standby_gets_the_key_sealed_and_the_second_maker_is_told(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        first, key = await ready(service)
        second = await gateway(service, 2)
        stranger = await gateway(service, 3)
        assert (await second.service.request("GET", "/v1/node/ingress", bearer=second.bearer)).status == 404
        edited = await service.admin("PATCH", f"{INGRESS}/clients", {"nodes": ["host-1", "host-2"]}, ANY)
        held = {each["node_name"]: each["has_key"] for each in edited.json["gateways"]}
        assert held == {"host-1": True, "host-2": False}
        assert (await second.group()).sealed is None
        assert list((await first.group()).wanting) == [second.host.id]
        other = PrivateKey(bytes(range(9, 41)))
        assert (await second.hand_over(other, second.host)).code == "key_in_use"
        assert (await stranger.hand_over(key, stranger.host)).code == "not_found"
        assert (await first.hand_over(key, second.host, stranger.host)).status == 200
        sealed = (await second.group()).sealed
        assert sealed is not None
        assert unseal_untrusted(sealed, second.host.machine_key) == bytes(key)
        assert repr(bytes(key)).encode() not in everything_kept(sqlite_rows)

        # With the last gateway that has the key it is gone, and files that name it are of no use.
        mine = str(PrivateKey(bytes(range(1, 33))).public_key())
        await service.admin("POST", CLIENTS, {"name": "phone", "public_key": mine})
        await service.admin("DELETE", f"{HOME}/nodes/host-1")
        assert (await second.group()).public_key == key.public_key()
        left = await service.admin("PATCH", f"{INGRESS}/clients", {"nodes": []}, ANY)
        assert left.json["public_key"] is None
        assert (await service.admin("GET", f"{CLIENTS}/phone")).json["state"] == "stale"
        assert (await service.admin("POST", CLIENTS, {"name": "tablet"})).code == "not_ready"


async def test_other_nodes_route_clients_to_the_gateway_where_they_are(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        first, key = await ready(service)
        second = await gateway(service, 2)
        await service.admin("PATCH", f"{INGRESS}/clients", {"nodes": ["host-1", "host-2"]}, ANY)
        await first.hand_over(key, second.host)
        pools = ("10.7.252.0/22", "fd07::3fff:ffff:ffff:0/112")
        for each in (first, second):
            assert (await each.sign(*pools, seq=2)).status == 200
            assert (await each.sign("10.7.0.0/16", seq=3)).code == "record_mismatch"
        host, _ = await service.member(3)
        assert host.membership is not None
        network_id = host.membership.network.id

        def elected() -> dict[str, set[bool]]:
            found = {}
            for node in map_for(sqlite_rows.read(read_snapshot, network_id), host.id).peers.values():
                assert isinstance(node, Node)
                if (mark := read_mark(node.extra)) is not None:
                    assert tuple(map(str, mark.ranges)) == pools
                    found[node.name] = {forward.elected for forward in node.forwards}
            return found

        assert elected() == {"host-1": {True}, "host-2": {False}}
        ids = []
        for number, name in enumerate(("phone", "tablet")):
            public = str(PrivateKey(bytes([number] * 31 + [7])).public_key())
            made = await service.admin("POST", CLIENTS, {"name": name, "public_key": public})
            ids.append(made.json["id"])
        seen = Endpoint(ip_address("198.51.100.9"), 4711)
        await first.tell(Sighting(ids[0], 2, seen, 100, 200), Sighting(ids[1], 3, seen, 1, 2))
        await first.tell(Sighting("0" * 32, 2, seen, 100, 200))
        row = (await service.admin("GET", f"{CLIENTS}/phone")).json
        assert (row["gateway_name"], row["endpoint"], row["rx_bytes"], row["tx_bytes"]) == (
            "host-1", "198.51.100.9:4711", 100, 200,
        )  # fmt: skip
        assert row["latest_handshake_at"] == sqlite_rows.now - 2
        sqlite_rows.now += 10
        await second.tell(Sighting(ids[0], 1, seen, 5, 6))
        assert elected() == {"host-1": {True}, "host-2": {False}}  # as many here as there
        await second.tell(Sighting(ids[1], 1, seen, 5, 6))
        assert elected() == {"host-1": {False}, "host-2": {True}}
        assert (await service.admin("GET", f"{CLIENTS}/phone")).json["gateway_name"] == "host-2"
        rows = (await service.admin("GET", f"{HOME}/ranges")).json["ranges"]
        assert {row["group"] for row in rows} == {(await first.group()).id}
        refused = await service.admin("DELETE", f"{HOME}/ranges/{rows[0]['id']}")
        assert (refused.status, refused.code) == (409, "conflict")


REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"name": "Phone!"}, "malformed", "a client's name is 1 to 63"),
    ({"name": "phone", "public_key": "x"}, "malformed", "key"),
    (
        {"name": "phone", "group": "nowhere"},
        "not_found",
        "no ingress group of this network is called 'nowhere'",
    ),
    ({"name": "phone", "addresses": ["10.7.0.9"]}, "malformed", "they are in 10.7.252.0/22"),
    ({"name": "phone", "addresses": ["10.7.252.1"]}, "address_in_use", "10.7.252.1 is not free"),
    ({"name": "phone", "addresses": ["nine"]}, "malformed", "a client's address is an IP address"),
    ({"name": "phone", "reach": {"nodes": ["nobody"]}}, "not_found", "no node of this network is called"),
    ({"name": "phone", "reach": {}}, "malformed", "may reach nothing"),
    (
        {"name": "phone", "reach": {"everything": True, "nodes": ["host-1"]}},
        "malformed",
        "everything, or the nodes and ranges",
    ),
    (
        {"name": "phone", "reach": {"ranges": ["192.168.1.0/24"]}},
        "malformed",
        "lies in no range of this network",
    ),
    ({"name": "phone", "reach": {"ranges": ["0.0.0.0/0"]}}, "malformed", "is everything there is"),
    ({"name": "phone", "reach": {"ranges": ["10.7.1.5/24"]}}, "malformed", "publish 10.7.1.0/24"),
    ({"name": "phone", "expires_at": 5}, "malformed", "lies in the future"),
    ({"name": "phone", "link_for": 5}, "malformed", "link_for"),
]


async def test_what_cannot_be_is_refused_in_one_sentence(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await network(service)
        early = await service.admin("POST", CLIENTS, {"name": "phone"})
        assert (early.code, early.status) == ("not_ready", 409)
        assert "clients gateway add NODE" in early.json["detail"]
        first = await gateway(service)
        for body, code in (
            ({"endpoint": "nowhere", "nodes": ["host-1"]}, "malformed"),
            ({"endpoint": "a.example:5", "nodes": ["nobody"]}, "not_found"),
            ({"endpoint": "a.example:5", "nodes": [], "name": "A B"}, "malformed"),
        ):
            assert (await service.admin("POST", INGRESS, body)).code == code
        await group(service, "host-1")
        assert (await service.admin("POST", INGRESS, {"endpoint": "a.example:5", "nodes": []})).code == (
            "name_in_use"
        )
        twice = {"endpoint": "a.example:5", "nodes": ["host-1"], "name": "second"}
        assert (await service.admin("POST", INGRESS, twice)).code == "conflict"
        waiting = await service.admin("POST", CLIENTS, {"name": "phone"})
        assert "wgpy set --advertise ingress" in waiting.json["detail"]
        key = PrivateKey(bytes(range(32)))
        await first.hand_over(key, first.host)
        for wish, code, words in REFUSED:
            answer = await service.admin("POST", CLIENTS, wish)
            assert answer.code == code, (wish, answer.body)
            assert words in answer.json["detail"], answer.json
            assert "\n" not in answer.json["detail"]
        for taken in (key, first.host.wireguard_key):
            body = {"name": "phone", "public_key": str(taken.public_key())}
            assert (await service.admin("POST", CLIENTS, body)).code == "key_in_use"
        assert (await service.admin("GET", CLIENTS)).json["clients"] == []
        await service.admin("POST", CLIENTS, {"name": "phone"})
        assert (await service.admin("DELETE", f"{INGRESS}/clients")).code == "conflict"
        await service.admin("DELETE", f"{CLIENTS}/phone")
        assert (await service.admin("DELETE", f"{INGRESS}/clients")).status == 200
        assert (await service.admin("GET", f"{HOME}/ranges")).json["ranges"] == []


async def test_nodes_and_clients_keep_out_of_each_others_addresses(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        made = await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/28"]})
        assert made.status == 201, made.body
        first = await gateway(service)
        answer = await service.admin("POST", INGRESS, {"endpoint": "a.example:5", "nodes": ["host-1"]})
        assert answer.json["ranges"][0] == "10.7.0.8/29"
        kept = await service.admin("POST", f"{HOME}/tokens", {"node_addresses": ["10.7.0.9"]})
        assert kept.code == "address_in_use"
        await first.hand_over(PrivateKey(bytes(range(32))), first.host)
        found = [first.host.membership.addresses[0]]  # type: ignore[union-attr]
        for number in range(2, 8):
            host, _ = await service.member(number)
            assert host.membership is not None
            found.append(host.membership.addresses[0])
        assert list(map(str, found)) == [f"10.7.0.{number}/32" for number in range(1, 8)]
        for number in range(2, 7):
            body = {
                "name": f"phone-{number}",
                "public_key": str(PrivateKey(bytes([number] * 32)).public_key()),
            }
            made = await service.admin("POST", CLIENTS, body)
            assert made.json["addresses"][0] == f"10.7.0.{8 + number}"
        full = await service.admin("POST", CLIENTS, {"name": "one-more"})
        assert full.code == "network_full"


async def test_a_network_goes_with_its_clients(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await ready(service)
        await service.admin("POST", CLIENTS, {"name": "phone", "link_for": 600})
        assert (await service.admin("DELETE", HOME)).status == 200

        def left(connection: Any) -> list[int]:
            names = ("clients", "client_links", "ingress_groups", "ingress_gateways", "forwards")
            return [len(connection.execute(select(metadata.tables[name])).all()) for name in names]

        assert sqlite_rows.read(left) == [0, 0, 0, 0, 0]
