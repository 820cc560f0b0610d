"""The portable engine: packets moved by Python, sealed and opened by Rust, a batch a call.

Pure: it is given its ends, a clock and a random source, and is fed datagrams and packets. `portable_io.py`
puts it between a TUN and sockets, the simulator between two lists. It is the reference for the native engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wgpy import _engine
from wgpy.addresses import Endpoint, Prefix
from wgpy.engine import DatagramFilter
from wgpy.engine.allowed_ips import AllowedIps
from wgpy.engine.defence import Defence, FirstDefence
from wgpy.engine.ends import Ends, Run, RunEnds
from wgpy.engine.events import EventQueues
from wgpy.engine.heard import Heard, Known
from wgpy.engine.portable_peer import NO_FACTS, PortablePeer
from wgpy.engine.refusals import Refusals
from wgpy.engine.relays import Relays, has_relayed_prefix, is_relayed
from wgpy.engine.staging import Staging
from wgpy.errors import InvalidMessage
from wgpy.protocol.actions import (
    Control,
    Event,
    Fact,
    Facts,
    HandshakeMessage,
    Origin,
    OtherDatagram,
    PeerId,
    PeerSnapshot,
    Work,
)
from wgpy.protocol.constants import DEFAULT_MTU, HANDSHAKE_TOS
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.indices import IndexTable
from wgpy.protocol.keypairs import Keypair
from wgpy.protocol.messages import MessageType, message_type_untrusted, receiver_index_untrusted


class PortableEngine:
    """See `wgpy.protocol.actions.Engine` for the commands."""

    def __init__(
        self,
        ends: Ends,
        clock: Callable[[], float],
        rng: RandomSource,
        *,
        run_ends: RunEnds | None = None,
        defence: Defence | None = None,
    ) -> None:
        self._ends = ends
        self._run_ends = run_ends
        self._max_segments = 64 if run_ends else 1
        self._clock = clock
        self.events: Final = EventQueues()
        self.drops: Final[Counter[str]] = Counter()
        """Packets and datagrams dropped, by reason."""
        self._refusals = Refusals(self.drops, ends.write_tun, rng)
        self.mtu = DEFAULT_MTU
        self.vnet_hdr = False
        """Packets from and to the TUN begin with a virtio_net_hdr."""
        self.listen_port = 0
        """Ours, to know a routing loop by."""
        self._peers: dict[PeerId, PortablePeer] = {}
        self._next_id = 1
        self._indices: IndexTable[PortablePeer] = IndexTable(rng)
        self._sessions: dict[int, _engine.Session] = {}  # the transport entries of the index table, for Rust
        self._remote_indices: Counter[int] = Counter()
        self._allowed_ips = AllowedIps()
        self._staging = Staging(self._count_drop)
        self._defence: Final = FirstDefence(rng) if defence is None else defence
        self._expected = DatagramFilter()
        self._relays = Relays()
        self._seq = 0
        self.flooded_at = -math.inf
        """When something came last that only a stranger sends, or that was received before."""

    # --- device ---

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._defence.set_identity(mac1_key, cookie_key)
        self.events.discard_handshakes()

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        self._defence.set_previous_identity(mac1_key, cookie_key)

    def expect(self, datagrams: DatagramFilter) -> None:
        self._expected = datagrams

    def drain_events(self) -> list[Event]:
        return self.events.drain()

    def wipe(self) -> None:
        """Overwrite the keys of all peers."""
        for peer in self._peers.values():
            self._free(peer.slots.wipe())

    # --- peers ---

    def add_peer(self) -> PeerId:
        peer_id = PeerId(self._next_id)
        self._next_id += 1
        self._peers[peer_id] = PortablePeer(peer_id)
        return peer_id

    def remove_peer(self, peer: PeerId) -> None:
        gone = self._peers.pop(peer, None)
        if gone is None:
            return
        self._allowed_ips.remove_peer(peer)
        self._free(gone.slots.wipe())
        for index in gone.handshake_indices:
            self._indices.release_handshake(index)
        self._staging.drop(gone)
        self.events.forget_peer(peer)

    def add_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        if peer in self._peers:
            self._allowed_ips.add(peer, prefixes)

    def remove_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        self._allowed_ips.remove(peer, prefixes)

    def allowed_ips(self, peer: PeerId) -> Sequence[Prefix]:
        return self._allowed_ips.of(peer)

    def set_endpoint(self, peer: PeerId, endpoint: Endpoint | None) -> None:
        if (it := self._peers.get(peer)) is not None:
            it.endpoint = it.reported = endpoint
            it.forget_source()

    def forget_source(self, peer: PeerId | None) -> None:
        if peer is None:
            for it in self._peers.values():
                it.forget_source()
        elif peer in self._peers:
            self._peers[peer].forget_source()

    def forget_sources_at(self, interface_index: int) -> None:
        for it in self._peers.values():
            if it.source is not None and it.source.interface_index == interface_index:
                it.forget_source()

    def set_roaming(self, peer: PeerId, follow: bool) -> None:
        if (it := self._peers.get(peer)) is not None:
            it.follow = follow

    def set_paths(self, peer: PeerId, primary: Origin | None, also: Sequence[Origin] = ()) -> None:
        if (it := self._peers.get(peer)) is not None:
            it.primary = primary
            it.also = tuple(also)

    def set_path_mtu(self, peer: PeerId, mtu: int | None) -> None:
        if (it := self._peers.get(peer)) is not None:
            it.path_mtu = mtu

    def set_relay(self, number: int, remote: Endpoint | None, session: int = 0) -> None:
        self._relays.set(number, remote, session)

    # --- handshake ---

    def reserve_index(self, peer: PeerId) -> int:
        it = self._peers.get(peer)
        if it is None:
            raise KeyError(f"no peer {peer} to reserve an index for")
        index = self._indices.reserve(it)
        it.handshake_indices.add(index)
        return index

    def release_index(self, index: int) -> None:
        entry = self._indices.get(index)
        if entry is not None and entry.keypair is None:
            entry.owner.handshake_indices.discard(index)
            self._indices.release_handshake(index)

    def send_handshake(self, peer: PeerId, data: bytes) -> bool:
        it = self._peers.get(peer)
        return it is not None and self._send_handshake(it, data, it.paths(), self._clock())

    def send_datagram(self, data: bytes, to: Endpoint, source: Origin | None = None) -> None:
        self._send_udp(data, to, source, 0)

    def handshake_accepted(self, peer: PeerId, origin: Origin, length: int, seq: int) -> None:
        it = self._peers.get(peer)
        if it is None:
            return
        it.rx_bytes += length
        it.handshake_origin = origin
        if seq >= it.authenticated_seq:
            it.authenticated_seq = seq
            self._note_origin(it, origin)
        if it.note_authenticated_received(self._clock()):
            self._report_fact(it)

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
        it = self._peers.get(peer)
        if it is None or local_index not in it.handshake_indices:
            return
        now = self._clock()
        session = _engine.Session(chaining_key, is_initiator, local_index, remote_index, peer, created_at)
        pair = Keypair(session)
        it.handshake_indices.discard(local_index)
        self._indices.take_over(local_index, pair)
        self._sessions[local_index] = session
        self._remote_indices[remote_index] += 1
        self._free(it.slots.add(pair))
        if response is not None:
            self._send_handshake(it, response, self._response_paths(it), now)
        if is_initiator:
            self._send_keepalive(it, now)

    # --- keys ---

    def expire_keypairs(self, peer: PeerId) -> None:
        if (it := self._peers.get(peer)) is not None:
            it.slots.expire()

    def wipe_keypairs(self, peer: PeerId) -> None:
        if (it := self._peers.get(peer)) is not None:
            self._free(it.slots.wipe())

    def drop_staged(self, peer: PeerId) -> None:
        if (it := self._peers.get(peer)) is not None:
            self._staging.drop(it)

    def send_keepalive(self, peer: PeerId) -> None:
        if (it := self._peers.get(peer)) is not None:
            self._send_keepalive(it, self._clock())

    def send_control(self, peer: PeerId, path: Origin | None, data: bytes) -> None:
        it = self._peers.get(peer)
        if it is None or not data or data[0] >> 4 in (4, 6):
            return
        now = self._clock()
        pair = it.slots.current
        if pair is None or not pair.may_send(now):
            self.drops["control without a key"] += 1
            return
        runs = self._session(pair).seal_packets([data], self.mtu, now, max_segments=1)
        if runs:
            paths = it.paths() if path is None else [(path.remote, path)]
            self._send_runs(
                it, pair, [(message, size, 0) for message, size, _ in runs], paths, now, is_data=False
            )

    # --- read ---

    def facts(self, peer: PeerId) -> Facts:
        it = self._peers.get(peer)
        return NO_FACTS if it is None else it.facts(self._clock())

    def watch(self, peer: PeerId, mask: Fact) -> None:
        it = self._peers.get(peer)
        if it is None:
            return
        it.watched = mask
        if it.slots.current is not None:
            it.slots.current.rekey_said_on_send = False
        if it.is_watched_fact_there():
            self._report_fact(it)

    def snapshot(self) -> Sequence[PeerSnapshot]:
        return [
            PeerSnapshot(it.id, it.primary.remote if it.primary else it.endpoint, it.rx_bytes, it.tx_bytes)
            for it in self._peers.values()
        ]

    # --- out ---

    def receive_packet(self, packet: bytes) -> None:
        """A packet came from the host through the TUN."""
        self.receive_packets([packet])

    def receive_packets(self, packets: Sequence[bytes]) -> None:
        """Packets came from the host, in order; superpackets where `vnet_hdr` is set."""
        now = self._clock()
        if self.listen_port:
            packets = [packet for packet in packets if not self._is_looped(packet)]
        groups = self._allowed_ips.trie.group_by_destination(packets, vnet_hdr=self.vnet_hdr)
        for peer_id, group in groups:
            peer = None if peer_id is None else self._peers.get(PeerId(peer_id))
            if peer is None:
                self._refusals.refuse("no peer for the destination", group, now, vnet_hdr=self.vnet_hdr)
            else:
                self._send_packets(peer, group, now)

    def _is_looped(self, packet: bytes) -> bool:
        index = _engine.looped_receiver_index(packet, self.listen_port, vnet_hdr=self.vnet_hdr)
        if index is None or index not in self._remote_indices:
            return False
        self.drops["routing loop"] += 1
        return True

    def _send_packets(self, peer: PortablePeer, packets: Sequence[bytes], now: float) -> None:
        paths = peer.paths()
        if not paths:
            self._refusals.refuse("peer without endpoint", packets, now, vnet_hdr=self.vnet_hdr)
            return
        if peer.path_mtu is not None:
            packets = self._refusals.fit(packets, peer.path_mtu, now, vnet_hdr=self.vnet_hdr)
            if not packets:
                return
        pair = peer.slots.current
        runs = None
        if pair is not None and pair.may_send(now):
            runs = self._session(pair).seal_packets(
                packets, self.mtu, now, vnet_hdr=self.vnet_hdr, max_segments=self._max_segments
            )
        if pair is None or runs is None:
            for packet in packets:
                self._staging.add(peer, packet, vnet_hdr=self.vnet_hdr)
            self.events.put_work(peer.id, Work.NEED_KEY)
            return
        self._send_runs(peer, pair, runs, paths, now, is_data=True)

    def _send_keepalive(self, peer: PortablePeer, now: float) -> None:
        if not peer.staged:
            self._staging.add(peer, b"", vnet_hdr=self.vnet_hdr)
        self._send_staged(peer, now)

    def _send_staged(self, peer: PortablePeer, now: float) -> None:
        if not peer.staged:
            return
        pair = peer.slots.current
        if pair is None or not pair.may_send(now):
            self.events.put_work(peer.id, Work.NEED_KEY)
            return
        packets = self._staging.take(peer)
        if not packets[0]:  # a keepalive is only staged where nothing is, so it is the first
            message = self._session(pair).seal(packets.pop(0), self.mtu, now)
            if message is not None:
                self._send_runs(peer, pair, [(message, len(message), 0)], peer.paths(), now, is_data=False)
        if packets:
            self._send_packets(peer, packets, now)

    def _send_runs(
        self,
        peer: PortablePeer,
        pair: Keypair,
        runs: Sequence[Run],
        paths: Sequence[tuple[Endpoint, Origin | None]],
        now: float,
        *,
        is_data: bool,
    ) -> None:
        """Send sealed messages by each path, and note what that means for the timers."""
        sent = 0
        for run in runs:
            for to, source in paths:
                sent += self._send_run(run, to, source)
        peer.tx_bytes += sent
        peer.note_authenticated_sent(now)
        if is_data and sent and peer.note_data_sent(now):
            self._report_fact(peer)
        if not pair.rekey_said_on_send and pair.is_due_on_send(now):
            pair.rekey_said_on_send = True
            self.events.put_work(peer.id, Work.REKEY_SEND)

    def _send_udp(self, data: bytes, to: Endpoint, source: Origin | None, tos: int) -> bool:
        if is_relayed(to):
            return self._send_relayed((data, len(data), tos), to) > 0
        return self._ends.send_udp(data, to, source, tos)

    def _send_relayed(self, run: Run, to: Endpoint) -> int:
        return self._relays.send(
            run, to, self._max_segments, lambda part, relay: self._send_run(part, relay, None)
        )

    def _send_run(self, run: Run, to: Endpoint, source: Origin | None) -> int:
        if is_relayed(to):
            return self._send_relayed(run, to)
        if self._run_ends is not None:
            return self._run_ends.send_run(run, to, source)
        return len(run[0]) if self._ends.send_udp(run[0], to, source, run[2]) else 0

    def _send_handshake(
        self, peer: PortablePeer, data: bytes, paths: Sequence[tuple[Endpoint, Origin | None]], now: float
    ) -> bool:
        left = False
        for to, source in paths:
            if self._send_udp(data, to, source, HANDSHAKE_TOS):
                left = True
                peer.tx_bytes += len(data)
        peer.note_authenticated_sent(now)
        return left

    def _response_paths(self, peer: PortablePeer) -> list[tuple[Endpoint, Origin | None]]:
        """Where packets go, and, for a peer whose endpoint does not follow, first where the initiation came
        from.
        """
        paths = peer.paths()
        origin = peer.handshake_origin
        if peer.follow or origin is None:
            return paths
        return [(origin.remote, origin), *(path for path in paths if path[0] != origin.remote)]

    # --- in ---

    def receive_datagram(self, data: bytes, origin: Origin, tos: int = 0) -> None:
        """A datagram came through a socket."""
        self.receive_datagrams(data, len(data), len(data), Known(origin, self.send_datagram), tos)

    def receive_datagrams(
        self,
        buffer: bytes | bytearray | memoryview,
        length: int,
        segment_size: int,
        heard: Heard,
        tos: int = 0,
    ) -> None:
        """Datagrams came from one sender: `length` octets, one each `segment_size` octets."""
        source = heard.source() if self._relays else None
        if source is None:
            self._receive_unwrapped(buffer, length, segment_size, heard, tos)
        elif self._relays.is_at(*source):
            data = bytes(memoryview(buffer)[:length])
            for each in self._relays.unwrap(data, segment_size, *source):
                if isinstance(each, bytes):
                    self._receive_other(each, heard, self._clock())
                else:
                    came = Known(each.origin, self.send_datagram)
                    self._receive_unwrapped(each.data, len(each.data), each.segment_size, came, tos)
        elif has_relayed_prefix(source[0]):
            self.drops["not WireGuard"] += 1
        else:
            self._receive_unwrapped(buffer, length, segment_size, heard, tos)

    def _receive_unwrapped(
        self,
        buffer: bytes | bytearray | memoryview,
        length: int,
        segment_size: int,
        heard: Heard,
        tos: int,
    ) -> None:
        self._seq += 1
        if length == 0:
            self.drops["not WireGuard"] += 1
            return
        now = self._clock()
        if buffer[0] != MessageType.TRANSPORT and length == segment_size:
            self._receive_other(bytes(memoryview(buffer)[:length]), heard, now)
            return
        runs, others, unknown = _engine.open_datagrams(
            buffer,
            length,
            segment_size,
            self._sessions,
            self._allowed_ips.trie,
            now,
            tos=tos,
            vnet_hdr=self.vnet_hdr,
        )
        if unknown:
            self.flooded_at = now
            self.drops["unknown index"] += unknown
        for opened in runs:
            self._received(opened, heard, now)
        for start, end in others:
            self._receive_other(bytes(buffer[start:end]), heard, now)

    def _received(self, opened: _engine.Opened, heard: Heard, now: float) -> None:
        controls, packets = opened.controls, opened.packets
        if opened.authenticated != len(opened.outcomes) or opened.data != len(controls) + len(packets):
            self._count_drops(opened, now)
        entry = self._indices.get(opened.session.local_index)
        if not opened.authenticated or entry is None or entry.keypair is None:
            return
        peer, pair, origin = entry.owner, entry.keypair, heard.origin()
        peer.authenticated_seq = self._seq
        self._note_origin(peer, origin)
        due = peer.note_authenticated_received(now)
        if opened.data > len(controls):
            due |= peer.note_data_received(now)
        if due:
            self._report_fact(peer)
        confirmed, fallen = peer.slots.received_with(pair)
        if confirmed:
            self._free(fallen)
            self.events.put_work(peer.id, Work.CONFIRMED, confirmed_index=pair.keys.local_index)
            # After what came was noted: it answers nothing that leaves only now.
            self._send_staged(peer, now)
        current = peer.slots.current
        if current is not None and not current.rekey_said_on_receive and current.is_due_on_receive(now):
            current.rekey_said_on_receive = True
            self.events.put_work(peer.id, Work.REKEY_RECEIVE)
        peer.rx_bytes += opened.rx_bytes
        for packet in packets:
            self._ends.write_tun(packet)
        for data in controls:
            self.events.put_control(Control(peer.id, origin, data))

    def _count_drop(self, reason: str, count: int) -> None:
        self.drops[reason] += count

    def _count_drops(self, opened: _engine.Opened, now: float) -> None:
        if opened.count(_engine.Outcome.REPLAYED):
            self.flooded_at = now
        for outcome, reason in _DROPS:
            if count := opened.count(outcome):
                self.drops[reason] += count

    def _receive_other(self, data: bytes, heard: Heard, now: float) -> None:
        """Anything but transport data."""
        try:
            kind = message_type_untrusted(data)
        except InvalidMessage:
            if self._expected and self._expected.matches(data, heard.origin().remote):
                self.events.put_other(OtherDatagram(data, heard.origin()))
            else:
                self.flooded_at = now
                self.drops["not WireGuard"] += 1
            return
        owner = None
        if kind is not MessageType.INITIATION:
            entry = self._indices.get(receiver_index_untrusted(data))
            if entry is None or (kind is MessageType.RESPONSE and entry.keypair is not None):
                self.flooded_at = now
                self.drops["unknown index"] += 1
                return
            owner = entry.owner.id
        depth = self.events.handshake_depth
        if kind is not MessageType.COOKIE_REPLY:
            verdict = self._defence.judge(data, *heard.source(), depth, now)
            if isinstance(verdict, bytes):
                self.flooded_at = now
                heard.answer(verdict)
                verdict = "under load"
            if verdict is not None:
                self.drops[verdict] += 1
                return
        self._put_handshake(HandshakeMessage(data, heard.origin(), self._seq, depth, owner))

    def receive_judged(self, data: bytes, origin: Origin) -> None:
        """An initiation that the first line of defence has let pass already."""
        self._seq += 1
        self._put_handshake(HandshakeMessage(data, origin, self._seq, self.events.handshake_depth, None))

    def _put_handshake(self, message: HandshakeMessage) -> None:
        if not self.events.put_handshake(message):
            self.drops["handshake queue full"] += 1

    # --- common to both ways ---

    def _session(self, pair: Keypair) -> _engine.Session:
        return self._sessions[pair.keys.local_index]

    def _free(self, pairs: Iterable[Keypair]) -> None:
        """Keypairs fell out of their slots: wipe them and give their indices back."""
        for pair in pairs:
            keys = pair.keys
            keys.wipe()
            self._indices.release_keypair(keys.local_index, pair)
            del self._sessions[keys.local_index]
            self._remote_indices[keys.remote_index] -= 1
            if not self._remote_indices[keys.remote_index]:
                del self._remote_indices[keys.remote_index]

    def _note_origin(self, peer: PortablePeer, origin: Origin) -> None:
        if peer.note_origin(origin):
            self.events.put_work(peer.id, Work.ENDPOINT, endpoint=origin.remote)

    def _report_fact(self, peer: PortablePeer) -> None:
        peer.watched = Fact(0)
        self.events.put_work(peer.id, Work.FACT)


_DROPS: Final = (
    (_engine.Outcome.EXPIRED, "expired keypair"),
    (_engine.Outcome.FORGED, "forged"),
    (_engine.Outcome.REPLAYED, "replayed"),
    (_engine.Outcome.MALFORMED, "malformed packet of a peer"),
    (_engine.Outcome.REFUSED, "source not allowed"),
)
