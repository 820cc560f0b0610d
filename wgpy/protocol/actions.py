"""The seam between control and packets: what the core asks of an engine, and what it is told.

The core (`interface`) holds the handshake, the timers and the configuration. An engine holds sockets, TUN,
transport keys, the index table, keypair slots, replay windows, allowed IPs, counters and the first line of
defence (size, mac1, mac2, cookie replies, the per-source bucket, unknown indices). `wgpy/engine/` has the
engines and the commands of their life cycle (open, bind, close); here is only what the core needs, so that
the core imports no engine.

Commands are ordered and synchronous: when one returns, every packet from then on sees its effect. Events
are drained by the device and handed to the core. Instants are float seconds of the boot-time clock (it
counts suspend); an engine that counts in nanoseconds converts. A command for a peer id that is dead is
ignored, and so is an event of one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from wgpy.addresses import Endpoint, IPAddress, Prefix

PeerId = NewType("PeerId", int)
"""The engine's name for a peer. Never used twice in the life of an engine."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a datagram came from, and at which of our addresses and interfaces it arrived.

    `local` and `interface_index` (0: unknown) are the sticky source of replies.
    """

    remote: Endpoint
    local: IPAddress | None = None
    interface_index: int = 0


class Work(enum.IntFlag):
    """What an engine may want of the core for one peer. Coalesced, never lost."""

    NEED_KEY = 1
    """A packet is staged and no keypair may send. A level: look at `facts` before acting on it."""
    REKEY_SEND = 2
    """Sending with a keypair that is due (paper §6.2): nonce past REKEY_AFTER_MESSAGES, or ours as
    initiator and past REKEY_AFTER_TIME. Judged at each packet sent, keepalives too, but said once per
    keypair and watch interval.
    """
    REKEY_RECEIVE = 4
    """Received with a keypair that is ours as initiator and 165 s old. Said once per session."""
    CONFIRMED = 8
    """The responder's `next` keypair became `current`; `PeerWork.confirmed_index` is its local index."""
    ENDPOINT = 16
    """The endpoint moved; `PeerWork.endpoint` is the latest."""
    FACT = 32
    """A watched fact is there."""


class Fact(enum.IntFlag):
    """Facts that `watch` can wait for."""

    DATA_SENT = 1
    """`data_sent_first` is set."""
    DATA_RECEIVED = 2
    """`data_received_first` is set."""
    AUTHENTICATED_RECEIVED = 4
    """An authenticated packet was received after the watch was set (an edge, not a level)."""


@dataclass(frozen=True, slots=True)
class CurrentKeypair:
    """The keypair that sends, or would if it were young enough."""

    local_index: int
    created_at: float
    is_initiator: bool
    may_send: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened to a peer's packets; None: not since it was last cleared.

    `data_sent_first`: the first data packet (not a keepalive) sent since an authenticated packet was last
    received; cleared by any authenticated packet received. `data_received_first` and `_last`: the first and
    the latest data packet (not a keepalive) received since an authenticated packet was last sent; cleared
    by any authenticated packet sent. Authenticated packets are handshake initiations and responses (sent,
    or accepted by `handshake_accepted`) and transport packets, keepalives too. A data packet that the
    source check refuses counts as received.
    """

    data_sent_first: float | None
    data_received_first: float | None
    data_received_last: float | None
    authenticated_sent_last: float | None
    authenticated_received_last: float | None
    staged: int
    current: CurrentKeypair | None


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """What `wg show` says of a peer's packets. Bytes are whole UDP payloads, handshakes and keepalives
    included.
    """

    peer: PeerId
    endpoint: Endpoint | None
    rx_bytes: int
    tx_bytes: int


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """An initiation, response or cookie reply that passed the first line of defence: worth a DH.

    `peer` is the owner of the receiver index (response, cookie reply), None for an initiation. `seq` orders
    it among all datagrams received, `depth` is the length of the queue when it was put there.
    """

    data: bytes
    origin: Origin
    seq: int
    depth: int
    peer: PeerId | None


@dataclass(frozen=True, slots=True)
class PeerWork:
    """What one peer needs, all bits since the last drain together."""

    peer: PeerId
    bits: Work
    confirmed_index: int | None = None
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A control message of the mesh that came through the tunnel (inner first nibble neither 4 nor 6)."""

    peer: PeerId
    path: Origin
    data: bytes


