"""The native engine: threads of Rust own the packets, here its commands and events get the core's words.

Linux only. Nothing here runs for a packet. A command returns when no batch of packets is under way that has
not seen its effect; events are behind one descriptor that trio waits on.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import trio

from wgpy import _engine
from wgpy.addresses import Endpoint, PackedPrefixes, Prefix
from wgpy.engine import DatagramFilter, cipher
from wgpy.engine.tuples import from_endpoint, from_origin, to_endpoint, to_origin
from wgpy.errors import ConfigError
from wgpy.protocol.actions import (
    Control,
    CurrentKeypair,
    EngineFailed,
    Event,
    Fact,
    Facts,
    HandshakeMessage,
    Origin,
    OtherDatagram,
    PeerId,
    PeerSnapshot,
    PeerWork,
    Work,
)

logger = logging.getLogger(__name__)

OFFLOADS: Final = ("vnet", "tso", "uso", "gso", "gro")
"""Virtio headers on the TUN; TCP and UDP superpackets through it; many datagrams by one send, one receive."""

SMALL_MIB: Final = 8
"""What `small` stands for: the profile of routers."""
SMALL_HOST_MIB: Final = 256
"""A host with less memory has the small profile unless it is told otherwise."""

_USUAL_MIB: Final = 64
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What of an engine can be chosen. `without` names offloads it makes do without."""

    without: frozenset[str] = frozenset()
    memory_mib: int = _USUAL_MIB
    """Roughly what traffic may take at most, the kernel's queues for us included; routers have less."""

    @classmethod
    def from_environment(
        cls, environment: os._Environ[str] | dict[str, str], host_mib: int | None = None
    ) -> Self:
        """$WGPY_DISABLE_OFFLOADS is names with commas between, or `all`; $WGPY_OFFLOAD=0 means all, too.
        $WGPY_MEMORY is a number of MiB, or `small`. `host_mib` None: what this host has. Raises ConfigError.
        """
        listed = environment.get("WGPY_DISABLE_OFFLOADS", "").lower().replace(",", " ").split()
        if unknown := set(listed) - {*OFFLOADS, "all"}:
            raise ConfigError(
                f"WGPY_DISABLE_OFFLOADS is a list of {', '.join(OFFLOADS)} or all; got {min(unknown)!r}"
            )
        every = "all" in listed or environment.get("WGPY_OFFLOAD") == "0"
        return cls(frozenset(OFFLOADS if every else listed), _memory_mib(environment, host_mib))

    @property
    def staged_octets(self) -> int:
        """What waits for keys."""
        return min(self.memory_mib * _MIB // 4, 16 * _MIB)

    @property
    def socket_buffer(self) -> int:
        """What each of the sockets' queues is asked to hold; there are four."""
        return min(self.memory_mib * _MIB // 8, 7 * _MIB)


def _memory_mib(environment: os._Environ[str] | dict[str, str], host_mib: int | None) -> int:
    wanted = environment.get("WGPY_MEMORY", "").lower()
    if not wanted:
        if host_mib is None:
            host_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
        return SMALL_MIB if host_mib < SMALL_HOST_MIB else _USUAL_MIB
    if wanted == "small":
        return SMALL_MIB
    if not (wanted.isascii() and wanted.isdigit() and 4 <= int(wanted) <= 65536):
        raise ConfigError(f"WGPY_MEMORY is a number of MiB from 4 to 65536, or small; got {wanted!r}")
    return int(wanted)


class NativeDeviceEngine:
    """See `wgpy.engine.DeviceEngine`."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        without = settings.without
        self._engine = _engine.Engine(
            tso="tso" not in without,
            uso="uso" not in without,
            gso="gso" not in without,
            gro="gro" not in without,
            staged_octets=settings.staged_octets,
            socket_buffer=settings.socket_buffer,
        )
        self.wants_vnet_hdr: bool = "vnet" not in without
        self.listen_port = 0
        self._vnet_hdr = False
        self._is_open = False
        self._is_reported = False
        self._closed = trio.Event()

    @property
    def drops(self) -> Counter[str]:
        """Packets and datagrams dropped, by reason."""
        return Counter(dict(self._engine.drops()))

    def offloads(self) -> dict[str, bool]:
        """Which of OFFLOADS are in use: wanted, known to this kernel, and not given up."""
        return {"vnet": self._vnet_hdr, **dict(self._engine.offloads())}

    # --- life cycle ---

    def open(self, tun_fd: int, mtu: int, vnet_hdr: bool) -> None:
        self._engine.open(tun_fd, mtu, vnet_hdr)
        self._vnet_hdr = vnet_hdr
        self._is_open = True

    def bind(self, port: int, fwmark: int) -> int:
        self.listen_port = 0
        self.listen_port = self._engine.bind(port, fwmark)
        if self._is_open and not self._is_reported:
            self._is_reported = True
            found = [name for name, is_used in self.offloads().items() if is_used]
            logger.info("native engine, offloads: %s; cipher: %s", ", ".join(found) or "none", cipher()[0])
        return self.listen_port

    def unbind(self) -> None:
        self._engine.unbind()
        self.listen_port = 0

    def set_fwmark(self, mark: int) -> None:
        self._engine.set_fwmark(mark)

    def set_mtu(self, mtu: int) -> None:
        self._engine.set_mtu(mtu)

    def expect(self, datagrams: DatagramFilter) -> None:
        self._engine.expect(
            list(datagrams.stun_transactions), [from_endpoint(remote) for remote in datagrams.remotes]
        )

    def close(self) -> None:
        self._engine.close()
        self._is_open = False
        self.listen_port = 0
        self._closed.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if not self._closed.is_set():
            self._engine.start()
        task_status.started()
        await self._closed.wait()

    # --- events ---

    async def wait_events(self) -> None:
        await trio.lowlevel.wait_readable(self._engine.events_fileno())

    def drain_events(self) -> list[Event]:
        return [_event(each) for each in self._engine.drain_events()]

    # --- the seam's commands ---

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._engine.set_identity(mac1_key, cookie_key)

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._engine.set_previous_identity(mac1_key, cookie_key)

    def add_peer(self) -> PeerId:
        return PeerId(self._engine.add_peer())

    def remove_peer(self, peer: PeerId) -> None:
        self._engine.remove_peer(peer)

    def add_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        self._engine.add_allowed_ips(peer, list(PackedPrefixes.of(prefixes).packed))

    def remove_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        self._engine.remove_allowed_ips(peer, list(PackedPrefixes.of(prefixes).packed))

    def allowed_ips(self, peer: PeerId) -> Sequence[Prefix]:
        return PackedPrefixes(self._engine.allowed_ips(peer))

    def set_endpoint(self, peer: PeerId, endpoint: Endpoint | None) -> None:
        self._engine.set_endpoint(peer, None if endpoint is None else from_endpoint(endpoint))

    def forget_source(self, peer: PeerId | None) -> None:
        self._engine.forget_source(peer)

    def forget_sources_at(self, interface_index: int) -> None:
        self._engine.forget_sources_at(interface_index)

    def set_roaming(self, peer: PeerId, follow: bool) -> None:
        self._engine.set_roaming(peer, follow)

    def set_paths(self, peer: PeerId, primary: Origin | None, also: Sequence[Origin] = ()) -> None:
        self._engine.set_paths(
            peer,
            None if primary is None else from_origin(primary),
            [from_origin(path) for path in also],
        )

    def set_path_mtu(self, peer: PeerId, mtu: int | None) -> None:
        self._engine.set_path_mtu(peer, mtu or 0)

    def set_relay(self, number: int, remote: Endpoint | None, session: int = 0) -> None:
        self._engine.set_relay(number, None if remote is None else from_endpoint(remote), session)

    def reserve_index(self, peer: PeerId) -> int:
        index = self._engine.reserve_index(peer)
        if index is None:
            raise KeyError(f"no peer {peer} to reserve an index for")
        return index

    def release_index(self, index: int) -> None:
        self._engine.release_index(index)

    def send_handshake(self, peer: PeerId, data: bytes) -> bool:
        return self._engine.send_handshake(peer, data)

    def send_datagram(self, data: bytes, to: Endpoint, source: Origin | None = None) -> None:
        self._engine.send_datagram(data, from_endpoint(to), None if source is None else from_origin(source))

    def handshake_accepted(self, peer: PeerId, origin: Origin, length: int, seq: int) -> None:
        self._engine.handshake_accepted(peer, from_origin(origin), length, seq)

    def begin_session(
        self,
        peer: PeerId,
        *,
        local_index: int,
        remote_index: int,
        is_initiator: bool,
        chaining_key: bytes,
        created_at: float,
        response: bytes | None,
    ) -> None:
        self._engine.begin_session(
            peer, local_index, remote_index, is_initiator, chaining_key, created_at, response
        )

    def expire_keypairs(self, peer: PeerId) -> None:
        self._engine.expire_keypairs(peer)

    def wipe_keypairs(self, peer: PeerId) -> None:
        self._engine.wipe_keypairs(peer)

    def drop_staged(self, peer: PeerId) -> None:
        self._engine.drop_staged(peer)

    def send_keepalive(self, peer: PeerId) -> None:
        self._engine.send_keepalive(peer)

    def send_control(self, peer: PeerId, path: Origin | None, data: bytes) -> None:
        self._engine.send_control(peer, None if path is None else from_origin(path), data)

    def facts(self, peer: PeerId) -> Facts:
        sent, first, last, any_sent, any_received, staged, current = self._engine.facts(peer)
        keypair = None if current is None else CurrentKeypair(*current)
        return Facts(sent, first, last, any_sent, any_received, staged, keypair)

    def watch(self, peer: PeerId, mask: Fact) -> None:
        self._engine.watch(peer, int(mask))

    def snapshot(self) -> Sequence[PeerSnapshot]:
        return [
            PeerSnapshot(
                PeerId(peer), None if endpoint is None else to_endpoint(endpoint), rx_bytes, tx_bytes
            )
            for peer, endpoint, rx_bytes, tx_bytes in self._engine.snapshot()
        ]


def _event(event: _engine._EventTuple) -> Event:
    match event:
        case ("work", peer, bits, confirmed_index, endpoint):
            where = None if endpoint is None else to_endpoint(endpoint)
            return PeerWork(PeerId(peer), Work(bits), confirmed_index, where)
        case ("handshake", data, origin, seq, depth, peer):
            owner = None if peer is None else PeerId(peer)
            return HandshakeMessage(data, to_origin(origin), seq, depth, owner)
        case ("control", peer, path, data):
            return Control(PeerId(peer), to_origin(path), data)
        case ("other", data, origin):
            return OtherDatagram(data, to_origin(origin))
        case ("failed", reason):
            return EngineFailed(reason)
    raise AssertionError(f"the binding told an event of an unknown kind: {event[0]!r}")
