"""People's own devices: let in by the code that they show, and gone with their owner."""

from __future__ import annotations

import pytest

from tests.coordinator.asgi import Service, running_service
from tests.coordinator.hosts import Host
from tests.coordinator.rows import Rows
from tests.coordinator.test_sign_in import add_person, first_admin

pytestmark = pytest.mark.usefixtures("cheap_passwords")


async def member(
    service: Service, admin: dict[str, str], name: str, role: str | None = "member"
) -> dict[str, str]:
    headers = await add_person(service, admin, name)
    path = f"/v1/admin/people/{name}/roles/office"
    put = await service.request("PUT", path, {"role": role}, headers=admin | {"if-match": "*"})
    assert put.status == 200, put.body
    return headers


async def keyless_network(service: Service) -> dict[str, str]:
    """Named office → the headers of its admin."""
    made = await service.admin("POST", "networks", {"name": "office", "keyless": True})
    assert made.status == 201, made.body
    return await first_admin(service)


async def claimed(service: Service, headers: dict[str, str], number: int) -> str:
    """A host that somebody let in as their own, with its record signed → its id."""
    host = Host(number)
    made, code = await service.ask_keyless(host, "office")
    path = f"/v1/admin/networks/office/joins/{made.join}/claim"
    answer = await service.request("POST", path, {"code": code}, headers=headers)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


async def disabled(service: Service, *ids: str) -> list[bool]:
    nodes = {row["id"]: row for row in (await service.admin("GET", "networks/office/nodes")).json["nodes"]}
    return [nodes[id_]["disabled_at"] is not None for id_ in ids]


async def test_a_member_lets_in_the_host_before_them_by_its_code_and_no_other(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await keyless_network(service)
        grace = await member(service, admin, "grace")
        host = Host(1)
        made, code = await service.ask_keyless(host, "office")
        path = f"/v1/admin/networks/office/joins/{made.join}"
        wrong = "AAA-AAA" if code != "AAA-AAA" else "BBB-BBB"
        assert (
            await service.request("POST", f"{path}/claim", {"code": wrong}, headers=grace)
        ).code == "wrong_code"
        assert (
            await service.request("POST", f"{path}/claim", {"code": "?"}, headers=grace)
        ).code == "malformed"
        assert (
            await service.request("POST", f"{path}/approve", {"code": code}, headers=grace)
        ).code == "forbidden"
        viewer = await member(service, admin, "viewer", "viewer")
        assert (
            await service.request("POST", f"{path}/claim", {"code": code}, headers=viewer)
        ).code == "forbidden"
        by_key = await service.admin("POST", f"networks/office/joins/{made.join}/claim", {"code": code})
        assert by_key.code == "forbidden"
        answer = await service.request("POST", f"{path}/claim", {"code": code.lower()}, headers=grace)
        assert answer.status == 200, answer.body
        [node] = (await service.admin("GET", "networks/office/nodes")).json["nodes"]
        assert (node["name"], node["owner"]) == ("host-1", "grace")
        mine = (await service.request("GET", "/v1/me/devices", headers=grace)).json["devices"]
        assert [(one["name"], one["network"]) for one in mine] == [("host-1", "office")]
        assert (await service.request("GET", "/v1/me/devices", headers=viewer)).json == {"devices": []}
        entries = (await service.admin("GET", "audit?action=join.claim")).json["entries"]
        assert [(entry["actor"], entry["subject"]) for entry in entries] == [("grace", "host-1")]


async def test_a_code_is_not_found_by_trying(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        grace = await member(service, await keyless_network(service), "grace")
        made, code = await service.ask_keyless(Host(1), "office")
        path = f"/v1/admin/networks/office/joins/{made.join}/claim"
        wrong = "AAA-AAA" if code != "AAA-AAA" else "BBB-BBB"
        for _ in range(50):
            answer = await service.request("POST", path, {"code": wrong}, headers=grace)
            assert answer.code == "wrong_code"
        answer = await service.request("POST", path, {"code": code}, headers=grace)
        assert answer.code == "rate_limited"
        assert int(answer.headers["retry-after"]) > 0


async def test_the_devices_of_who_is_kept_out_go_with_them_and_come_back_with_them(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await keyless_network(service)
        grace, other = await member(service, admin, "grace"), await member(service, admin, "other")
        first, second = await claimed(service, grace, 1), await claimed(service, grace, 2)
        others = await claimed(service, other, 3)
        await service.edit(f"networks/office/nodes/{second}", {"disabled": True})  # by an admin, before
        rows.now += 10
        assert (await service.edit("people/grace", {"disabled": True})).status == 200
        assert await disabled(service, first, second, others) == [True, True, False]
        rows.now += 10
        assert (await service.edit("people/grace", {"disabled": False})).status == 200
        assert await disabled(service, first, second, others) == [False, True, False]


async def test_who_loses_their_role_loses_the_use_of_their_devices_there(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        admin = await keyless_network(service)
        grace = await member(service, admin, "grace")
        device = await claimed(service, grace, 1)
        path = "/v1/admin/people/grace/roles/office"
        for role, expected in (("admin", False), ("member", False), ("viewer", True), (None, True)):
            put = await service.request("PUT", path, {"role": role}, headers=admin | {"if-match": "*"})
            assert put.status == 200, put.body
            assert await disabled(service, device) == [expected], role


async def test_devices_are_removed_by_their_owner_and_with_their_owner(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        admin = await keyless_network(service)
        grace, other = await member(service, admin, "grace"), await member(service, admin, "other")
        first, _second = await claimed(service, grace, 1), await claimed(service, grace, 2)
        others = await claimed(service, other, 3)
        path = f"/v1/me/devices/{others}"
        assert (await service.request("DELETE", path, headers=grace)).code == "not_found"
        assert (await service.request("DELETE", f"/v1/me/devices/{first}", headers=grace)).status == 200
        assert (await service.admin("DELETE", "people/grace")).status == 200
        left = (await service.admin("GET", "networks/office/nodes")).json["nodes"]
        assert [row["id"] for row in left] == [others]


async def test_the_version_of_a_node_is_what_it_said_at_its_last_session(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "office"})
        host, _ = await service.member(1, "office")

        async def shown() -> object:
            return (await service.admin("GET", "networks/office/nodes/host-1")).json["version"]

        for agent, expected in (
            ("wgpy/1.2.3", "1.2.3"),
            ("wgpy/<b>", "1.2.3"),
            ("curl/8", "1.2.3"),
            ("wgpy/2.0", "2.0"),
        ):
            assert host.membership is not None
            asked = host.session_request(
                host.membership,
                await service.challenge(),
                service.context.identity.hash,
                bytes(range(32, 64)),
            )
            answer = await service.request(
                "POST", "/v1/session", asked.to_json(), headers={"user-agent": agent}
            )
            assert answer.status == 200
            assert await shown() == expected
