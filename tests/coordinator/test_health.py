"""What those who look after the process are told: health, counters, and the log for programs."""

from __future__ import annotations

import json
import logging
import re

import trio

from coordinator.hub import SILENCE
from coordinator.logs import JsonFormatter
from tests.coordinator.asgi import Service, running_service
from tests.coordinator.hosts import Follower
from tests.coordinator.rows import Rows


async def scrape(service: Service) -> dict[str, float]:
    answer = await service.request("GET", "/metrics", bearer=service.admin_key)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_a_process_lives_without_its_database_and_says_that_it_cannot_work(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.request("GET", "/healthz")).body == b"ok\n"
        assert (await service.request("GET", "/readyz")).body == b"ready\n"
        sqlite_rows.now += SILENCE  # and nobody heard the database in that time
        assert (await service.request("GET", "/readyz")).code == "unavailable"
        assert (await service.request("GET", "/healthz")).status == 200


async def test_a_process_that_stops_is_not_ready(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        service.context.hub.close()
        assert (await service.request("GET", "/readyz")).status == 503


async def test_the_counters_tell_requests_refusals_streams_and_transactions(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        _, bearer = await service.member(1)
        assert (await service.request("GET", "/v1/me", bearer="x")).status == 401
        assert (await service.request("POST", "/v1/join", {"wire": "1"})).status == 400
        follower = Follower()
        async with service.watch(bearer, follower):
            with trio.fail_after(30):
                while follower.held is None:  # noqa: ASYNC110 - what is waited for has no event of its own
                    await trio.sleep(0.005)
            found = await scrape(service)
        assert found['wgpy_coordinator_requests_total{action="node.join",status="200"}'] == 1
        assert found['wgpy_coordinator_requests_total{action="me.show",status="401"}'] == 1
        assert found['wgpy_coordinator_refusals_total{code="unauthorized"}'] == 1
        assert found['wgpy_coordinator_refusals_total{code="malformed"}'] == 1
        assert found['wgpy_coordinator_request_seconds_count{action="node.join"}'] == 2
        assert found['wgpy_coordinator_streams{kind="node"}'] == 1
        assert found["wgpy_coordinator_networks_open"] == 1
        assert found['wgpy_coordinator_transaction_seconds_count{kind="write"}'] >= 3


async def test_strangers_make_no_new_label(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})  # so that something was written already
        before = None
        for number in range(50):
            for path in (f"/v1/{number}", f"/v1/admin/networks/n{number}/nodes"):
                await service.request("GET", path, bearer=f"b{number}", headers={"user-agent": f"u{number}"})
            names = {re.sub("{.*", "", name) for name in await scrape(service)}, len(await scrape(service))
            before = before or names
        assert names == before


async def test_the_counters_are_not_for_everyone(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        for body, status in (
            ({"name": "prometheus", "scope": "read"}, 200),
            ({"name": "one network", "scope": "admin", "network": "home"}, 403),
        ):
            key = (await service.admin("POST", "keys", body)).json["key"]
            assert (await service.request("GET", "/metrics", bearer=key)).status == status


def test_a_line_of_the_log_is_one_object() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        exception = (type(error), error, error.__traceback__)
    record = logging.LogRecord("coordinator.hub", logging.ERROR, "", 0, "network %s\n", ("x",), exception)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    value = json.loads(line)
    assert value.pop("at") == round(record.created, 3)
    assert value.pop("exception").endswith("ValueError: two\nlines")
    assert value == {"level": "error", "logger": "coordinator.hub", "message": "network x\n"}
