"""The command line's way to the coordinator: the same HTTPS API, on one connection whose other end has proven
itself.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

from coordinator.state_dir import AdminFile, StateDir
from wgpy.errors import CoordinatorError, InvalidMessage, StateError
from wgpy.mesh.encoding import MalformedMessage, decode_json, encode_b64u
from wgpy.mesh.spki import leaf_hash_untrusted
from wgpy.mesh.wire import Identity

TIMEOUT: Final = 15.0
MAX_ANSWER_SIZE: Final = 64 * 1024 * 1024
REWRITES: Final = 5
"""Times that a change is tried when somebody else makes one at the same time."""


class AdminClient:
    """Use as a context manager. The key is sent once identity and leaf were checked on this connection."""

    def __init__(self, admin: AdminFile) -> None:
        self._admin = admin
        parts = urlsplit(admin.url)
        self._connection: http.client.HTTPConnection
        if parts.scheme == "http":
            self._connection = http.client.HTTPConnection(
                parts.hostname or "", parts.port or 80, timeout=TIMEOUT
            )
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the identity key speaks for the leaf, see _check_identity
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=TIMEOUT, context=context
        )

    def __enter__(self) -> Self:
        """Raises CoordinatorError."""
        if not isinstance(self._connection, http.client.HTTPSConnection) and not _is_loopback(
            self._connection.host
        ):
            raise CoordinatorError(
                f"{self._admin.url} has no TLS and is not on this host: run this where the coordinator runs"
            )
        try:
            self._connection.connect()
            self._check_identity()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise self._unreachable(error) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def _unreachable(self, error: Exception) -> CoordinatorError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return CoordinatorError(
            f"cannot reach the coordinator at {self._admin.url} ({reason}): is the coordinator running? "
            "Start it with `wgpy coordinator serve`",
            code="unreachable",
        )

    def _check_identity(self) -> None:
        tls = self._connection.sock
        certificate = (tls.getpeercert(binary_form=True) or b"") if isinstance(tls, ssl.SSLSocket) else None
        self._connection.request("GET", "/v1/identity")
        response = self._connection.getresponse()
        status, body = response.status, response.read(MAX_ANSWER_SIZE)
        if status == 429:
            raise self._refused(status, _json_or_none(body))
        try:
            identity = Identity.from_json(decode_json(body, MAX_ANSWER_SIZE))
            leaf = None if certificate is None else leaf_hash_untrusted(certificate)
        except (MalformedMessage, InvalidMessage):
            raise CoordinatorError(
                f"{self._admin.url} answers (HTTP {status}), but not as a coordinator: does another program "
                "have its port?"
            ) from None
        genuine = encode_b64u(identity.identity.hash) == self._admin.identity and identity.verify()
        if not genuine or (leaf is not None and leaf not in identity.leaves):
            raise CoordinatorError(
                f"{self._admin.url} is not the coordinator of this state directory: does another one "
                "have its port, or was admin.json copied?",
                code="identity_mismatch",
            )

    def _ask(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        self._connection.request(
            method, target, body, headers | {"Authorization": f"Bearer {self._admin.key}"}
        )
        return self._connection.getresponse()

    def call(
        self,
        method: str,
        *path: str,
        body: dict[str, object] | None = None,
        if_match: str | None = None,
        query: Mapping[str, str | int | None] = {},
    ) -> Any:
        """One request below /v1/admin; `path` are its parts → the JSON of the answer.

        Raises CoordinatorError with what the coordinator says, when it refuses.
        """
        headers = {} if if_match is None else {"If-Match": if_match}
        return self._exchange(method, _target(path, query), body, headers)[0]

    def rewrite(
        self,
        *path: str,
        change: Callable[[Any], dict[str, object]],
        query: Mapping[str, str | int | None] = {},
    ) -> Any:
        """Read what is there, and put what `change` makes of it in its place, unless somebody else was
        faster: then once more, of what they wrote. `query` is that of the writing. Raises CoordinatorError,
        and what `change` raises.
        """
        target, written = _target(path, {}), _target(path, query)
        for _ in range(REWRITES):
            value, etag = self._exchange("GET", target, None)
            try:
                return self._exchange("PUT", written, change(value), {"If-Match": etag})[0]
            except CoordinatorError as error:
                if error.code != "changed":
                    raise
                refused = error
        raise refused

    def _exchange(
        self, method: str, target: str, body: dict[str, object] | None, headers: Mapping[str, str] = {}
    ) -> tuple[Any, str]:
        """The JSON of the answer, and its ETag ("": none). Raises CoordinatorError."""
        data = None if body is None else json.dumps(body).encode()
        try:
            response = self._ask(method, target, data, {"Content-Type": "application/json", **headers})
            status, answer = response.status, response.read(MAX_ANSWER_SIZE)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        value = _json_or_none(answer)
        if 200 <= status < 300 and value is not None:
            return value, response.headers.get("etag", "")
        raise self._refused(status, value)

    def download(self, *path: str, query: Mapping[str, str | int | None] = {}) -> Iterator[bytes]:
        """The answer of a GET below /v1/admin as it comes in, however long it is. Raises CoordinatorError."""
        try:
            response = self._ask("GET", _target(path, query), None, {})
            if response.status != 200:
                raise self._refused(response.status, _json_or_none(response.read(MAX_ANSWER_SIZE)))
            while piece := response.read(64 * 1024):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _refused(self, status: int, value: object) -> CoordinatorError:
        problem = value if isinstance(value, dict) else {}
        detail = str(problem.get("detail", f"it answered HTTP {status}"))
        return CoordinatorError(detail, code=str(problem.get("code", "")), status=status)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _target(path: tuple[str, ...], query: Mapping[str, str | int | None]) -> str:
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return "/".join(["/v1/admin", *(quote(part, safe="") for part in path)]) + (f"?{asked}" if asked else "")


def _json_or_none(data: bytes) -> object:
    try:
        return decode_json(data, MAX_ANSWER_SIZE)
    except MalformedMessage:
        return None


def open_client(state: StateDir) -> AdminClient:
    """The client for the coordinator of this state directory. Raises StateError when there was never one."""
    admin = state.read_admin_file()
    if admin is None:
        raise StateError(
            f"no coordinator has run on {state.path} (it has no admin.json): start one with "
            "`wgpy coordinator serve`, or name its directory with --state-dir"
        )
    return AdminClient(admin)