@dataclass(frozen=True, slots=True)
class OtherDatagram:
    """A datagram that is not WireGuard and that `expect` named."""

    data: bytes
    origin: Origin


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine cannot go on. The device says so and exits."""

    reason: str


Event = HandshakeMessage | PeerWork | Control | OtherDatagram | EngineFailed


# --- commands -----------------------------------------------------------------------------------------------


class Engine(Protocol):
    """What the core asks of an engine. Each method returns once its effect holds, and never waits for the
    core.
    """

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """Keys of 32 octets, HASH(label ‖ our static public key): mac1 is checked and cookie replies are
        sealed with them.

        None: there is no private key; nothing passes. Handshake messages queued for the old identity are
        dropped.
        """

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """The same of a key that we had before, whose messages pass as well; None: there is none."""

    def add_peer(self) -> PeerId: ...

    def remove_peer(self, peer: PeerId) -> None:
        """When it returns, no thread holds the peer's keys, its indices and allowed IPs are gone."""

    def add_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        """A prefix belongs to one peer: added here, it leaves the peer that had it."""

    def remove_allowed_ips(self, peer: PeerId, prefixes: Iterable[Prefix]) -> None:
        """Prefixes that are not this peer's are passed over."""

    def allowed_ips(self, peer: PeerId) -> Sequence[Prefix]: ...

    def set_endpoint(self, peer: PeerId, endpoint: Endpoint | None) -> None:
        """Set where the peer is, and forget the cached source."""

    def forget_source(self, peer: PeerId | None) -> None:
        """Forget the sticky source of one peer, or of all (None)."""

    def forget_sources_at(self, interface_index: int) -> None:
        """Forget the sticky sources of all peers that were last heard at this interface of the host."""

    def set_roaming(self, peer: PeerId, follow: bool) -> None:
        """Follow authenticated packets with the endpoint (the kernel's rule, the default), or only report
        them.
        """

    def set_paths(self, peer: PeerId, primary: Origin | None, also: Sequence[Origin] = ()) -> None:
        """Send by `primary`, and everything by each of `also` too (the replay window drops the doubles).

        None: back to the endpoint.
        """

    def set_path_mtu(self, peer: PeerId, mtu: int | None) -> None:
        """Longer packets from the host do not fit the path. IPv4 ones that must not be fragmented and IPv6
        ones of more than 1280 octets are answered by ICMP; the others are sent in fragments. None, the
        default: all fit.
        """

    def set_relay(self, number: int, remote: Endpoint | None, session: int = 0) -> None:
        """Reach peers behind our relay of that number by this session there (docs/relay.md §4); None: no
        longer.
        """

    def reserve_index(self, peer: PeerId) -> int:
        """A random 32-bit index, unique among handshakes and keypairs of all peers."""

    def release_index(self, index: int) -> None:
        """Free an index reserved for a handshake. One that a session took over is left alone."""

    def send_handshake(self, peer: PeerId, data: bytes) -> bool:
        """Send an initiation or response to the peer's endpoint with TOS 0x88; True when it left the host.

        Counts as an authenticated packet sent.
        """

    def send_datagram(self, data: bytes, to: Endpoint, source: Origin | None = None) -> None:
        """Send bytes that belong to no peer, from the source given."""

    def handshake_accepted(self, peer: PeerId, origin: Origin, length: int, seq: int) -> None:
        """A handshake message proved to be the peer's: counts bytes, is an authenticated packet received,
        and moves the endpoint to its origin unless `seq` is older than the peer's last authenticated
        packet.
        """

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
        """Derive the transport keys and put the keypair in its slot (`keypairs.py`), as one step with what
        follows: the responder sends `response`, the initiator sends what is staged, else a keepalive.
        """

    def expire_keypairs(self, peer: PeerId) -> None:
        """Stop sending with `current` and `next`; they still receive until they are too old."""

    def wipe_keypairs(self, peer: PeerId) -> None: ...

    def drop_staged(self, peer: PeerId) -> None: ...

    def send_keepalive(self, peer: PeerId) -> None:
        """Stage an empty packet if nothing is staged, then send what is staged. NEED_KEY follows if nothing
        may send.
        """

    def send_control(self, peer: PeerId, path: Origin | None, data: bytes) -> None:
        """Seal a control message of the mesh (first nibble neither 4 nor 6) and send it by that path."""

    def facts(self, peer: PeerId) -> Facts:
        """All None and zero for a dead id."""

    def watch(self, peer: PeerId, mask: Fact) -> None:
        """Report FACT once, at once when a fact of `mask` is already there. Replaces the mask before; 0
        ends it.
        """

    def snapshot(self) -> Sequence[PeerSnapshot]: ...
