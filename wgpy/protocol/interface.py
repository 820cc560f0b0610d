"""The pure state of `wg0`: identity, peers, handshakes, timers, and the rules of changing them.

An `Interface` never waits, reads no clock and touches no socket. It is driven by three inputs: settings,
events of the engine, and deadlines. Whoever runs it calls, for ever:

    while True:
        for event in engine.drain_events():
            interface.handle_event(event, clock())
        now = clock()
        if (deadline := interface.next_deadline()) is not None and deadline <= now:
            interface.handle_timeout(now)
        wait for engine events, or until interface.next_deadline(), or for a setting to have been changed

Events go before timers: a deadline is judged by what has already happened. A late call is harmless. `now`
is the boot-time clock in seconds, never going back; the wall clock is read by a function given at the
start, and used for the timestamps of initiations and the time of the last handshake alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s
from types import MappingProxyType

from wgpy.addresses import Endpoint, Prefix
from wgpy.errors import InvalidMessage
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.actions import Engine, Event, HandshakeMessage, PeerId, PeerWork
from wgpy.protocol.constants import MAX_PEERS
from wgpy.protocol.cookie import cookie_key, is_meant_for, mac1_key
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.messages import MessageType, message_type_untrusted, parse_initiation_untrusted
from wgpy.protocol.noise import Handshake, Identity, open_initiation_untrusted
from wgpy.protocol.peer import LocalEnd, PathControl, Peer
from wgpy.protocol.schedule import Schedule
from wgpy.protocol.tai64n import TimestampSource

MAX_PERSISTENT_KEEPALIVE = 65535
"""Seconds."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What `wg show` and the UAPI say of a peer."""

    public_key: PublicKey
    preshared_key: PresharedKey = field(repr=False)
    endpoint: Endpoint | None
    last_handshake_ns: int
    """Unix time, 0: never."""
    rx_bytes: int
    tx_bytes: int
    persistent_keepalive: int
    """Seconds, 0: off."""
    allowed_ips: Sequence[Prefix]
    protocol_version: int = 1
    rtt: float | None = None
    """Seconds, as the last handshake showed it; None: none did yet."""


