"""The path machine on a device: what it is told of a handshake that begins."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.mesh.examples import node_id
from wgpy.addresses import Endpoint
from wgpy.agent.paths import Paths
from wgpy.clock import boottime
from wgpy.keys import PublicKey
from wgpy.mesh.frames import Presence, PresenceFrame
from wgpy.mesh.probe import encode_pong, parse_probe_untrusted
from wgpy.protocol.actions import Control, CurrentKeypair, Facts, Origin, PeerId

BOB, KEY = node_id(2), PublicKey(bytes(range(32)))
USED, OTHER = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (7, 8))
FRESH = Facts(None, None, None, None, None, 0, CurrentKeypair(1, 0.0, True, may_send=True))
OVER = dataclasses.replace(FRESH, current=CurrentKeypair(1, 0.0, True, may_send=False))


class Engine:
    """As far as paths ask it."""

    def __init__(self) -> None:
        self.now = FRESH
        self.control: list[tuple[Endpoint, bytes]] = []
        self.copies: list[Endpoint] = []

    def facts(self, _peer: int) -> Facts:
        return self.now

    def send_control(self, _peer: int, path: Origin, data: bytes) -> None:
        self.control.append((path.remote, data))

    def send_datagram(self, _data: bytes, to: Endpoint) -> None:
        self.copies.append(to)

    def set_path_mtu(self, _peer: int, _mtu: int | None) -> None:
        pass


@pytest.mark.parametrize(("facts", "copies"), [(FRESH, []), (OVER, [OTHER])])
def test_a_handshake_after_the_keys_are_over_goes_everywhere_and_a_rekey_in_good_time_does_not(
    facts: Facts, copies: list[Endpoint]
) -> None:
    """As after a night's sleep: the path that was proven then may be of a network that is far away."""
    engine, peer = Engine(), SimpleNamespace(id=1, path_control=None)
    interface = SimpleNamespace(peers={KEY: peer}, set_path_control=lambda *_: None)
    device = SimpleNamespace(engine=engine, interface=interface, mtu=1380, on_control=None)
    relays = SimpleNamespace(endpoints=lambda _: (), leaving=lambda _: ())
    link = SimpleNamespace(use_path=lambda *_: None, initiate=lambda *_: None)
    paths = Paths(cast(Any, device), cast(Any, link), cast(Any, relays), lambda: None)
    paths.sync({BOB: KEY})
    paths.handle_presence(PresenceFrame(True, {BOB: Presence((USED, OTHER), True)}))
    paths.initiation_sent(cast(Any, peer), b"one", boottime())
    paths.session_begun(cast(Any, peer), boottime())
    [ping] = [data for to, data in engine.control if to == USED]
    probe = parse_probe_untrusted(ping)
    assert probe is not None
    paths._handle_control(Control(PeerId(1), Origin(USED), encode_pong(probe.id)))
    engine.copies.clear()
    engine.now = facts
    paths.initiation_sent(cast(Any, peer), b"two", boottime())
    assert engine.copies == copies
