"""A small OpenID provider on loopback: discovery, keys, authorization code with PKCE, ID tokens.

It holds its client to what the standards ask: exact redirect URI, S256, each code once, the client's secret.
A browser is shown its people and chooses one; `sign_in` is the same without a browser.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

CLIENT_ID = "wgpy"
CLIENT_SECRET = "between us: ü + % only"


def new_key() -> RSAKey:
    key = RSAKey.generate_key(2048, {"use": "sig"})
    key.ensure_kid()
    return key


def signed(claims: dict[str, Any], key: RSAKey, kid: str) -> str:
    return jwt.encode({"alg": "RS256", "kid": kid}, claims, key, ["RS256"])


class OpenIdProvider:
    """`people`: claims by subject; `twist` may change a token's claims before they are signed."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.redirect_uris: set[str] = set()
        self.secret: str | None = CLIENT_SECRET
        self.key = new_key()
        self.twist: Callable[[dict[str, Any]], None] = lambda claims: None
        self.sign: Callable[[dict[str, Any]], str] = self._sign
        self.metadata: dict[str, Any] = {}
        self.asked: list[str] = []
        self._codes: dict[str, tuple[str, dict[str, str]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (_Request,), {"provider": self}))
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self) -> None:
        self.key = new_key()

    def sign_in(self, url: str, subject: str) -> str:
        """Go to an authorization URL and be `subject` → where the browser is sent back to."""
        return self.answer(dict(_single(urlsplit(url).query)), subject)

    # --- what is asked ---

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
            "authorization_response_iss_parameter_supported": True,
        } | self.metadata

    def keys(self) -> dict[str, Any]:
        shared = OctKey.generate_key(256)  # which nobody may take for a key to verify by
        return {"keys": [*KeySet([self.key]).as_dict(private=False)["keys"], shared.as_dict(private=False)]}

    def answer(self, asked: dict[str, str], subject: str) -> str:
        assert asked["response_type"] == "code", asked
        assert asked["client_id"] == CLIENT_ID, asked
        assert asked["redirect_uri"] in self.redirect_uris, asked
        assert "openid" in asked["scope"].split(), asked
        assert asked["code_challenge_method"] == "S256", asked
        code = secrets.token_urlsafe(24)
        self._codes[code] = (subject, asked)
        given = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return f"{asked['redirect_uri']}?{given}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        subject, asked = self._codes.pop(form.get("code", ""), ("", {}))
        expected = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not asked or expected.rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if form.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": subject, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], **self.people[subject]}
        self.twist(claims)
        return 200, {"token_type": "Bearer", "id_token": self.sign(claims)}

    def _sign(self, claims: dict[str, Any]) -> str:
        return signed(claims, self.key, str(self.key.kid))

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if self.secret is None:
            return form.get("client_id") == CLIENT_ID and not authorization
        given = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return (unquote(given[0]), unquote(given[2])) == (CLIENT_ID, self.secret)


def _single(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


class _Request(BaseHTTPRequestHandler):
    provider: ClassVar[OpenIdProvider]

    def log_message(self, *_: object) -> None:
        """Nothing: the tests ask `asked`."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.provider.asked.append(parts.path)
        asked = _single(parts.query)
        match parts.path:
            case "/.well-known/openid-configuration":
                self._json(200, self.provider.description())
            case "/keys":
                self._json(200, self.provider.keys())
            case "/authorize" if "as" in asked:
                subject = asked.pop("as")
                self._send(302, b"", location=self.provider.answer(asked, subject))
            case "/authorize":
                links = [
                    f'<p><a href="/authorize?{html.escape(urlencode(asked | {"as": subject}))}">{subject}</a>'
                    for subject in self.provider.people
                ]
                page = f"<!doctype html><title>Provider</title><h1>Who are you?</h1>{''.join(links)}"
                self._send(200, page.encode(), **{"content-type": "text/html"})
            case _:
                self._json(404, {})

    def do_POST(self) -> None:
        self.provider.asked.append(self.path)
        form = _single(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
        self._json(*self.provider.redeem(form, self.headers.get("authorization", "")))

    def _json(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode(), **{"content-type": "application/json"})

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider()
    try:
        yield provider
    finally:
        provider.close()
