"""TCP through the proxy of the environment: which one, and CONNECT as RFC 9110 has it, on real sockets."""

from __future__ import annotations

import base64

import pytest
import trio

from wgpy.agent.proxy import open_tcp, proxy_for


@pytest.mark.parametrize(
    ("environment", "host", "proxy"),
    [
        ({}, "a.example", None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "a.example", "proxy.example:3128"),
        ({"https_proxy": "proxy.example:1", "HTTPS_PROXY": "http://other:2"}, "a.example", "proxy.example:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example,a.example"}, "a.example", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, "a.example", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ample"}, "a.example", "p:1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "192.0.2.0/24"}, "192.0.2.9", None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, "a.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "127.0.0.1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "localhost", None),
        ({"HTTPS_PROXY": "socks5://p:1"}, "a.example", None),
    ],
)
def test_which_proxy_a_host_is_reached_by(environment: dict[str, str], host: str, proxy: str | None) -> None:
    found = proxy_for(host, environment)
    assert (None if found is None else f"{found.hostname}:{found.port}") == proxy


class Proxy:
    """Answers CONNECT with `answer`, and what follows with its echo."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = b""

    async def serve(self, stream: trio.SocketStream) -> None:
        while not self.asked.endswith(b"\r\n\r\n"):
            chunk = await stream.receive_some()
            if not chunk:
                return
            self.asked += chunk
        await stream.send_all(self.answer)
        async for data in stream:
            await stream.send_all(data)


async def test_a_connection_is_asked_for_with_the_credentials_of_the_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = Proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        port = listener.socket.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://alice:s%40cret@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with await open_tcp("2001:db8::1", 443) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        assert proxy.asked.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")
        assert base64.b64encode(b"alice:s@cret") in proxy.asked
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP 407"),
        (b"x" * 9000, "closed"),
        (b"\r\n\r\n", "nothing"),
    ],
)
async def test_a_refusal_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, words: str
) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, Proxy(answer).serve, [listener])
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(OSError, match=words):
            await open_tcp("a.example", 443)
        nursery.cancel_scope.cancel()
