"""What the coordinator refuses, and how a refusal looks from outside: a status, a word for a program, a
sentence.
"""

from __future__ import annotations

from typing import Final

STATUS: Final[dict[str, int]] = {
    "malformed": 400,
    "wire_version": 400,
    "challenge_expired": 400,
    "unauthorized": 401,
    "session_expired": 401,
    "bad_signature": 403,
    "cross_site": 403,
    "forbidden": 403,
    "kept_out": 403,
    "not_admitted": 403,
    "setup_link": 403,
    "client_link": 403,
    "sign_in_lost": 403,
    "token_unknown": 403,
    "wrong_password": 403,
    "token_used": 403,
    "token_expired": 403,
    "token_revoked": 403,
    "needs_approval": 403,
    "not_keyless": 403,
    "join_refused": 403,
    "wrong_code": 403,
    "node_unknown": 404,
    "join_unknown": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "key_in_use": 409,
    "last_admin": 409,
    "set_up": 409,
    "taken": 409,
    "name_in_use": 409,
    "address_in_use": 409,
    "network_full": 409,
    "range_in_use": 409,
    "not_ready": 409,
    "record_mismatch": 409,
    "changed": 412,
    "too_large": 413,
    "reused_key": 422,
    "needs_if_match": 428,
    "rate_limited": 429,
    "too_many_joins": 429,
    "internal": 500,
    "provider_failed": 502,
    "busy": 503,
    "unavailable": 503,
    "disk_full": 507,
}
"""The HTTP status of each code that a refusal may carry."""


class Refusal(Exception):
    """A request that is answered with `application/problem+json`.

    `detail` is shown to whoever asked: one sentence, never a secret. `extra` are further members of the
    problem (`removed` carries the signed frame that lets a removed node forget).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        extra: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.code = code
        self.status = STATUS[code]
        self.detail = detail
        self.extra = extra or {}
        self.headers = headers or {}
        super().__init__(f"{code}: {detail}")
