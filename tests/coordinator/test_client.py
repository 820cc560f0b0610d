"""What the command line says of a coordinator that does not want to answer, and of what is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from coordinator.client import AdminClient
from coordinator.state_dir import AdminFile
from wgpy.errors import CoordinatorError


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that has one answer to all; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (429, b'{"code":"rate_limited","detail":"too many requests: wait a little"}', "wait a little"),
        (429, b"", "it answered HTTP 429"),
        (200, b"<html>", r"\(HTTP 200\), but not as a coordinator: does another program"),
        (500, b"{}", "not as a coordinator"),
    ],
)
def test_what_it_says_instead_of_who_it_is(status: int, body: bytes, said: str) -> None:
    with (
        answering(status, body) as url,
        pytest.raises(CoordinatorError, match=said),
        AdminClient(AdminFile(url, "", "")),
    ):
        pass
