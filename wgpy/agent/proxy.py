"""TCP to a host, through the HTTP proxy that the environment names, if it names one."""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import trio

from wgpy.agent import marked

_MAX_ANSWER: Final = 8192
_DEFAULT_PORT: Final = 8080


def proxy_for(host: str, environment: Mapping[str, str]) -> SplitResult | None:
    """The proxy of `HTTPS_PROXY` (or `https_proxy`, which wins), unless `NO_PROXY` names the host or a domain
    above it, or the host is loopback.
    """
    text = environment.get("https_proxy") or environment.get("HTTPS_PROXY") or ""
    if not text or _is_loopback(host):
        return None
    excluded = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for each in filter(None, (part.strip().lstrip(".") for part in excluded.split(","))):
        if each in ("*", host) or host.endswith("." + each) or _is_within(host, each):
            return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    return parts if parts.scheme == "http" and parts.hostname else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_within(host: str, text: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """Connect, by `CONNECT` where there is a proxy. Raises OSError."""
    proxy = proxy_for(host, os.environ)
    if proxy is None:
        return await marked.open_tcp(host, port)
    stream = await marked.open_tcp(proxy.hostname or "", proxy.port or _DEFAULT_PORT)
    try:
        await _connect(stream, proxy, host, port)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _connect(stream: trio.SocketStream, proxy: SplitResult, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
    await stream.send_all("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    # One octet at a time: what follows the empty line is TLS already.
    while not answer.endswith(b"\r\n\r\n"):
        octet = bytes(await stream.receive_some(1))
        if not octet or len(answer) >= _MAX_ANSWER:
            raise ConnectionError(f"the proxy {proxy.hostname} closed the connection")
        answer += octet
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        shown = status[0].decode("ascii", "replace")[:3] if status else "nothing"
        raise ConnectionError(f"the proxy {proxy.hostname} refused the connection (HTTP {shown})")
