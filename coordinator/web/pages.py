"""Serving the page: each of its addresses gives the same document, whose modules look at the address.

The files are read once, and sent with a policy under which a browser runs nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: this origin's files alone; nothing inline or of a third party, in no frame."""

HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked again each time, and answered with 304
}

PATHS: Final = (
    "/", "/setup", "/sign-in", "/networks/{rest:path}", "/join/{rest:path}", "/audit", "/people", "/settings",
)  # fmt: skip
"""What a person may type or follow."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page as it is sent."""

    content: bytes
    packed: bytes
    media_type: str
    etag: str


def _read_files() -> dict[str, StaticFile]:
    found = {}
    for entry in (resources.files(__package__) / "static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            found[entry.name] = StaticFile(content, gzip.compress(content, mtime=0), kind, etag)
    return found


_files: Final = _read_files()


def _send(request: Request, file: StaticFile) -> Response:
    headers = HEADERS | {"etag": file.etag, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(None, 304, headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, 200, headers | {"content-encoding": "gzip"}, file.media_type)
    return Response(file.content, 200, headers, file.media_type)


async def page(request: Request) -> Response:
    """The document."""
    return _send(request, _files["index.html"])


async def static(request: Request) -> Response:
    """One of the page's files."""
    file = _files.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    return _send(request, file)
