"""What strangers can do: ask, but not too often; and what they send is in no log."""

from __future__ import annotations

import logging
import re

import pytest

from coordinator.app import ENDPOINTS, PAGE_ROUTES
from coordinator.ratelimit import RateLimit
from tests.coordinator.asgi import running_service
from tests.coordinator.rows import Rows

MARK = "what-a-stranger-sent"

EVERYTHING = [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS]
EVERYTHING += [("GET", path) for _, path, _ in PAGE_ROUTES]
EVERYTHING += [("GET", "/nothing"), ("PUT", "/v1/identity")]


def filled(path: str, word: str) -> str:
    return re.sub(r"{[\w:]+}", word, path)


async def test_everything_that_can_be_asked_without_credentials_is_limited_by_address(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows, limit=RateLimit(0.001, 1, 1e6, 1e6)) as service:
        for number, (method, path) in enumerate(EVERYTHING):
            service.address = f"10.9.{number // 250}.{number % 250}"
            codes = [(await service.request(method, filled(path, "main.js"), {})).code for _ in range(2)]
            assert codes[0] != "rate_limited", path
            assert codes[1] == "rate_limited", path
    assert len(EVERYTHING) > 60


async def test_what_strangers_send_is_in_no_log_not_even_while_the_database_fails(
    sqlite_rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {
        "cookie": f"__Host-wgpy={MARK}; __Host-wgpy-attempt={MARK}",
        "user-agent": MARK,
        "origin": f"https://{MARK}.example",
        "referer": f"https://{MARK}.example",
        "x-forwarded-for": MARK,
        "idempotency-key": MARK,
        "if-match": MARK,
    }
    bodies = ({}, {MARK: MARK}, MARK.encode(), {"name": MARK, "password": MARK, "secret": MARK, "wire": 1})

    async with running_service(sqlite_rows) as service:

        async def walk() -> None:
            for method, path in EVERYTHING:
                target = (
                    f"{filled(path, MARK)}?{MARK}={MARK}&since={MARK}&next={MARK}&code={MARK}&state={MARK}"
                )
                for body in bodies:
                    for bearer in (None, MARK):
                        answer = await service.request(method, target, body, bearer=bearer, headers=headers)
                        assert answer.code != "internal", (method, path, body)

        await walk()
        sqlite_rows.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE people RENAME TO hidden")
        )
        sqlite_rows.write(lambda connection: connection.exec_driver_sql("ALTER TABLE meta RENAME TO hidden2"))
        await service.request(
            "POST", "/v1/sign-in", {"name": MARK, "password": f"{MARK} {MARK}"}, headers={"user-agent": MARK}
        )
        assert "the database failed" in caplog.text  # so there would be something to find it in
        await walk()
    assert MARK not in caplog.text
