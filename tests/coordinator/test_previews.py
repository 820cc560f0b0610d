"""What would change is told before it is done: by trying it in a transaction that is undone."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

from coordinator.conflicts import Place, find_conflicts
from tests.coordinator.asgi import Service, running_service
from tests.coordinator.rows import Rows
from wgpy.addresses import Endpoint

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
        network = (await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})).json
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
        assert network["name"] == "home"

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
