"""Signing in at an OpenID provider, the pure part: authorization code with PKCE (OpenID Connect Core 1.0
§3.1, RFC 7636, RFC 9207). What a provider sends is read by functions that end in `_untrusted`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeGuard
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from coordinator.addresses import RandomSource
from coordinator.vault import WrappingKey
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import encode_b64u

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "Ed25519",
    "EdDSA",
)
"""What an ID token may be signed with: public keys alone, so that nobody signs with what all can read."""

LEEWAY: Final = 60.0
"""Seconds by which the provider's clock may differ from ours."""
ATTEMPT_AGE: Final = 600.0
"""Seconds that somebody may take at the provider."""
MAX_TOKEN: Final = 64 * 1024

_ATTEMPT: Final = "oidc attempt"


class ProviderFault(Exception):
    """The provider did or sent what it must not. In our own words, without what it sent."""


class UnknownKey(ProviderFault):
    """No key that we know fits: the provider may have new ones."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """A provider's description of itself (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    basic_auth: bool
    algorithms: tuple[str, ...]
    names_issuer: bool


@dataclass(frozen=True, slots=True)
class Claims:
    """Who the provider says has signed in. `email` only when the provider has checked it."""

    subject: str
    email: str | None
    username: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser carries, sealed, while it is at the provider. `person` is who connects an account to
    the provider, "" for a sign-in.
    """

    provider: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    next: str
    person: str
    began_at: float

    def __repr__(self) -> str:
        return f"Attempt({self.provider}, …)"


def check_issuer(text: str) -> str:
    """An issuer's URL as it was given: compared octet by octet. Raises ConfigError."""
    if not _is_safe_url(text) or urlsplit(text).query or "#" in text or len(text) > 255:
        raise ConfigError("the issuer is an https URL without ? and #, exactly as the provider writes it")
    return text


def _is_safe_url(text: str) -> bool:
    """https; http on this host alone, where nobody else listens in."""
    try:
        parts = urlsplit(text)
        is_named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    if not is_named or not text.isascii() or not text.isprintable() or " " in text or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    )