class Interface:
    """A WireGuard interface without its packets, which are the engine's."""

    def __init__(
        self,
        engine: Engine,
        rng: RandomSource,
        wall_clock_ns: Callable[[], int],
        *,
        highest_timestamp: bytes | None = None,
    ) -> None:
        """`wall_clock_ns`: unix nanoseconds. `highest_timestamp`: 12 octets of TAI64N below which no
        initiation is stamped; what `highest_timestamp` gave in an earlier life, or later. Raises ValueError
        for another length.
        """
        self._local = LocalEnd(engine, rng, wall_clock_ns, TimestampSource(highest_timestamp))
        self._peers: dict[PublicKey, Peer] = {}
        self._by_id: dict[PeerId, Peer] = {}
        self._schedule: Schedule[Peer] = Schedule()
        self._answered: dict[bytes, Peer] = {}
        """By the hash of the initiation of each peer with path control that was answered last."""
        self._previous: Identity | None = None
        self.invalid_messages = 0
        """Handshake messages that passed the engine's first line of defence and were refused here."""

    # --- what it is ---

    @property
    def private_key(self) -> PrivateKey | None:
        return None if self._local.identity is None else self._local.identity.private

    @property
    def public_key(self) -> PublicKey | None:
        return None if self._local.identity is None else self._local.identity.public

    @property
    def peers(self) -> Mapping[PublicKey, Peer]:
        """In the order in which they were added."""
        return MappingProxyType(self._peers)

    @property
    def is_up(self) -> bool:
        return self._local.is_up

    @property
    def highest_timestamp(self) -> bytes | None:
        """12 octets: the highest TAI64N sent or given at the start. Worth keeping across reboots."""
        return self._local.timestamps.highest

    def status(self, now: float) -> list[PeerStatus]:
        """One entry a peer, in the order of `peers`."""
        snapshots = {snapshot.peer: snapshot for snapshot in self._local.engine.snapshot()}
        return [
            PeerStatus(
                public_key=peer.public_key,
                preshared_key=peer.preshared_key,
                endpoint=snapshot.endpoint if (snapshot := snapshots.get(peer.id)) else peer.endpoint,
                last_handshake_ns=peer.last_handshake_ns,
                rx_bytes=snapshot.rx_bytes if snapshot else 0,
                tx_bytes=snapshot.tx_bytes if snapshot else 0,
                persistent_keepalive=peer.persistent_keepalive,
                allowed_ips=self._local.engine.allowed_ips(peer.id),
                rtt=peer.rtt,
            )
            for peer in self._peers.values()
        ]

    # --- settings ---

    def set_private_key(self, key: PrivateKey | None, now: float) -> None:
        """Become someone else; None or a key of zeros: nobody. The same key again changes nothing.

        A peer that has our new public key is removed. Sessions keep receiving but send no more, handshakes
        under way are void, and new ones may begin at once.
        """
        if key is not None and key.is_zero():
            key = None
        if key == self.private_key:
            return
        identity = None if key is None else Identity.of(key)
        if identity is not None:
            self.remove_peer(identity.public, now)
        self.set_previous_key(None)
        self._local.identity = identity
        if identity is None:
            self._local.engine.set_identity(None, None)
        else:
            public = bytes(identity.public)
            self._local.engine.set_identity(mac1_key(public), cookie_key(public))
        for peer in self._peers.values():
            peer.change_identity()
            if self.is_up and identity is not None:
                peer.start(now)
                peer.need_key(now)
            self._refresh(peer, now)

    def rotate_private_key(self, key: PrivateKey, now: float) -> None:
        """A new key of who we are: unlike `set_private_key`, sessions go on. Handshakes under way are void,
        and the next ones that we begin are made with this key. Peers that have not heard of it may begin
        theirs with the key of before, until `set_previous_key`.
        """
        if key == self.private_key:
            return
        self.set_previous_key(self.private_key)
        identity = Identity.of(key)
        self.remove_peer(identity.public, now)
        self._local.identity = identity
        public = bytes(identity.public)
        self._local.engine.set_identity(mac1_key(public), cookie_key(public))
        for peer in self._peers.values():
            peer.rotate_identity()
            self._refresh(peer, now)

    def set_previous_key(self, key: PrivateKey | None) -> None:
        """A key that we had: handshakes that a peer begins with it are answered. None: with our own alone."""
        previous = None if key is None else Identity.of(key)
        if previous == self._previous:
            return
        self._previous = previous
        if previous is None:
            self._local.engine.set_previous_identity(None, None)
        else:
            public = bytes(previous.public)
            self._local.engine.set_previous_identity(mac1_key(public), cookie_key(public))

    def _identity_meant(self, initiation: bytes, current: Identity) -> Identity:
        """The one of ours that an initiation, whose mac1 is right, is for."""
        previous = self._previous
        is_for_previous = previous is not None and is_meant_for(mac1_key(bytes(previous.public)), initiation)
        return previous if previous is not None and is_for_previous else current

    def rename_peer(self, old: PublicKey, new: PublicKey, now: float) -> bool:
        """The peer has another key by now: its session, endpoint, allowed IPs and counters stay, its next
        handshake is with the new key. False: there is no such peer, or the new key is somebody's.
        """
        if old not in self._peers or new in self._peers or new == self.public_key:
            return False
        peer = self._peers.pop(old)
        self._forget_answered(peer)
        peer.take_key(new)
        self._peers[new] = peer
        self._refresh(peer, now)
        return True

    def add_peer(self, public_key: PublicKey, now: float) -> Peer | None:
        """The peer with this key, made if need be; None, silently, when the key is our own.

        Raises ValueError when there are MAX_PEERS others.
        """
        if public_key == self.public_key:
            return None
        peer = self._peers.get(public_key)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                raise ValueError(f"an interface has at most {MAX_PEERS} peers")
            peer = Peer(self._local, public_key)
            self._peers[public_key] = self._by_id[peer.id] = peer
            self._refresh(peer, now)
        return peer

    def remove_peer(self, public_key: PublicKey, now: float) -> None:
        """Nothing of the peer is left; unknown keys are passed over."""
        peer = self._peers.pop(public_key, None)
        if peer is not None:
            del self._by_id[peer.id]
            self._schedule.set(peer, None)
            self._forget_answered(peer)
            self._local.engine.remove_peer(peer.id)
            peer.handshake.clear()

    def remove_all_peers(self, now: float) -> None:
        for public_key in list(self._peers):
            self.remove_peer(public_key, now)

    def set_preshared_key(self, peer: Peer, key: PresharedKey, now: float) -> None:
        """Mixed into the next handshake; the session that stands is left alone."""
        peer.handshake.preshared_key = key

    def set_endpoint(self, peer: Peer, endpoint: Endpoint | None, now: float) -> None:
        """Where to send until the peer is heard from elsewhere. Forgets the cached source."""
        peer.endpoint = endpoint
        self._local.engine.set_endpoint(peer.id, endpoint)
        self._refresh(peer, now)

    def set_persistent_keepalive(self, peer: Peer, seconds: int, now: float) -> None:
        """0: off. Switched on while up, one is sent at once. Raises ValueError beyond 65535."""
        if not 0 <= seconds <= MAX_PERSISTENT_KEEPALIVE:
            raise ValueError(
                f"a persistent keepalive is 0 to {MAX_PERSISTENT_KEEPALIVE} seconds, not {seconds}"
            )
        switched_on = seconds > 0 and not peer.persistent_keepalive
        peer.persistent_keepalive = seconds
        if switched_on and self.is_up:
            peer.send_persistent_keepalive(now)
        self._refresh(peer, now)

    def add_allowed_ips(self, peer: Peer, prefixes: Iterable[Prefix], now: float) -> None:
        """Each leaves the peer that had it."""
        self._local.engine.add_allowed_ips(peer.id, prefixes)

    def remove_allowed_ips(self, peer: Peer, prefixes: Iterable[Prefix], now: float) -> None:
        """Those that are not this peer's are passed over."""
        self._local.engine.remove_allowed_ips(peer.id, prefixes)

    def replace_allowed_ips(self, peer: Peer, prefixes: Iterable[Prefix], now: float) -> None:
        """Only the difference is changed: traffic under a prefix that stays is never without a peer."""
        wanted = dict.fromkeys(prefixes)
        present = set(self._local.engine.allowed_ips(peer.id))
        self._local.engine.remove_allowed_ips(peer.id, present - wanted.keys())
        self._local.engine.add_allowed_ips(peer.id, [prefix for prefix in wanted if prefix not in present])

    def set_agent(self, peer: Peer, is_agent: bool, now: float) -> None:
        """Whether the peer runs our agent too, so that simultaneous initiations are settled by key."""
        peer.is_agent = is_agent

    def set_path_control(self, peer: Peer, control: PathControl | None, now: float) -> None:
        """Let someone else say where packets to the peer go; None: they follow it, as in the kernel.

        With it, copies of an initiation are answered as the first one was.
        """
        peer.path_control = control
        self._local.engine.set_roaming(peer.id, control is None)

    # --- up and down ---

    def up(self, now: float) -> None:
        """Begin to shake hands. The engine's sockets are bound before."""
        if self.is_up:
            return
        self._local.is_up = True
        for peer in self._peers.values():
            peer.start(now)
            self._refresh(peer, now)

    def down(self, now: float) -> None:
        """Stop timers, wipe handshakes and keypairs, drop what is staged. The engine's sockets are unbound
        before.
        """
        if not self.is_up:
            return
        self._local.is_up = False
        for peer in self._peers.values():
            peer.stop()
            self._refresh(peer, now)

    # --- inputs ---

    def handle_event(self, event: Event, now: float) -> None:
        """Take what the engine reports. Events of peers that are gone, and those that are not ours, are
        ignored.
        """
        if isinstance(event, HandshakeMessage):
            try:
                self._handle_handshake_message_untrusted(event, now)
            except InvalidMessage:
                self.invalid_messages += 1
        elif isinstance(event, PeerWork):
            peer = self._by_id.get(event.peer)
            if peer is not None:
                peer.handle_work(event, now)
                self._refresh(peer, now)

    def handle_timeout(self, now: float) -> None:
        """Do all that is due."""
        for peer in self._schedule.take_due(now):
            peer.handle_timeout(now)
            self._refresh(peer, now)

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is wanted; None: not before something else happens."""
        return self._schedule.next()

    def initiate(self, peer: Peer, now: float) -> None:
        """Begin a handshake, unless one was sent within the last 5 s."""
        peer.request_handshake(now)
        self._refresh(peer, now)

    def _handle_handshake_message_untrusted(self, event: HandshakeMessage, now: float) -> None:
        identity = self._local.identity
        if identity is None or not self.is_up:
            return
        kind = message_type_untrusted(event.data)
        if kind is MessageType.INITIATION:
            digest = blake2s(event.data).digest()
            if (answered := self._answered.get(digest)) is not None:
                answered.answer_again(event.origin, now)
                return
            meant = self._identity_meant(event.data, identity)
            opened = open_initiation_untrusted(
                parse_initiation_untrusted(event.data), meant, self._find_handshake
            )
            peer = self._peers[opened.handshake.remote_static]
            if peer.claim_precedence_over_initiation(digest, now):
                return
            peer.consume_initiation_untrusted(opened, event, now)
            if peer.path_control is not None:
                self._forget_answered(peer)
                self._answered[digest], peer.answered = peer, digest
        else:
            addressed = None if event.peer is None else self._by_id.get(event.peer)
            if addressed is None:
                return
            peer = addressed
            if kind is MessageType.RESPONSE:
                peer.consume_response_untrusted(event, now)
            elif not peer.cookies.consume_reply(event.data, now):
                raise InvalidMessage("answers nothing we sent")
        self._refresh(peer, now)

    def _forget_answered(self, peer: Peer) -> None:
        if peer.answered is not None:
            del self._answered[peer.answered]
            peer.answered = None

    def _find_handshake(self, public_key: PublicKey) -> Handshake | None:
        peer = self._peers.get(public_key)
        return None if peer is None else peer.handshake

    def _refresh(self, peer: Peer, now: float) -> None:
        peer.refresh(now)
        self._schedule.set(peer, peer.timers.next_deadline())
