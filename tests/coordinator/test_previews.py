"""What would change is told before it is done: by trying it in a transaction that is undone."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

from coordinator.conflicts import Place, find_conflicts
from tests.coordinator.asgi import Service, running_service
from tests.coordinator.rows import Rows
from tests.coordinator.test_clients import (
    ANY,
    CLIENTS,
    INGRESS,
    everything_kept,
    gateway,
    group,
    network,
    ready,
)
from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey

HOME = "networks/home"
RANGES = f"{HOME}/ranges"
NAMES = f"{HOME}/names"
LAN = ip_network("192.168.1.0/24")
SITE = ip_network("192.168.0.0/16")


# --- conflicts ---


def place(name: str, *endpoints: str) -> Place:
    return Place.of(name, [Endpoint.parse(f"{text}:51820") for text in endpoints])


def test_a_range_within_another_is_a_conflict_that_names_both_and_says_who_is_asked() -> None:
    places = {"a": place("alpha"), "b": place("beta")}
    [found] = find_conflicts({SITE: ["b"], LAN: ["a"]}, places)
    assert found.sides == ("alpha", "beta")
    assert found.text == (
        "192.168.1.0/24 at alpha lies in 192.168.0.0/16 at beta: "
        "addresses that are in both are reached by alpha"
    )
    assert find_conflicts({SITE: ["b"], LAN: ["b"]}, places) == []
    assert find_conflicts({LAN: ["a", "b"], ip_network("192.168.2.0/24"): ["a"]}, places) == []


def test_a_node_that_has_such_a_network_itself_elsewhere_keeps_its_own() -> None:
    places = {
        "a": place("alpha", "192.168.1.1", "198.51.100.1"),
        "b": place("beta", "192.168.1.7", "203.0.113.9"),
        "c": place("gamma", "192.168.1.8", "198.51.100.1"),  # behind the router of alpha
        "d": place("delta", "192.168.2.8"),
    }
    [found] = find_conflicts({LAN: ["a"]}, places)
    assert found.sides == ("alpha", "beta")
    assert "beta is 192.168.1.7 in a 192.168.1.0/24 of its own, which it keeps" in found.text
    assert found.range == LAN
    assert ip_address("192.168.1.7") in places["b"].own


def test_five_hundred_ranges_and_ten_thousand_nodes_are_no_matter_of_pairs() -> None:
    gateways = {ip_network((0x0B000000 + (i << 8), 24)): [str(i)] for i in range(500)}
    places = {str(i): place(f"n{i}", f"10.{i >> 8}.{i & 255}.1", "203.0.113.9") for i in range(10_000)}
    assert find_conflicts(gateways, places) == []


# --- by the API ---


async def tried(service: Service, method: str, path: str, body: object = None, etag: str = "*") -> list[str]:
    headers = {"if-match": etag} if method in ("PUT", "PATCH") else {}
    answer = await service.admin(method, f"{path}?dry_run=1", body, headers=headers)
    assert answer.status == 200, answer.body
    assert "etag" not in answer.headers
    return [
        ("! " if each["warning"] else "") + each["text"] + "".join(f" [{name}]" for name in each["nodes"])
        for each in answer.json["changes"]
    ]


async def test_a_dry_run_of_a_range_tells_what_would_change_where_and_changes_nothing(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})
        for number in (1, 2, 3):
            await service.member(number)
        before = (await service.admin("GET", "networks/home")).json
        audit = len((await service.admin("GET", "audit")).json["entries"])
        body = {"node": "host-1", "ranges": ["192.168.1.0/24"]}
        assert await tried(service, "POST", RANGES, body) == [
            (
                "host-1 forwards 192.168.1.0/24, once its host agrees (wgpy set --advertise 192.168.1.0/24); "
                "machines there see the address of host-1 [host-1]"
            ),
            "192.168.1.0/24 is reached by host-1, once that agrees [host-2] [host-3]",
        ]
        assert (await service.admin("GET", RANGES)).json == {"ranges": [], "conflicts": []}
        assert (await service.admin("GET", "networks/home")).json == before
        assert len((await service.admin("GET", "audit")).json["entries"]) == audit

        # An Idempotency-Key is not spent by it.
        key = {"idempotency-key": "once"}
        assert (await service.admin("POST", f"{RANGES}?dry_run=1", body, headers=key)).status == 200
        assert (await service.admin("POST", RANGES, body, headers=key)).status == 201

        body = {"node": "host-2", "ranges": ["192.168.1.0/24"], "nat": False}
        assert await tried(service, "POST", RANGES, body) == [
            (
                "host-2 forwards 192.168.1.0/24, once its host agrees (wgpy set --advertise 192.168.1.0/24); "
                "without NAT, so the router there needs a route to 10.7.0.0/24 by host-2, "
                "which is yours to set "
                "[host-2]"
            ),
            "host-2 stands by for 192.168.1.0/24, and takes over when host-1 is gone [host-2]",
        ]
        assert (await service.admin("POST", RANGES, body)).status == 201
        rows = (await service.admin("GET", RANGES)).json["ranges"]
        used = next(row["id"] for row in rows if row["elected"])
        assert await tried(service, "DELETE", f"{RANGES}/{used}") == [
            "host-1 forwards 192.168.1.0/24 no longer [host-1]",
            (
                "192.168.1.0/24 is reached by host-2 in place of host-1: connections that "
                "are open through it "
                "break [host-1] [host-3]"
            ),
        ]
        body = {"node": "host-3", "ranges": ["192.168.0.0/16"]}
        assert (await tried(service, "POST", RANGES, body))[-1] == (
            "! 192.168.1.0/24 at host-1, host-2 lies in 192.168.0.0/16 at host-3: addresses that are in both "
            "are reached by host-1 [host-1] [host-2] [host-3]"
        )
        assert (await service.admin("POST", RANGES, body)).status == 201
        [conflict] = (await service.admin("GET", RANGES)).json["conflicts"]
        assert conflict["sides"] == ["host-1", "host-2", "host-3"]

        # The gateway that is in use goes: it is told who takes over, and who loses a tunnel.
        assert await tried(service, "DELETE", f"{HOME}/nodes/host-1") == [
            "host-1 forgets this network, and has to be let in anew to come back [host-1]",
            "no tunnel to host-1 any more [host-2] [host-3]",
            "host-1 forwards 192.168.1.0/24 no longer [host-1]",
            (
                "192.168.1.0/24 is reached by host-2 in place of host-1: connections that "
                "are open through it "
                "break [host-3]"
            ),
            (
                "! 192.168.1.0/24 at host-2 lies in 192.168.0.0/16 at host-3: addresses that are in both are "
                "reached by host-2 [host-2] [host-3]"
            ),
        ]


async def test_a_virtual_range_that_is_chosen_is_the_one_that_the_dry_run_told(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})
        await service.member(1)
        body = {"node": "host-1", "ranges": ["192.168.1.0/24"], "virtual": "auto"}
        told = await tried(service, "POST", RANGES, body)
        [made] = (await service.admin("POST", RANGES, body)).json["ranges"]
        assert f"which the others see as {made['range']}" in told[0]
        changed = await tried(
            service, "POST", RANGES, body | {"virtual": None, "nat": False, "interface": "eth7"}
        )
        assert any(
            f"is seen as 192.168.1.0/24 by the others, no longer as {made['range']}" in t for t in changed
        )
        assert any("host-1 reaches 192.168.1.0/24 by eth7" in text for text in changed)
        assert any("connections that are open break" in text for text in changed)


async def test_an_exit_is_told_by_families(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        for number in (1, 2):
            await service.member(number)
        body = {"node": "host-1", "exit": True}
        assert await tried(service, "POST", RANGES, body) == [
            (
                "host-1 forwards to the whole internet by IPv4 and IPv6, once its host agrees "
                "(wgpy set --advertise exit); servers there see its address [host-1]"
            ),
            "it can be chosen as exit: wgpy set --exit-node host-1 [host-2]",
        ]
        await service.admin("POST", RANGES, body)
        rows = (await service.admin("GET", RANGES)).json["ranges"]
        assert await tried(service, "DELETE", f"{RANGES}/{rows[0]['id']}") == [
            "host-1 is no exit for IPv4 now: who uses it is cut off until another is chosen [host-2]"
        ]


async def test_a_dry_run_of_names_tells_what_they_are_and_what_is_of_no_use(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})
        await service.member(1)
        records = [
            {"name": "nas", "value": "192.168.1.9"},
            {"name": "www", "value": "nobody"},
            {"name": "host-1", "value": "192.168.1.9"},
            {"name": "old", "value": "10.7.0.200"},
        ]
        domains = [{"domain": "corp.example", "servers": ["10.20.0.53"]}]
        wanted = {"records": records, "domains": domains}
        assert await tried(service, "PUT", NAMES, wanted) == [
            "host-1.home.internal is 192.168.1.9",
            "! host-1 is a node: its own addresses are answered, and this record never [host-1]",
            "nas.home.internal is 192.168.1.9",
            "old.home.internal is 10.7.0.200",
            "! 10.7.0.200 is the address of no node",
            "www.home.internal is nobody.home.internal",
            "! nobody.home.internal is neither a node nor a record",
            (
                "names below corp.example are asked of 10.20.0.53, by hosts that accept it "
                "(wgpy set --accept-domain corp.example)"
            ),
        ]
        assert (await service.admin("GET", NAMES)).json == {"records": [], "domains": []}
        made = await service.admin("PUT", NAMES, wanted, headers={"if-match": "*"})
        assert made.status == 200
        wanted = {"records": [{"name": "nas", "value": "192.168.1.10"}], "domains": []}
        assert await tried(service, "PUT", NAMES, wanted, made.headers["etag"]) == [
            "host-1.home.internal is no name any more; it was 192.168.1.9",
            "nas.home.internal is 192.168.1.10; it was 192.168.1.9",
            "old.home.internal is no name any more; it was 10.7.0.200",
            "www.home.internal is no name any more; it was nobody.home.internal",
            "names below corp.example are asked of each host's own name servers again",
        ]
        stale = await service.admin("PUT", f"{NAMES}?dry_run=1", wanted, headers={"if-match": '"old"'})
        assert (stale.status, stale.code) == (412, "changed")


async def test_what_cannot_be_tried_is_not_done_either(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        refused = await service.admin("POST", "networks?dry_run=1", {"name": "home"})
        assert (refused.status, refused.code) == (400, "malformed")
        assert (await service.admin("GET", "networks")).json["networks"] == []
        await service.admin("POST", "networks", {"name": "home"})
        await service.member(1)
        for odd in ("2", "yes", ""):
            refused = await service.admin("DELETE", f"{HOME}/nodes/host-1?dry_run={odd}")
            assert (refused.status, refused.code) == (400, "malformed")
        assert (await service.admin("GET", f"{HOME}/nodes/host-1")).status == 200
        document = (await service.request("GET", "/v1/openapi.json")).body
        parameters = json.loads(document)["paths"]["/v1/admin/networks/{network}/ranges"]["post"][
            "parameters"
        ]
        assert "dry_run" in {each["name"] for each in parameters}


async def test_a_kept_out_node_is_told_by_who_loses_its_tunnel(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        for number in (1, 2, 3):
            await service.member(number)
        one = f"{HOME}/nodes/host-1"
        assert await tried(service, "PATCH", one, {"disabled": True}) == [
            "no tunnel to host-1 any more [host-2] [host-3]"
        ]
        assert await tried(service, "PATCH", one, {"name": "nas"}) == [
            "host-1.home.internal is called nas.home.internal, and nothing answers to the old name [nas]"
        ]


# --- external clients ---


async def test_a_way_in_is_told_before_it_is_there_and_before_it_goes(rows: Rows) -> None:
    async with running_service(rows) as service:
        await network(service)
        first = await gateway(service)
        await gateway(service, 2)
        body = {"endpoint": "vpn.example.org:51820", "nodes": ["host-1", "host-2"]}
        told = await tried(service, "POST", INGRESS, body)
        assert told[-2:] == [
            (
                "clients come in by vpn.example.org:51820, at host-1, once its host agrees "
                "(wgpy set --advertise ingress) [host-1]"
            ),
            (
                "host-2 stands by for clients: it takes over when vpn.example.org:51820 leads to it, "
                "once its host agrees (wgpy set --advertise ingress) [host-2]"
            ),
        ]
        assert told[0] == "10.7.252.0/22 is reached by host-1, once that agrees [host-2]"
        assert not any("forwards" in text for text in told)
        assert (await service.admin("GET", INGRESS)).json == {"groups": []}

        await group(service, "host-1")
        assert (await first.hand_over(PrivateKey(bytes(range(32))), first.host)).status == 200
        for name in ("phone", "tablet"):
            assert (await service.admin("POST", CLIENTS, {"name": name})).status == 201
        one = f"{INGRESS}/clients"
        edit = {"name": "phones", "endpoint": "192.0.2.1:5", "listen_port": 5, "dns": False}
        told = await tried(service, "PATCH", one, edit | {"nodes": ["host-2"]})
        assert told[-8:] == [
            "the gateways that are called clients together are called phones",
            "clients connect to 192.0.2.1:5, no longer to vpn.example.org:51820 [host-2]",
            "! the files of 2 clients lead to vpn.example.org:51820, and need that to stay where it is",
            "UDP port 5 is listened on, no longer 51820 [host-2]",
            "names are answered for clients no longer; files that are out stay as they are [host-2]",
            "no client of phones comes in at host-1 any more [host-1]",
            (
                "host-2 stands by for phones: it takes over when 192.0.2.1:5 leads to it, "
                "once its host agrees (wgpy set --advertise ingress) [host-2]"
            ),
            (
                "! no gateway of phones is left that has its key: it makes another, "
                "and the files of 2 clients are of no use [host-2]"
            ),
        ]
        assert await tried(service, "PATCH", one, {"endpoint": "vpn.example.org:51820"}) == []
        # A node that is a gateway of theirs goes.
        gone = await tried(service, "DELETE", f"{HOME}/nodes/host-1")
        assert "no client of clients comes in at host-1 any more [host-1]" in gone
        assert gone[-1].startswith("! no gateway of clients is left that has its key")
        for name in ("phone", "tablet"):
            assert (await service.admin("DELETE", f"{CLIENTS}/{name}")).status == 200
        assert (await tried(service, "DELETE", one))[-1] == (
            "no client comes in by vpn.example.org:51820 any more [host-1]"
        )
        [kept] = (await service.admin("GET", INGRESS)).json["groups"]
        assert (kept["nodes"], kept["endpoint"]) == (["host-1"], "vpn.example.org:51820")


async def test_a_dry_run_of_a_client_hands_out_no_key_and_keeps_nothing(rows: Rows) -> None:
    async with running_service(rows) as service:
        await ready(service)
        mine = str(PrivateKey(bytes(range(1, 33))).public_key())
        before = everything_kept(rows)
        comes = "phone comes in as 10.7.252.2 and fd07::3fff:ffff:ffff:2, and reaches "
        for more in ({}, {"link_for": 600}, {"public_key": mine}):
            wish = {"name": "phone", **more}
            answer = await service.admin("POST", f"{CLIENTS}?dry_run=1", wish)
            assert list(answer.json) == ["changes"], "neither key nor link nor file"
            [told] = await tried(service, "POST", CLIENTS, wish)
            assert told == f"{comes}whatever its gateway reaches [host-1]"
        reach = {"nodes": ["host-1"], "ranges": ["10.7.9.0/24"]}
        wish = {"name": "phone", "reach": reach, "expires_at": rows.now + 60}
        [told] = await tried(service, "POST", CLIENTS, wish)
        assert told.startswith(f"{comes}host-1 and 10.7.9.0/24, until ")
        assert everything_kept(rows) == before
        odd = await service.admin("POST", f"{CLIENTS}?dry_run=1", wish | {"reach": {"nodes": ["nobody"]}})
        assert (odd.status, odd.code) == (404, "not_found")

        # What was told is what is done.
        made = (await service.admin("POST", CLIENTS, {"name": "phone", "link_for": 600})).json
        assert made["addresses"] == ["10.7.252.2", "fd07::3fff:ffff:ffff:2"]
        before = everything_kept(rows)
        for more in ({}, {"link_for": 600}, {"public_key": mine}):
            answer = await service.admin("POST", f"{CLIENTS}/phone/key?dry_run=1", more)
            assert [each["text"] for each in answer.json["changes"]] == [
                "phone gets another key: the file that it has is of no use any more"
            ]
            assert list(answer.json) == ["changes"]
        assert everything_kept(rows) == before, "its link, too"
        link = await service.request("POST", "/v1/client-file", {"link": made["link"]})
        assert link.status == 200


async def test_what_is_done_to_a_client_is_told(rows: Rows) -> None:
    async with running_service(rows) as service:
        await ready(service)
        await service.member(2)
        await service.admin("POST", CLIENTS, {"name": "phone"})
        one = f"{CLIENTS}/phone"
        for edit, told in (
            ({"name": "mobile"}, ["the client phone is called mobile"]),
            ({"disabled": True}, ["phone is kept out [host-1]"]),
            ({"disabled": False}, []),
            ({"expires_at": 4_000_000_000}, ["phone may come in until 2096-10-02 07:06:40 UTC [host-1]"]),
            ({"expires_at": 1}, ["phone is kept out: its time is over [host-1]"]),
            (
                {"reach": {"nodes": ["host-2"]}},
                ["phone reaches host-2; it was whatever its gateway reaches [host-1]"],
            ),
        ):
            assert await tried(service, "PATCH", one, edit) == told
        edited = await service.admin("PATCH", one, {"disabled": True, "reach": {"nodes": ["host-2"]}}, ANY)
        assert edited.status == 200
        assert await tried(service, "PATCH", one, {"disabled": False, "reach": None}) == [
            "phone may come in again, with the file that it has [host-1]",
            "phone reaches whatever its gateway reaches; it was host-2 [host-1]",
            "! the file that phone has does not lead there: give it the new one (clients show --config)",
        ]
        online = {"reach": {"nodes": ["host-2"], "internet": True}}
        assert await tried(service, "PATCH", one, online) == [
            "phone reaches host-2 and the internet; it was host-2 [host-1]",
            "! the file that phone has does not lead there: give it the new one (clients show --config)",
        ]
        await service.admin("PATCH", one, online, ANY)
        assert await tried(service, "PATCH", one, {"reach": None}) == [
            "phone reaches whatever its gateway reaches; it was host-2 and the internet [host-1]",
            (
                "! the file that phone has leads all that it sends here: give it the new one "
                "(clients show --config)"
            ),
        ]
        await service.admin("PATCH", one, {"reach": {"nodes": ["host-2"]}}, ANY)
        gone = await tried(service, "DELETE", f"{HOME}/nodes/host-2")
        assert gone[-1] == "phone reaches nothing any more; it was host-2 [host-1]"
        renamed = await tried(service, "PATCH", f"{HOME}/nodes/host-2", {"name": "nas"})
        assert not any("phone" in text for text in renamed)
        assert await tried(service, "DELETE", one) == [
            "phone does not come in any more; 10.7.252.2 and fd07::3fff:ffff:ffff:2 are free [host-1]"
        ]
        stale = await service.admin("PATCH", f"{one}?dry_run=1", {"name": "x"}, {"if-match": '"old"'})
        assert (stale.status, stale.code) == (412, "changed")
