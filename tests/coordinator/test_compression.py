"""Large answers to readings are compressed for who takes that; what may hold a new secret never is."""

from __future__ import annotations

import gzip

from tests.coordinator.asgi import Answer, Service, running_service
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import HOME, make_home


async def test_a_large_reading_is_compressed_for_who_takes_it(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        for number in range(30):
            await service.admin("POST", f"{HOME}/tokens", {"tags": [f"t{number}"]})
        path = f"/v1/admin/{HOME}/tokens"
        plain = await service.request("GET", path, bearer=service.admin_key)
        assert "content-encoding" not in plain.headers
        for word in ("gzip, br", "deflate, *;q=0.5", "GZIP;q=1.0"):
            packed = await ask_for(service, path, word)
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.headers["vary"] == "accept-encoding"
            assert len(packed.body) < len(plain.body) / 3
            assert gzip.decompress(packed.body) == plain.body
        for word in ("br", "gzip;q=0", "identity"):
            assert (await ask_for(service, path, word)).body == plain.body
        small = await ask_for(service, f"/v1/admin/{HOME}", "gzip")
        assert "content-encoding" not in small.headers


async def test_an_answer_with_a_new_secret_is_never_compressed(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        body = {
            "name": "large",
            "description": "x" * 500,
            "visibility": [["a" * 60, f"b{number}"] for number in range(60)],
        }
        made = await service.request(
            "POST", "/v1/admin/networks", body, bearer=service.admin_key, headers={"accept-encoding": "gzip"}
        )
        assert (made.status, made.json["name"]) == (201, "large")
        assert "content-encoding" not in made.headers


async def ask_for(service: Service, path: str, encoding: str) -> Answer:
    return await service.request("GET", path, bearer=service.admin_key, headers={"accept-encoding": encoding})
