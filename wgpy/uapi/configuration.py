"""Applying the operations of one `set` request to a device, each as it comes."""

from __future__ import annotations

import errno
from typing import Final, Protocol

from wgpy.addresses import PackedPrefixes, Prefix
from wgpy.keys import PublicKey
from wgpy.protocol.actions import Engine
from wgpy.protocol.interface import Interface
from wgpy.protocol.peer import Peer
from wgpy.uapi.messages import (
    AddAllowedIp,
    DeviceOperation,
    Operation,
    PeerOperation,
    RemoveAllowedIp,
    RemovePeer,
    ReplaceAllowedIps,
    ReplacePeers,
    SelectPeer,
    SetEndpoint,
    SetFwmark,
    SetListenPort,
    SetPersistentKeepalive,
    SetPresharedKey,
    SetPrivateKey,
    SetProtocolVersion,
    UapiError,
    UpdateOnly,
)

BATCH: Final = 1000
"""Allowed IPs that are given to the engine together."""


class Configurable(Protocol):
    """What is configured: a Device."""

    @property
    def interface(self) -> Interface: ...

    @property
    def engine(self) -> Engine: ...

    def set_listen_port(self, port: int) -> None:
        """Raises OSError."""

    def set_fwmark(self, mark: int) -> None:
        """Raises OSError."""


class Configuration:
    """One request under way: `apply` each operation, `finish` at the end, also after an error.

    A peer is made by the first line that needs it, or by the end of its section; so `update_only` and
    `remove` of a peer that is not there make none. A section whose peer is gone, removed here or by another
    request, is read on without effect.
    """

    def __init__(self, device: Configurable) -> None:
        self._device = device
        self._section: _Section | None = None

    def apply(self, operation: Operation, now: float) -> None:
        """Raises UapiError."""
        match operation:
            case SelectPeer(public_key):
                self.finish(now)
                self._section = _Section(self._device, public_key)
            case SetPrivateKey() | SetListenPort() | SetFwmark() | ReplacePeers():
                self.finish(now)
                self._apply_to_device(operation, now)
            case _:
                if self._section is None:
                    raise UapiError(errno.EINVAL, "a peer's setting comes after its public key")
                self._section.apply(operation, now)

    def _apply_to_device(self, operation: DeviceOperation, now: float) -> None:
        match operation:
            case SetPrivateKey(key):
                self._device.interface.set_private_key(key, now)
            case ReplacePeers():
                self._device.interface.remove_all_peers(now)
            case SetListenPort(port):
                try:
                    self._device.set_listen_port(port)
                except OSError as error:
                    raise UapiError(errno.EADDRINUSE, f"listen_port {port}: {error.strerror}") from error
            case SetFwmark(mark):
                try:
                    self._device.set_fwmark(mark)
                except OSError as error:
                    raise UapiError(errno.EADDRINUSE, f"fwmark {mark}: {error.strerror}") from error

    def finish(self, now: float) -> None:
        """End the section that is open. Raises UapiError."""
        section, self._section = self._section, None
        if section is not None:
            section.finish(now)


class _Section:
    """What a request says of one peer."""

    def __init__(self, device: Configurable, public_key: PublicKey) -> None:
        self._interface = device.interface
        self._engine = device.engine
        self._public_key = public_key
        self._existed = public_key in device.interface.peers
        self._peer = device.interface.peers.get(public_key)
        self._is_void = public_key == device.interface.public_key
        self._keepalive: int | None = None
        self._to_add: list[Prefix] = []
        self._to_remove: set[tuple[bytes, int]] = set()
        """Allowed IPs, packed, from before `replace_allowed_ips` that have not been named again."""

    def apply(self, operation: PeerOperation, now: float) -> None:
        if self._is_void:
            return
        match operation:
            case SetProtocolVersion():
                pass
            case RemovePeer():
                self._interface.remove_peer(self._public_key, now)
                self._is_void = True
            case UpdateOnly():
                if not self._existed:
                    self._interface.remove_peer(self._public_key, now)
                    self._is_void = True
            case SetPersistentKeepalive(seconds):
                # Applied at the end: one that begins now wants the endpoint that may follow.
                self._keepalive = seconds
            case _:
                peer = self._make_peer(now)
                if peer is not None:
                    self._set(peer, operation, now)

    def _make_peer(self, now: float) -> Peer | None:
        """Raises UapiError when there are too many."""
        if self._peer is None:
            try:
                self._peer = self._interface.add_peer(self._public_key, now)
            except ValueError as error:
                self._is_void = True
                raise UapiError(errno.EINVAL, str(error)) from error
        if self._peer is None or self._interface.peers.get(self._public_key) is not self._peer:
            self._is_void = True
            return None
        return self._peer

    def _set(self, peer: Peer, operation: PeerOperation, now: float) -> None:
        match operation:
            case SetPresharedKey(key):
                self._interface.set_preshared_key(peer, key, now)
            case SetEndpoint(endpoint):
                self._interface.set_endpoint(peer, endpoint, now)
            case ReplaceAllowedIps():
                self._to_add.clear()
                self._to_remove = set(PackedPrefixes.of(self._engine.allowed_ips(peer.id)).packed)
            case AddAllowedIp(prefix):
                # One that the peer has stays as it is: traffic under it is never without a peer. One that it
                # had may be another's by now, by this request or one beside it.
                self._to_remove.discard((prefix.network_address.packed, prefix.prefixlen))
                self._to_add.append(prefix)
                if len(self._to_add) >= BATCH:
                    self._add_allowed_ips(peer, now)
            case RemoveAllowedIp(prefix):
                self._add_allowed_ips(peer, now)
                self._interface.remove_allowed_ips(peer, [prefix], now)

    def _add_allowed_ips(self, peer: Peer, now: float) -> None:
        self._interface.add_allowed_ips(peer, self._to_add, now)
        self._to_add.clear()

    def finish(self, now: float) -> None:
        if self._is_void or (peer := self._make_peer(now)) is None:
            return
        if self._to_add:
            self._add_allowed_ips(peer, now)
        if self._to_remove:
            self._interface.remove_allowed_ips(peer, PackedPrefixes(list(self._to_remove)), now)
        if self._keepalive is not None:
            self._interface.set_persistent_keepalive(peer, self._keepalive, now)
        if self._interface.is_up and self._engine.facts(peer.id).staged:
            # What waits goes now if there is a key; if not, one is asked for, perhaps of a new endpoint.
            self._engine.send_keepalive(peer.id)