def discovery_url(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def read_metadata_untrusted(data: bytes, issuer: str) -> Metadata:
    """Raises ProviderFault."""
    value = _read_object(data, "its description")
    if value.get("issuer") != issuer:
        raise ProviderFault("it calls itself by another issuer than the one that was set")
    places = {}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        url = value.get(name)
        if not isinstance(url, str) or not _is_safe_url(url):
            raise ProviderFault(f"its {name} is not an https URL")
        places[name] = url
    methods = _texts(value.get("token_endpoint_auth_methods_supported")) or ("client_secret_basic",)
    told = _texts(value.get("id_token_signing_alg_values_supported")) or ("RS256",)
    algorithms = tuple(name for name in ALGORITHMS if name in told)
    if not algorithms:
        raise ProviderFault("it signs by no algorithm that is accepted here: RS256 is what all have")
    return Metadata(
        issuer,
        basic_auth="client_secret_basic" in methods,
        algorithms=algorithms,
        names_issuer=value.get("authorization_response_iss_parameter_supported") is True,
        **places,
    )


def read_keys_untrusted(data: bytes) -> KeySet:
    """A provider's public keys; others are left out. Raises ProviderFault."""
    value = _read_object(data, "its keys")
    listed = value.get("keys")
    if not isinstance(listed, list):
        raise ProviderFault("its keys are not a list")
    public = [
        key
        for key in listed[:100]
        if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"
    ]
    usable = []
    for key in public:
        try:
            usable += KeySet.import_key_set({"keys": [key]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # a kind that is new, or a damaged one: others may do
    if not usable:
        raise ProviderFault("it has no key that a token could be checked by")
    return KeySet(usable)


def begin_attempt(
    provider: str, *, redirect_uri: str, next_path: str, person: str, rng: RandomSource, now: float
) -> Attempt:
    state, nonce, verifier = (encode_b64u(rng.randbytes(32)) for _ in range(3))
    return Attempt(provider, state, nonce, verifier, redirect_uri, next_path, person, now)


def seal_attempt(attempt: Attempt, key: WrappingKey) -> str:
    """For a cookie."""
    return encode_b64u(key.wrap(_ATTEMPT, json.dumps(asdict(attempt)).encode()))


def open_attempt(sealed: bytes, key: WrappingKey, state: str, now: float) -> Attempt | None:
    """None for what is not ours, too old, or of another state."""
    plain = key.unwrap(_ATTEMPT, sealed)
    if plain is None:
        return None
    attempt = Attempt(**json.loads(plain))
    fresh = 0 <= now - attempt.began_at <= ATTEMPT_AGE
    same = hmac.compare_digest(attempt.state.encode(), state.encode("utf-8", "replace"))
    return attempt if fresh and same else None


def authorization_url(metadata: Metadata, client_id: str, attempt: Attempt) -> str:
    """Where the browser is sent."""
    challenge = encode_b64u(hashlib.sha256(attempt.verifier.encode()).digest())
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": attempt.redirect_uri,
            "scope": "openid email profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    joint = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
    return f"{metadata.authorization_endpoint}{joint}{query}"


def token_request(
    metadata: Metadata, client_id: str, client_secret: str | None, attempt: Attempt, code: str
) -> tuple[dict[str, str], bytes]:
    """The headers and the body by which a code becomes tokens (RFC 6749 §4.1.3 and §2.3.1)."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": attempt.redirect_uri,
        "code_verifier": attempt.verifier,
    }
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if client_secret is not None and metadata.basic_auth:
        pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = client_id
        if client_secret is not None:
            form["client_secret"] = client_secret
    return headers, urlencode(form).encode()


def read_token_answer_untrusted(data: bytes) -> str:
    """The ID token. Raises ProviderFault."""
    token = _read_object(data, "its answer to the code").get("id_token")
    if not isinstance(token, str) or not token.isascii() or len(token) > MAX_TOKEN:
        raise ProviderFault("its answer to the code has no ID token: is `openid` allowed for this client?")
    return token


def check_id_token_untrusted(
    token: str, keys: KeySet, metadata: Metadata, *, client_id: str, nonce: str, now: float
) -> Claims:
    """OpenID Connect Core 1.0 §3.1.3.7. Raises ProviderFault; UnknownKey when other keys may help."""
    try:
        claims: Mapping[str, Any] = jwt.decode(token, keys, algorithms=list(metadata.algorithms)).claims
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise UnknownKey("its ID token is not signed by a key of its own") from error
    if claims.get("iss") != metadata.issuer:
        raise ProviderFault("its ID token is of another issuer")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if client_id not in named:
        raise ProviderFault("its ID token is meant for another client")
    if claims.get("azp", client_id) != client_id or (len(named) > 1 and "azp" not in claims):
        raise ProviderFault("its ID token was made for another client")
    told = claims.get("nonce")
    if not isinstance(told, str) or not hmac.compare_digest(told.encode(), nonce.encode()):
        raise ProviderFault("its ID token is not of this sign-in")
    expires_at, issued_at = claims.get("exp"), claims.get("iat")
    if not _is_number(expires_at) or now >= expires_at + LEEWAY:
        raise ProviderFault("its ID token has expired: do its clock and ours agree?")
    if not _is_number(issued_at) or issued_at > now + LEEWAY:
        raise ProviderFault("its ID token is from the future: do its clock and ours agree?")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
        raise ProviderFault("its ID token does not say who signed in")
    email = claims.get("email") if claims.get("email_verified") is True else None
    return Claims(subject, _text(email), _text(claims.get("preferred_username")))


def _read_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ProviderFault(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise ProviderFault(f"{what} is not a JSON object")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 1 <= len(value) <= 255 else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
