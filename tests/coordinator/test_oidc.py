"""Signing in at an OpenID provider: the real exchange with one on loopback, and the ways in which it lies."""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from coordinator.api.caller import COOKIE
from coordinator.api.oidc import ATTEMPT_COOKIE
from coordinator.oidc import ATTEMPT_AGE
from tests.coordinator.asgi import Answer, Service, running_service
from tests.coordinator.openid import (
    CLIENT_ID,
    CLIENT_SECRET,
    OpenIdProvider,
    new_key,
    openid_provider,
    signed,
)
from tests.coordinator.rows import Rows
from tests.coordinator.test_sign_in import SAME_SITE, add_person, first_admin
from wgpy.mesh.encoding import encode_b64u

pytestmark = pytest.mark.usefixtures("cheap_passwords")

CALLBACK = "https://coordinator.example:8443/v1/oidc/callback"
GRACE = {"email": "Grace@Example.org", "email_verified": True, "preferred_username": "grace"}


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        provider.redirect_uris = {CALLBACK}
        provider.people = {"sub-1": dict(GRACE)}
        yield provider


async def set_up(service: Service, provider: OpenIdProvider, **more: object) -> Answer:
    service.rows.now = time.time()
    body = {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET} | more
    return await service.request(
        "PUT", "/v1/admin/providers/company", body, bearer=service.admin_key, headers={"if-match": "*"}
    )


def cookie_in(answer: Answer, name: str) -> str:
    found = re.search(rf"^{name}=([^;]+); (.*)$", answer.headers["set-cookie"], re.MULTILINE)
    assert found is not None, answer.headers
    flags = found[2].lower()
    assert "httponly" in flags
    assert "secure" in flags
    assert "samesite=lax" in flags
    return f"{name}={found[1]}"


async def begin(service: Service, query: str = "") -> tuple[str, dict[str, str]]:
    """Where the browser is sent, and what it takes along."""
    answer = await service.request("GET", f"/v1/oidc/company/begin{query}")
    assert answer.status == 303, answer.body
    return answer.headers["location"], {"cookie": cookie_in(answer, ATTEMPT_COOKIE)}


