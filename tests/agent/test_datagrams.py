"""Who gets what comes to the tunnel's sockets and is not WireGuard."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from wgpy.addresses import Endpoint
from wgpy.agent.datagrams import Datagrams
from wgpy.engine import DatagramFilter
from wgpy.mesh.stun import encode_binding_request
from wgpy.protocol.actions import Origin, OtherDatagram

RELAY = Endpoint.parse("198.51.100.1:443")
TRANSACTION = bytes(range(12))


class Host:
    def __init__(self) -> None:
        self.expected: list[DatagramFilter] = []
        self.device: Any = SimpleNamespace(
            engine=SimpleNamespace(expect=self.expected.append), on_other_datagram=None
        )
        self.datagrams = Datagrams(self.device)
        self.taken: list[tuple[str, bytes]] = []

    def take(self, who: str) -> Callable[[OtherDatagram], None]:
        return lambda datagram: self.taken.append((who, datagram.data))

    def receive(self, data: bytes) -> None:
        self.device.on_other_datagram(OtherDatagram(data, Origin(RELAY)))


def test_a_stun_answer_of_a_relay_goes_to_who_asked_and_all_else_to_the_relay_s() -> None:
    for first in ("relays", "stun"):
        host, answer = Host(), encode_binding_request(TRANSACTION)
        for asker in dict.fromkeys((first, "relays", "stun")):
            wanted = (
                DatagramFilter(remotes=frozenset({RELAY}))
                if asker == "relays"
                else DatagramFilter(frozenset({TRANSACTION}))
            )
            host.datagrams.expect(asker, wanted, host.take(asker))
        host.receive(answer)
        host.receive(b"\xd7" * 40)
        assert host.taken == [("stun", answer), ("relays", b"\xd7" * 40)]


def test_the_engine_is_told_of_all_together_and_only_of_changes() -> None:
    host = Host()
    for _ in range(2):
        host.datagrams.expect("relays", DatagramFilter(remotes=frozenset({RELAY})), host.take("relays"))
    host.datagrams.expect("stun", DatagramFilter(frozenset({TRANSACTION})), host.take("stun"))
    assert host.expected == [
        DatagramFilter(remotes=frozenset({RELAY})),
        DatagramFilter(frozenset({TRANSACTION}), frozenset({RELAY})),
    ]
