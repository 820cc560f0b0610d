"""Names that an admin adds to a network: set through the API, heard of by the nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.coordinator.asgi import running_service
from tests.coordinator.hosts import Follower
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import make_home, wait_until
from wgpy.mesh.names import MAX_RECORDS, NetworkNames

PATH = "networks/home/names"
EMPTY: dict[str, Any] = {"records": [], "domains": []}
NAMES = {
    "records": [{"name": "nas", "value": "10.1.2.3"}, {"name": "www", "value": "nas"}],
    "domains": [{"domain": "corp.example", "servers": ["10.9.9.9"]}],
}


async def test_nodes_hear_of_new_names(rows: Rows) -> None:
    async with running_service(rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            answer = await service.admin("PUT", PATH, NAMES, {"if-match": "*"})
            assert (answer.status, answer.json) == (200, NAMES)

            def heard() -> bool:
                assert follower.held is not None
                return follower.held.map.network.names == NetworkNames.from_json(NAMES)

            await wait_until(heard)
        assert (await service.admin("GET", PATH)).json == NAMES
        await service.admin("PUT", PATH, EMPTY, {"if-match": "*"})
        assert (await service.admin("GET", PATH)).json == EMPTY


async def test_the_same_names_again_are_no_news(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await service.admin("PUT", PATH, NAMES, {"if-match": "*"})
        before = (await service.admin("GET", "networks/home")).json["revision"]
        await service.admin("PUT", PATH, NAMES, {"if-match": "*"})
        assert (await service.admin("GET", "networks/home")).json["revision"] == before


async def test_two_who_edit_at_once_do_not_overwrite_each_other(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        seen = (await service.admin("GET", PATH)).headers["etag"]
        assert (await service.admin("PUT", PATH, NAMES, {"if-match": seen})).status == 200
        late = await service.admin("PUT", PATH, EMPTY, {"if-match": seen})
        assert (late.status, late.json["code"]) == (412, "changed")
        assert (await service.admin("PUT", PATH, EMPTY)).json["code"] == "needs_if_match"


@pytest.mark.parametrize(
    ("records", "domains", "said"),
    [
        ([("nas.", "10.1.2.3")], [], "inner hyphens"),
        ([("-nas", "10.1.2.3")], [], "inner hyphens"),
        ([("nas", "10.1.2.300")], [], "an address or"),
        ([("nas", "fe80::1%eth0")], [], "without a zone"),
        ([("nas", "224.0.0.1")], [], "one host's"),
        ([("nas", "10.1.2.3"), ("nas", "10.1.2.3")], [], "once"),
        ([("a", "b"), ("b", "a")], [], "leads back to itself"),
        ([("a", "b"), ("a", "10.1.2.3")], [], "no other record"),
        ([(f"n{number}", "10.1.2.3") for number in range(MAX_RECORDS + 1)], [], "length"),
        ([], [("corp..example", ["10.9.9.9"])], "a domain such as"),
        ([], [("corp.example", ["dns.example"])], "an IP address"),
        ([], [("corp.example", [])], "length"),
        ([], [("corp.example", ["10.9.9.9"]), ("corp.example", ["10.9.9.8"])], "once"),
    ],
)
async def test_bad_names_are_refused_in_words_and_change_nothing(
    sqlite_rows: Rows, records: list[tuple[str, str]], domains: list[tuple[str, list[str]]], said: str
) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await service.admin("PUT", PATH, NAMES, {"if-match": "*"})
        body = {
            "records": [{"name": name, "value": value} for name, value in records],
            "domains": [{"domain": domain, "servers": servers} for domain, servers in domains],
        }
        answer = await service.admin("PUT", PATH, body, {"if-match": "*"})
        assert (answer.status, answer.json["code"]) == (400, "malformed")
        assert said in answer.json["detail"]
        assert (await service.admin("GET", PATH)).json == NAMES
