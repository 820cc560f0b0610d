"""Serving the page: each of its addresses gives the same document, whose modules look at the address.

The files are read once, and sent with a policy under which a browser runs nothing else. The document names
them below a version, which is a hash of them all: what a browser has of one it need not ask for again.
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

from coordinator.api.edge import takes_gzip

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
    "/", "/setup", "/sign-in", "/client", "/networks/{rest:path}", "/join/{rest:path}", "/audit", "/people",
    "/settings",
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
VERSION: Final = hashlib.sha256("".join(sorted(file.etag for file in _files.values())).encode()).hexdigest()[
    :16
]
FOR_EVER: Final = "public, max-age=31536000, immutable"


def _document() -> StaticFile:
    """With the files of this version, all of which are asked for at once."""
    modules = sorted(name for name in _files if name.endswith(".js"))
    preload = "\n  ".join(f'<link rel="modulepreload" href="/static/{name}">' for name in modules)
    text = _files["index.html"].content.decode().replace("</head>", f"  {preload}\n</head>")
    content = text.replace('"/static/', f'"/static/{VERSION}/').encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    return StaticFile(content, gzip.compress(content, mtime=0), _TYPES["html"], etag)


_page: Final = _document()


def _send(request: Request, file: StaticFile, cache: str = HEADERS["cache-control"]) -> Response:
    headers = HEADERS | {"etag": file.etag, "vary": "accept-encoding", "cache-control": cache}
    if request.headers.get("if-none-match") == file.etag:
        return Response(None, 304, headers)
    if takes_gzip(request):
        return Response(file.packed, 200, headers | {"content-encoding": "gzip"}, file.media_type)
    return Response(file.content, 200, headers, file.media_type)


async def page(request: Request) -> Response:
    """The document."""
    return _send(request, _page)


async def static(request: Request) -> Response:
    """One of the page's files. Of another version, which a document of another process may name, it is ours
    for the moment.
    """
    file = _files.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    is_ours = request.path_params.get("version") == VERSION
    return _send(request, file, FOR_EVER if is_ours else HEADERS["cache-control"])
