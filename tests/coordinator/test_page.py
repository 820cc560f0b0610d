"""The web page's files, and the events by which it stays live."""

from __future__ import annotations

import gzip
import re

import trio

from coordinator.web.pages import FOR_EVER, PATHS, POLICY, VERSION
from tests.coordinator.asgi import running_service
from tests.coordinator.rows import Rows


async def test_every_address_of_the_page_gives_the_document_under_a_strict_policy(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        for path in PATHS:
            answer = await service.request("GET", path.replace("{rest:path}", "home/nodes/host-1"))
            assert answer.status == 200
            assert b"<main" in answer.body
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe" not in POLICY
        assert "default-src 'none'" in POLICY


async def test_the_document_names_only_files_that_are_there_and_nothing_inline(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        document = (await service.request("GET", "/")).body.decode()
        names = [part.split('"')[0] for part in document.split('"/')[1:]]
        assert len(names) >= 3
        for name in names:
            assert (await service.request("GET", f"/{name}")).status == 200
        assert "<style" not in document
        assert "style=" not in document
        assert "http:" not in document
        assert "https:" not in document


async def test_a_file_that_the_browser_has_is_not_sent_again(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        first = await service.request("GET", "/static/main.js")
        headers = {"if-none-match": first.headers["etag"]}
        again = await service.request("GET", "/static/main.js", headers=headers)
        assert (again.status, again.body) == (304, b"")
        packed = await service.request("GET", "/static/main.js", headers={"accept-encoding": "br, gzip"})
        assert gzip.decompress(packed.body) == first.body
        assert (await service.request("GET", "/static/none.js")).code == "not_found"
        assert (await service.request("GET", "/static/..%2fpages.py")).code == "not_found"


async def test_a_browser_asks_once_for_the_files_of_a_version_and_again_for_others(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        document = (await service.request("GET", "/")).body.decode()
        names = re.findall(r'"(/static/[^"]+)"', document)
        assert len(names) > 25
        for name in names:
            assert f"/static/{VERSION}/" in name
            answer = await service.request("GET", name)
            assert (answer.status, answer.headers["cache-control"]) == (200, FOR_EVER), name
        older = await service.request("GET", f"/static/{'0' * 16}/main.js")
        assert (older.status, older.headers["cache-control"]) == (200, "no-cache")
        assert (await service.request("GET", f"/static/{VERSION}/none.js")).code == "not_found"


async def test_who_looks_at_a_network_hears_of_each_change_and_of_its_end(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        created = await service.admin("POST", "networks", {"name": "home"})
        hub = service.context.hub
        listener = await hub.listen(created.json["id"])
        with trio.fail_after(30):
            _, bearer = await service.member(1)
            assert await hub.next_change(listener) is True
            await service.check_in(bearer, endpoints=("192.0.2.9:51820",))
            assert await hub.next_change(listener) is True
            await service.admin("DELETE", "networks/home")
            while await hub.next_change(listener) is not None:
                pass
        hub.unlisten(listener)
