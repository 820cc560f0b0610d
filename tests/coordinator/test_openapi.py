"""The document of the API, what Schemathesis finds when it holds the running server to it, and the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coordinator.api.openapi import PATH, build_document, codes_of
from coordinator.api.table import Needs
from coordinator.app import ENDPOINTS
from coordinator.errors import STATUS
from coordinator.web.pages import POLICY
from coordinator.web.reference import render
from tests.coordinator.asgi import running_service
from tests.coordinator.process import Coordinator, RemoteHost
from tests.coordinator.rows import Rows


async def test_the_document_is_served_and_tells_of_every_route(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        document = (await service.request("GET", PATH)).json
    assert document["openapi"] == "3.1.0"
    told = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert told == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["summary"]
        assert {"500", "503"} <= set(operation["responses"])


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = build_document(ENDPOINTS)
    wanted = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert wanted
    assert wanted <= set(document["components"]["schemas"])


def test_what_needs_credentials_says_so_and_may_refuse() -> None:
    document = build_document(ENDPOINTS)
    for endpoint in ENDPOINTS:
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        assert bool(operation["security"]) == (endpoint.needs is not Needs.NOTHING)
        if endpoint.needs is not Needs.NOTHING:
            assert "401" in operation["responses"]
        for code in codes_of(endpoint):
            assert f"`{code}`" in operation["responses"][str(STATUS[code])]["description"]


class Tags(HTMLParser):
    """Which elements a page has, and that all of them are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not {name for name in found if name.startswith("on") or name == "style"}
        self.seen.add(tag)
        self.ids.add(found.get("id") or "")
        self.links.add(found.get("href") or "")
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_page_is_read_without_scripts_and_its_links_lead_somewhere(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        answer = await service.request("GET", "/api")
        assert answer.headers["content-security-policy"] == POLICY
        tags = Tags()
        tags.feed(answer.body.decode())
        assert tags.open == []
        assert not tags.seen & {"script", "style", "iframe", "img"}
        for link in tags.links - {""}:
            if link.startswith("#"):
                assert link[1:] in tags.ids
            else:
                assert (await service.request("GET", link)).status == 200
    for endpoint in ENDPOINTS:
        assert endpoint.action in tags.ids


def test_text_stays_text_on_the_page() -> None:
    document = build_document(ENDPOINTS)
    document["paths"]["/v1/me"]["get"]["summary"] = "<script>alert(1)</script>"
    assert "<script" not in render(document)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_server_keeps_to_its_document_under_requests_that_nobody_thought_of(
    tmp_path: Path, free_port: int
) -> None:
    coordinator = Coordinator(tmp_path / "state", free_port)
    coordinator.start()
    try:
        coordinator.run("network", "create", "home")
        RemoteHost(1, coordinator.token("home")).join()
        [token] = coordinator.json("token", "list")
        known = {"network": "home", "node": "host-1", "token": token["id"], "on": "home"}
        lines = [f"{name} = {json.dumps(value)}" for name, value in known.items()]
        # Now and then it leaves the key out together with the header.
        expected = "[checks.missing_required_header]\nexpected-statuses = [401, 428]\n"
        expected += '[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]\n'
        (tmp_path / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines, expected]))
        key = json.loads((coordinator.state_dir / "admin.json").read_text())["key"]
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("st")), "--config-file", "schemathesis.toml", "run",
                coordinator.url + PATH, "--tls-verify", "false", "-H", f"Authorization: Bearer {key}",
                "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-shrink",
                "--continue-on-failure", "--request-timeout", "30", "--warnings", "off",
                "--suppress-health-check", "all", "--generation-database", "none",
                "--exclude-operation-id", "network.follow",  # it has no end
                "--exclude-checks", "positive_data_acceptance",  # what is no name, no document can say
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert re.search(r"Tested: +\d+", done.stdout)
        assert "ERROR" not in coordinator.text()
        assert "Traceback" not in coordinator.text()
    finally:
        coordinator.stop()
