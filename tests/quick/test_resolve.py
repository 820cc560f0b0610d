"""Names of endpoints: looked up once each, again while there is no name service, not after a clear no."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest
import trio.socket
import trio.testing

from wgpy.addresses import Endpoint
from wgpy.config import NamedEndpoint, PeerConfig, TunnelConfig
from wgpy.errors import ConfigError, HostError
from wgpy.keys import PublicKey
from wgpy.quick.resolve import TRIES, resolve_endpoints


class Names(trio.abc.HostnameResolver):
    """A name service; `fail` are the answers it gives before it works."""

    def __init__(self, *fail: int) -> None:
        self.fail = list(fail)
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, *rest: Any, **options: Any) -> list[Any]:
        self.asked.append(host.decode())
        if self.fail:
            raise socket.gaierror(self.fail.pop(0), "no")
        if host == b"six.example":
            return [(socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("fe80::1%lo", port, 0, 1))]
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks")


async def resolve(names: Names, *hosts: str) -> tuple[dict[NamedEndpoint, Endpoint], list[str]]:
    said: list[str] = []
    peers = [
        PeerConfig(PublicKey(bytes([n] * 32)), endpoint=NamedEndpoint(host, 7), line=10 + n)
        for n, host in enumerate(hosts)
    ]
    peers.append(PeerConfig(PublicKey(bytes([99] * 32)), endpoint=Endpoint(ip_address("192.0.2.9"), 1)))
    before = trio.socket.set_custom_hostname_resolver(names)
    try:
        return await resolve_endpoints(TunnelConfig(peers=peers), "home.conf", said.append), said
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def test_each_name_is_looked_up_once() -> None:
    names = Names()
    found, said = await resolve(names, "four.example", "six.example", "four.example")
    assert found == {
        NamedEndpoint("four.example", 7): Endpoint(ip_address("192.0.2.1"), 7),
        NamedEndpoint("six.example", 7): Endpoint(ip_address("fe80::1"), 7, 1),
    }
    assert names.asked == ["four.example", "six.example"]
    assert said == []


async def test_a_name_service_that_is_not_there_yet_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = Names(socket.EAI_AGAIN, socket.EAI_AGAIN)
    found, said = await resolve(names, "four.example")
    assert len(found) == 1
    assert len(said) == 2
    assert said[0] == "cannot look up four.example yet (no); trying again in 1 s"


async def test_one_that_never_comes_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    names = Names(*[socket.EAI_AGAIN] * 99)
    with pytest.raises(HostError, match=r"^cannot look up four\.example: no$"):
        await resolve(names, "four.example")
    assert len(names.asked) == TRIES
    assert 30 < trio.current_time() < 90


async def test_a_name_that_is_none_is_the_files_mistake() -> None:
    names = Names(socket.EAI_NONAME)
    with pytest.raises(
        ConfigError, match=r"^home\.conf:10: an endpoint's name has an address; four\.example"
    ):
        await resolve(names, "four.example")
    assert len(names.asked) == 1