async def come_back(service: Service, url: str, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
    answer = await service.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    assert answer.status == 303, answer.body
    return answer


async def sign_in(service: Service, provider: OpenIdProvider, subject: str = "sub-1") -> Answer:
    url, headers = await begin(service)
    return await come_back(service, provider.sign_in(url, subject), headers)


def signed_in(answer: Answer) -> dict[str, str]:
    assert answer.headers["location"].startswith("/"), answer.headers
    assert "refused" not in answer.headers["location"], answer.headers
    return SAME_SITE | {"cookie": cookie_in(answer, COOKIE)}


def refused(answer: Answer) -> str:
    parts = urlsplit(answer.headers["location"])
    assert parts.path == "/sign-in", answer.headers
    assert COOKIE + "=" not in answer.headers.get("set-cookie", "")
    return parse_qs(parts.query)["refused"][0]


async def test_who_was_added_under_their_address_comes_in_by_the_provider(
    rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(rows) as service:
        assert (await set_up(service, provider, label="Company")).status == 200
        assert (await service.request("GET", "/v1/sign-in")).json == {
            "providers": [{"name": "company", "label": "Company"}]
        }
        assert refused(await sign_in(service, provider)) == "not_admitted"
        made = await service.admin("POST", "people", {"name": "grace@example.org"})
        assert made.status == 201
        grace = signed_in(await sign_in(service, provider))
        me = await service.request("GET", "/v1/me", headers=grace)
        assert me.json["name"] == "grace@example.org"
        provider.people["sub-1"]["email"] = (
            "other@example.org"  # who they are is the subject, not the address
        )
        again = signed_in(await sign_in(service, provider))
        assert (await service.request("GET", "/v1/me", headers=again)).json["id"] == me.json["id"]
        provider.people["sub-2"] = dict(GRACE)  # and nobody else gets the account by the same address
        assert refused(await sign_in(service, provider, "sub-2")) == "not_admitted"
        entries = (await service.admin("GET", "audit?action=session.open")).json["entries"]
        assert {entry["actor"] for entry in entries} == {"grace@example.org"}


async def test_an_address_that_the_provider_has_not_checked_opens_nothing(
    rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(rows) as service:
        await set_up(service, provider)
        await service.admin("POST", "people", {"name": "grace@example.org"})
        for unchecked in (False, "true", None, 1):
            provider.people["sub-1"]["email_verified"] = unchecked
            assert refused(await sign_in(service, provider)) == "not_admitted"


async def test_everyone_gets_an_account_with_the_roles_that_were_set_and_no_password_account_is_taken_over(
    rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(rows) as service:
        network = (await service.admin("POST", "networks", {"name": "home"})).json["id"]
        rows.now = time.time()
        admin = await first_admin(service, "root@example.org")
        await set_up(service, provider, admits="everyone", roles={"home": "member"})
        provider.people["sub-9"] = {"email": "root@example.org", "email_verified": True}
        headers = signed_in(await sign_in(service, provider, "sub-9"))
        me = (await service.request("GET", "/v1/me", headers=headers)).json
        assert me["name"] == "root@example.org-2"
        assert me["everywhere"] is None
        assert me["networks"] == {network: "own"}
        assert (await service.request("GET", "/v1/me", headers=admin)).json["everywhere"] == "admin"
        assert (await service.request("GET", "/v1/admin/people", headers=headers)).code == "forbidden"


async def test_an_account_is_connected_by_who_is_signed_in_to_it(
    rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(rows) as service:
        await set_up(service, provider)
        admin = await first_admin(service)
        told = await service.request("POST", "/v1/me/providers/company", headers=admin)
        attempt = cookie_in(told, ATTEMPT_COOKIE)
        back = provider.sign_in(told.json["url"], "sub-1")
        lost = await come_back(service, back, {"cookie": attempt})  # in a browser that is signed out
        assert refused(lost) == "unauthorized"
        told = await service.request("POST", "/v1/me/providers/company", headers=admin)
        both = f"{admin['cookie']}; {cookie_in(told, ATTEMPT_COOKIE)}"
        done = await come_back(service, provider.sign_in(told.json["url"], "sub-1"), {"cookie": both})
        assert done.headers["location"] == "/settings"
        headers = signed_in(await sign_in(service, provider))
        assert (await service.request("GET", "/v1/me", headers=headers)).json["everywhere"] == "admin"
        other = await add_person(service, admin, "eve")
        told = await service.request("POST", "/v1/me/providers/company", headers=other)
        both = f"{other['cookie']}; {cookie_in(told, ATTEMPT_COOKIE)}"
        answer = await come_back(service, provider.sign_in(told.json["url"], "sub-1"), {"cookie": both})
        assert refused(answer) == "taken"
        by_key = await service.request("POST", "/v1/me/providers/company", bearer=service.admin_key)
        assert by_key.code == "forbidden"


async def test_who_is_kept_out_stays_out_whatever_the_provider_says(
    rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(rows) as service:
        await set_up(service, provider, admits="everyone")
        headers = signed_in(await sign_in(service, provider))
        body = {"disabled": True}
        path = "/v1/admin/people/grace@example.org"
        edited = await service.request(
            "PATCH", path, body, bearer=service.admin_key, headers={"if-match": "*"}
        )
        assert edited.status == 200, edited.body
        assert (await service.request("GET", "/v1/me", headers=headers)).code == "unauthorized"
        assert refused(await sign_in(service, provider)) == "kept_out"


def lie(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def twist(claims: dict[str, Any]) -> None:
        if value is None:
            del claims[name]
        else:
            claims[name] = value

    return twist


def by_hand(claims: dict[str, Any], header: dict[str, Any], key: bytes) -> str:
    """A token whose signature is an HMAC, or nothing."""
    body = ".".join(encode_b64u(json.dumps(part).encode()) for part in (header, claims))
    return f"{body}.{encode_b64u(hmac.digest(key, body.encode(), 'sha256')) if key else ''}"


LIES = {
    "another issuer": lie("iss", "https://evil.example"),
    "for another client": lie("aud", "someone-else"),
    "for several clients and nobody named": lie("aud", [CLIENT_ID, "someone-else"]),
    "made for another client": lie("azp", "someone-else"),
    "of another sign-in": lie("nonce", "A" * 43),
    "without the nonce": lie("nonce", None),
    "expired": lie("exp", 1_000_000),
    "without an end": lie("exp", None),
    "an end that is no number": lie("exp", "never"),
    "from the future": lie("iat", 99_999_999_999),
    "about nobody": lie("sub", None),
    "about nobody at length": lie("sub", "x" * 300),
}


async def test_a_token_that_is_not_what_it_must_be_opens_nothing(
    sqlite_rows: Rows, provider: OpenIdProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_service(sqlite_rows) as service:
        await set_up(service, provider, admits="everyone")
        for number, (what, twist) in enumerate(LIES.items()):
            provider.twist = twist
            service.address = f"192.0.2.{number}"  # one address has ten attempts and then waits
            assert refused(await sign_in(service, provider)) == "provider_failed", what
        provider.twist = lambda claims: None
        honest, public = provider.sign, provider.key.as_pem(private=False)
        for what, sign in {
            "by somebody else under the provider's key id": lambda claims: signed(
                claims, new_key(), str(provider.key.kid)
            ),
            "by nobody": lambda claims: by_hand(claims, {"alg": "none"}, b""),
            "by the public key, as if it were shared": lambda claims: by_hand(
                claims, {"alg": "HS256"}, public
            ),
            "by half": lambda claims: honest(claims)[:-3],
            "by no means": lambda claims: "a.b.c",
        }.items():
            provider.sign = sign
            assert refused(await sign_in(service, provider)) == "provider_failed", what
        provider.sign = honest
        signed_in(await sign_in(service, provider))
    assert CLIENT_SECRET not in caplog.text
    assert "x" * 300 not in caplog.text


async def test_new_keys_of_the_provider_are_found_and_made_up_ones_do_not_hurry_it(
    sqlite_rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(sqlite_rows) as service:
        await set_up(service, provider, admits="everyone")
        signed_in(await sign_in(service, provider))
        provider.rotate()
        sqlite_rows.now += 31
        signed_in(await sign_in(service, provider))
        provider.sign = lambda claims: signed(claims, new_key(), "made up")
        before = provider.asked.count("/keys")
        for _ in range(4):
            assert refused(await sign_in(service, provider)) == "provider_failed"
        assert provider.asked.count("/keys") == before


async def test_a_sign_in_ends_in_the_browser_and_the_time_in_which_it_began_and_once(
    sqlite_rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(sqlite_rows) as service:
        await set_up(service, provider, admits="everyone")
        url, headers = await begin(service)
        back = provider.sign_in(url, "sub-1")
        _, other = await begin(service)
        for wrong in (
            {},
            other,
            {"cookie": f"{ATTEMPT_COOKIE}=" + "A" * 200},
            {"cookie": f"{ATTEMPT_COOKIE}=!"},
        ):
            assert refused(await come_back(service, back, wrong)) == "sign_in_lost"
        assert refused(await come_back(service, back.replace("iss=", "iss=x"), headers)) == "sign_in_lost"
        sqlite_rows.now += ATTEMPT_AGE + 1
        assert refused(await come_back(service, back, headers)) == "sign_in_lost"
        sqlite_rows.now -= ATTEMPT_AGE + 1
        signed_in(await come_back(service, back, headers))
        assert refused(await come_back(service, back, headers)) == "provider_failed"  # the code is spent
        url, headers = await begin(service)
        state = parse_qs(urlsplit(url).query)["state"][0]
        denied = f"{CALLBACK}?error=access_denied&error_description=%3Cscript%3E&state={state}"
        answer = await come_back(service, denied, headers)
        assert refused(answer) == "not_admitted"
        assert "script" not in answer.headers["location"]


async def test_a_sign_in_goes_on_to_a_page_of_ours_and_to_nobody_elses(
    sqlite_rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(sqlite_rows) as service:
        await set_up(service, provider, admits="everyone")
        wishes = {
            "/networks/home?x=1": "/networks/home%3Fx%3D1",
            "//evil.example": "%2F%2Fevil.example",
            "/\\evil.example": "%2F%5Cevil.example",
            "https://evil.example": "https%3A%2F%2Fevil.example",
            "/a\r\nset-cookie: x": "%2Fa%0D%0Aset-cookie%3A%20x",
        }
        for wish, encoded in wishes.items():
            url, headers = await begin(service, f"?next={encoded}")
            answer = await come_back(service, provider.sign_in(url, "sub-1"), headers)
            signed_in(answer)
            expected = wish if wish.startswith("/networks") else "/"
            assert answer.headers["location"] == expected, wish


async def test_what_is_wrong_with_a_provider_is_said_when_it_is_set_up(
    sqlite_rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(sqlite_rows) as service:
        for issuer in (
            "http://example.org",
            "ftp://127.0.0.1",
            "https://a@b",
            "https://x/?y",
            "x",
            "https://:0",
        ):
            assert (await set_up(service, provider, issuer=issuer)).code == "malformed", issuer
        assert (await set_up(service, provider, roles={"nowhere": "member"})).code == "not_found"
        for fault, said in (
            ({"issuer": "https://evil.example"}, "another issuer"),
            ({"token_endpoint": "http://example.org/token"}, "token_endpoint is not an https URL"),
            ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "no algorithm"),
        ):
            provider.metadata = fault
            answer = await set_up(service, provider)
            assert answer.code == "provider_failed"
            assert said in answer.json["detail"]
        provider.metadata = {}
        assert (await set_up(service, provider, issuer=f"{provider.issuer}/x")).code == "provider_failed"
        made = await set_up(service, provider)
        assert made.status == 200
        assert CLIENT_SECRET.encode() not in made.body
        kept = await set_up(service, provider, client_secret=None, label="Ours")
        assert (kept.json["has_secret"], kept.json["label"]) == (True, "Ours")
        shown = await service.admin("GET", "providers/company")
        assert shown.json == kept.json
        provider.close()
        service.context.providers._metadata.clear()
        url = await service.request("GET", "/v1/oidc/company/begin")
        assert refused(url) == "provider_failed"
        assert refused(await service.request("GET", "/v1/oidc/nobody/begin")) == "not_found"
        assert (await service.admin("DELETE", "providers/company")).status == 200
        assert (await service.request("GET", "/v1/sign-in")).json == {"providers": []}


async def test_a_public_client_has_no_secret_and_pkce_alone(
    sqlite_rows: Rows, provider: OpenIdProvider
) -> None:
    async with running_service(sqlite_rows) as service:
        provider.secret = None
        made = await set_up(service, provider, admits="everyone", client_secret="")
        assert made.json["has_secret"] is False
        signed_in(await sign_in(service, provider))
