"""Signing in, what a cookie opens, and who may do what."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from coordinator.api.caller import COOKIE
from coordinator.store.setup_links import encode_setup_secret, make_setup_link
from tests.coordinator.asgi import Answer, Service, running_service, wait_until
from tests.coordinator.rows import Rows
from wgpy.mesh.signing import BearerSecret

PASSWORD = "correct horse battery staple"
SAME_SITE = {"sec-fetch-site": "same-origin"}


pytestmark = pytest.mark.usefixtures("cheap_passwords")


def cookie_of(answer: Answer) -> dict[str, str]:
    """The headers of a browser's own page after this answer."""
    found = re.match(rf"{COOKIE}=([^;]+); (.*)", answer.headers["set-cookie"])
    assert found is not None
    flags = found[2].lower()
    assert "httponly" in flags
    assert "secure" in flags
    assert "samesite=lax" in flags
    assert "domain" not in flags
    return SAME_SITE | {"cookie": f"{COOKIE}={found[1]}"}


async def first_admin(service: Service, name: str = "ada") -> dict[str, str]:
    secret = BearerSecret(bytes(range(32)))
    service.rows.write(make_setup_link, secret, None, service.rows.now)
    body = {"secret": encode_setup_secret(secret), "name": name, "password": PASSWORD}
    answer = await service.request("POST", "/v1/setup", body)
    assert answer.status == 201, answer.body
    assert (await service.request("POST", "/v1/setup", body)).code == "setup_link"
    return cookie_of(answer)


async def add_person(service: Service, admin: dict[str, str], name: str) -> dict[str, str]:
    made = await service.request("POST", "/v1/admin/people", {"name": name}, headers=admin)
    assert made.status == 201, made.body
    link = await service.request("POST", "/v1/admin/setup-links", {"person": name}, headers=admin)
    secret = link.json["url"].partition("#")[2]
    looked = await service.request("POST", "/v1/setup/look", {"secret": secret})
    assert looked.json["name"] == name
    return cookie_of(await service.request("POST", "/v1/setup", {"secret": secret, "password": PASSWORD}))


