"""An engine that moves nothing: it writes down what it is told, and says of a peer what a test tells it to
say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from wgpy.addresses import Endpoint, Prefix
from wgpy.protocol.actions import CurrentKeypair, Fact, Facts, Origin, PeerId, PeerSnapshot

NOTHING = Facts(None, None, None, None, None, 0, None)


class RecordingEngine:
    """Commands land in `calls` as (name, arguments…); reads are not recorded."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.peer_facts: dict[PeerId, Facts] = {}
        self.now = 0.0
        """Stamped on what is sent."""
        self._ids = 0
        self._indices = 100

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def told(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each such command."""
        return [call[1:] for call in self.calls if call[0] == name]

    def set_facts(self, peer: PeerId, **facts: float | int | CurrentKeypair | None) -> None:
        self.peer_facts[peer] = replace(self.facts(peer), **facts)  # type: ignore[arg-type]

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self.calls.append(("set_identity", mac1_key, cookie_key))

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self.calls.append(("set_previous_identity", mac1_key, cookie_key))

    def add_peer(self) -> PeerId:
        self._ids += 1
        return PeerId(self._ids)

    def remove_peer(self, peer: PeerId) -> None:
        self.calls.append(("remove_peer", peer))

    def add_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        self.calls.append(("add_allowed_ips", peer, list(prefixes)))

    def remove_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        self.calls.append(("remove_allowed_ips", peer, list(prefixes)))

    def allowed_ips(self, peer: PeerId) -> Sequence[Prefix]:
        return []

    def set_endpoint(self, peer: PeerId, endpoint: Endpoint | None) -> None:
        self.calls.append(("set_endpoint", peer, endpoint))

    def forget_source(self, peer: PeerId | None) -> None:
        self.calls.append(("forget_source", peer))

    def forget_sources_at(self, interface_index: int) -> None:
        self.calls.append(("forget_sources_at", interface_index))

    def set_roaming(self, peer: PeerId, follow: bool) -> None:
        self.calls.append(("set_roaming", peer, follow))

    def set_paths(self, peer: PeerId, primary: Origin | None, also: Sequence[Origin] = ()) -> None:
        self.calls.append(("set_paths", peer, primary, also))

    def set_path_mtu(self, peer: PeerId, mtu: int | None) -> None:
        self.calls.append(("set_path_mtu", peer, mtu))

    def set_relay(self, number: int, remote: Endpoint | None, session: int = 0) -> None:
        self.calls.append(("set_relay", number, remote, session))

    def reserve_index(self, peer: PeerId) -> int:
        self._indices += 1
        self.calls.append(("reserve_index", self._indices))
        return self._indices

    def release_index(self, index: int) -> None:
        self.calls.append(("release_index", index))

    def send_handshake(self, peer: PeerId, data: bytes) -> bool:
        self.calls.append(("send_handshake", peer, data))
        self.set_facts(peer, authenticated_sent_last=self.now)
        return True

    def send_datagram(self, data: bytes, to: Endpoint, source: Origin | None = None) -> None:
        self.calls.append(("send_datagram", data, to, source))

    def handshake_accepted(self, peer: PeerId, origin: Origin, length: int, seq: int) -> None:
        self.calls.append(("handshake_accepted", peer, origin, length, seq))

    def begin_session(self, peer: PeerId, **session: Any) -> None:
        self.calls.append(("begin_session", peer, session))

    def expire_keypairs(self, peer: PeerId) -> None:
        self.calls.append(("expire_keypairs", peer))

    def wipe_keypairs(self, peer: PeerId) -> None:
        self.calls.append(("wipe_keypairs", peer))

    def drop_staged(self, peer: PeerId) -> None:
        self.calls.append(("drop_staged", peer))

    def send_keepalive(self, peer: PeerId) -> None:
        self.calls.append(("send_keepalive", peer))
        self.set_facts(
            peer, authenticated_sent_last=self.now, data_received_first=None, data_received_last=None
        )

    def send_control(self, peer: PeerId, path: Origin | None, data: bytes) -> None:
        self.calls.append(("send_control", peer, path, data))

    def facts(self, peer: PeerId) -> Facts:
        return self.peer_facts.get(peer, NOTHING)

    def watch(self, peer: PeerId, mask: Fact) -> None:
        self.calls.append(("watch", peer, mask))

    def snapshot(self) -> Sequence[PeerSnapshot]:
        return []