async def test_a_cookie_opens_the_administration_and_a_foreign_page_cannot_use_it(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        body = {"name": "home"}
        for foreign in (
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {},
        ):
            headers = foreign | {"cookie": admin["cookie"]}
            answer = await service.request("POST", "/v1/admin/networks", body, headers=headers)
            assert answer.code == "cross_site", foreign
        ours = {"origin": "https://coordinator.example", "cookie": admin["cookie"]}
        assert (await service.request("POST", "/v1/admin/networks", body, headers=ours)).status == 201
        me = await service.request("GET", "/v1/me", headers=admin)
        assert (me.json["name"], me.json["everywhere"]) == ("ada", "admin")
        assert (await service.request("POST", "/v1/sign-out", headers=admin)).status == 204
        assert (await service.request("GET", "/v1/me", headers=admin)).code == "unauthorized"


async def test_a_wrong_password_and_a_name_that_is_not_there_get_the_same_answer_and_have_to_wait(
    rows: Rows,
) -> None:
    async with running_service(rows) as service:
        await first_admin(service)
        right = {"name": "Ada ", "password": PASSWORD}
        assert (await service.request("POST", "/v1/sign-in", right)).status == 200
        answers = [
            await service.request("POST", "/v1/sign-in", {"name": name, "password": "wrong"})
            for name in ("ada", "nobody")
        ]
        assert answers[0].body == answers[1].body
        assert answers[0].code == "wrong_password"
        for _ in range(100):
            last = await service.request("POST", "/v1/sign-in", {"name": "ada", "password": "wrong"})
            if last.code == "rate_limited":
                break
        assert last.code == "rate_limited"
        assert int(last.headers["retry-after"]) >= 1


async def test_who_is_kept_out_is_signed_out_at_once(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        grace = await add_person(service, admin, "grace")
        assert (await service.request("GET", "/v1/me", headers=grace)).status == 200
        path = "/v1/admin/people/grace"
        seen = await service.request("GET", path, headers=admin)
        refused = await service.request("PATCH", path, {"disabled": True}, headers=admin)
        assert refused.code == "needs_if_match"
        tagged = admin | {"if-match": seen.headers["etag"]}
        assert (await service.request("PATCH", path, {"disabled": True}, headers=tagged)).status == 200
        assert (await service.request("PATCH", path, {"is_admin": True}, headers=tagged)).code == "changed"
        assert (await service.request("GET", "/v1/me", headers=grace)).code == "unauthorized"
        attempt = {"name": "grace", "password": PASSWORD}
        assert (await service.request("POST", "/v1/sign-in", attempt)).code == "wrong_password"


async def test_the_last_admin_stays(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        assert (await service.request("DELETE", "/v1/admin/people/ada", headers=admin)).code == "last_admin"
        headers = admin | {"if-match": "*"}
        for edit in ({"is_admin": False}, {"disabled": True}):
            answer = await service.request("PATCH", "/v1/admin/people/ada", edit, headers=headers)
            assert answer.code == "last_admin"
        assert (await service.request("GET", "/v1/me", headers=admin)).status == 200


async def test_a_role_opens_its_network_and_no_other(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        for name in ("home", "office"):
            await service.admin("POST", "networks", {"name": name})
        grace = await add_person(service, admin, "grace")
        nodes = "/v1/admin/networks/home/nodes"
        assert (await service.request("GET", nodes, headers=grace)).status in (403, 404)
        seen = await service.request("GET", "/v1/admin/networks", headers=grace)
        assert seen.json["networks"] == []
        tagged = admin | {"if-match": "*"}
        role = "/v1/admin/people/grace/roles/home"
        assert (await service.request("PUT", role, {"role": "viewer"}, headers=tagged)).status == 200
        assert (await service.request("GET", nodes, headers=grace)).status == 200
        seen = await service.request("GET", "/v1/admin/networks", headers=grace)
        assert [network["name"] for network in seen.json["networks"]] == ["home"]
        other = "/v1/admin/networks/office/nodes"
        assert (await service.request("GET", other, headers=grace)).status in (403, 404)
        for method, path in (
            ("POST", "/v1/admin/networks"),
            ("POST", "/v1/admin/networks/home/tokens"),
            ("DELETE", "/v1/admin/networks/home"),
            ("GET", "/v1/admin/people"),
            ("GET", "/v1/admin/keys"),
            ("GET", "/v1/admin/audit"),
            ("POST", "/v1/admin/setup-links"),
        ):
            body = {"name": "mine"} if path.endswith("networks") else {}
            answer = await service.request(method, path, body, headers=grace)
            assert answer.code == "forbidden", (method, path)


async def test_a_creation_that_is_asked_for_twice_happens_once(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        headers = admin | {"idempotency-key": "one"}
        body = {"name": "backup", "scope": "read"}
        first = await service.request("POST", "/v1/admin/keys", body, headers=headers)
        again = await service.request("POST", "/v1/admin/keys", body, headers=headers)
        assert (first.status, again.status) == (201, 201)
        assert first.json == again.json
        other = await service.request("POST", "/v1/admin/keys", {"name": "other"}, headers=headers)
        assert other.code == "reused_key"
        listed = await service.request("GET", "/v1/admin/keys", headers=admin)
        assert [key["name"] for key in listed.json["keys"]].count("backup") == 1
        assert first.json["key"].encode() not in listed.body
        audit = await service.request("GET", "/v1/admin/audit?action=key", headers=admin)
        [entry] = audit.json["entries"]
        assert (entry["action"], entry["actor"], entry["address"]) == ("key.create", "ada", service.address)
        assert first.json["key"].encode() not in audit.body


async def test_a_key_for_one_network_opens_that_one(rows: Rows) -> None:
    async with running_service(rows) as service:
        for name in ("home", "office"):
            await service.admin("POST", "networks", {"name": name})
        body = {"name": "one", "scope": "admin", "network": "home"}
        key = (await service.admin("POST", "keys", body)).json["key"]
        assert (await service.request("GET", "/v1/admin/networks/home", bearer=key)).status == 200
        assert (await service.request("GET", "/v1/admin/networks/office", bearer=key)).status in (403, 404)
        assert (await service.request("GET", "/v1/admin/keys", bearer=key)).code == "forbidden"


@pytest.mark.parametrize("password", ["short", "a" * 40, "ada", "x" * 300])
async def test_a_password_that_is_none_is_refused_and_the_link_stays_good(rows: Rows, password: str) -> None:
    async with running_service(rows) as service:
        secret = BearerSecret(bytes(range(32)))
        service.rows.write(make_setup_link, secret, None, service.rows.now)
        body = {"secret": encode_setup_secret(secret), "name": "ada"}
        answer = await service.request("POST", "/v1/setup", body | {"password": password})
        assert answer.code == "malformed"
        assert (await service.request("POST", "/v1/setup", body | {"password": PASSWORD})).status == 201


async def test_the_audit_log_tells_who_changed_what_and_holds_no_secret(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        await service.request("POST", "/v1/admin/networks", {"name": "home"}, headers=admin)
        path = "/v1/admin/networks/home"
        made = await service.request("POST", f"{path}/tokens", {}, headers=admin)
        host, _bearer = await service.member(1)
        await service.request("DELETE", f"{path}/tokens/{made.json['id']}", headers=admin)
        await service.request("DELETE", f"{path}/tokens/{made.json['id']}", headers=admin)
        await service.request("DELETE", f"{path}/nodes/host-1", headers=admin)
        await service.request("DELETE", path, headers=admin)
        answer = await service.request("GET", "/v1/admin/audit?actor=ada", headers=admin)
        entries = {entry["action"]: entry for entry in answer.json["entries"]}
        assert [entry["action"] for entry in answer.json["entries"]] == [
            "network.delete", "node.remove", "token.revoke", "token.create", "network.create", "setup.use",
        ]  # fmt: skip
        assert entries["node.remove"]["before"]["wireguard_key"] == str(host.wireguard_key.public_key())
        assert entries["node.remove"]["after"] is None
        assert entries["token.revoke"]["after"]["revoked_at"] == service.rows.now
        assert entries["network.create"]["before"] is None
        assert entries["network.delete"]["subject"] == "home"
        secret = made.json["token"].removeprefix("wgpy1_")
        assert secret.encode() not in answer.body
        first = await service.request("GET", "/v1/admin/audit?limit=2", headers=admin)
        after = first.json["next"]
        second = await service.request("GET", f"/v1/admin/audit?limit=2&after={after}", headers=admin)
        ids = [entry["id"] for page in (first, second) for entry in page.json["entries"]]
        assert ids == sorted(set(ids), reverse=True)
        assert len(ids) == 4


async def test_a_key_that_enrols_makes_tokens_and_removes_nobody(rows: Rows) -> None:
    async with running_service(rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        await service.member(1)
        body = {"name": "enrolment", "scope": "enrol", "network": "home"}
        key = (await service.admin("POST", "keys", body)).json["key"]
        path = "/v1/admin/networks/home"
        assert (await service.request("POST", f"{path}/tokens", {}, bearer=key)).status == 201
        for method, target in (("DELETE", f"{path}/nodes/host-1"), ("DELETE", path)):
            assert (await service.request(method, target, bearer=key)).code == "forbidden"


async def test_failed_sign_ins_are_in_the_audit_log_but_cannot_fill_it(rows: Rows) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        for number in range(40):
            service.address = f"198.51.100.{number % 4}"
            name = ("ada", "hunter2-my-password")[number % 2]
            await service.request("POST", "/v1/sign-in", {"name": name, "password": "wrong"})
        path = "/v1/admin/audit?action=session.refuse&limit=1000"
        entries = (await service.request("GET", path, headers=admin)).json["entries"]
        assert len(entries) == 20  # five of each address
        assert {(entry["actor"], entry["actor_kind"], entry["subject"]) for entry in entries} == {
            ("", "stranger", "ada"), ("", "stranger", "")
        }  # fmt: skip
        assert "hunter2" not in str(entries)
        service.rows.now += 3600
        await service.request("POST", "/v1/sign-in", {"name": "ada", "password": "wrong"})
        newest = (await service.request("GET", path, headers=admin)).json["entries"][0]
        assert newest["after"]["attempts"] == 21  # this one and those of which nothing was told


@pytest.mark.parametrize("end", ["sign out", "disable", "role"])
async def test_who_loses_the_right_hears_nothing_more(rows: Rows, end: str) -> None:
    async with running_service(rows) as service:
        admin = await first_admin(service)
        await service.request("POST", "/v1/admin/networks", {"name": "home"}, headers=admin)
        eve = await add_person(service, admin, "eve")
        any_version = admin | {"if-match": "*"}
        role = "/v1/admin/people/eve/roles/home"
        await service.request("PUT", role, {"role": "viewer"}, headers=any_version)
        async with service.events("home", eve) as heard, service.events("home", admin) as heard_by_admin:
            await wait_until(lambda: len(heard) == 1 and len(heard_by_admin) == 1)  # the stream's first line
            await service.member(1)
            await wait_until(lambda: any(b"change" in piece for piece in heard))
            if end == "sign out":
                await service.request("POST", "/v1/sign-out", headers=eve)
            elif end == "disable":
                body = {"disabled": True}
                await service.request("PATCH", "/v1/admin/people/eve", body, headers=any_version)
            else:
                await service.request("PUT", role, {"role": None}, headers=any_version)
            told, told_admin = len(heard), len(heard_by_admin)
            await service.member(2)
            await wait_until(lambda: heard[-1] == b"")
            assert heard[told:] == [b""]
            await wait_until(lambda: len(heard_by_admin) > told_admin)


async def test_the_audit_log_can_be_taken_away_whole(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.api.audit.BATCH", 4)
    async with running_service(rows) as service:
        for number in range(10):
            made = await service.admin("POST", "keys", {"name": f"={number}+cmd"})
            assert made.status == 201
        plain = await service.request("GET", "/v1/admin/audit/export", bearer=service.admin_key)
        assert plain.headers["content-type"] == "application/x-ndjson"
        entries = [json.loads(line) for line in plain.body.splitlines()]
        listed = (await service.admin("GET", "audit?limit=1000")).json["entries"]
        assert entries == listed
        assert len(entries) == 10
        answer = await service.admin("GET", "audit/export?format=csv&action=key")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        assert [int(row["id"]) for row in rows] == [entry["id"] for entry in entries]
        assert {row["subject"][:2] for row in rows} == {"'="}  # no formula for a spreadsheet
        assert json.loads(rows[0]["after"])["name"] == "=9+cmd"
        assert (await service.admin("GET", "audit/export?format=xls")).code == "malformed"
