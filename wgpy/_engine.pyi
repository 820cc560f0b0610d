"""What Rust does for Python: transport packets sealed and opened in batches, allowed IPs, checksums, the
boot-time clock.

Nothing here reads or writes a socket or a TUN device. A `packet` is an inner IP packet. Where `vnet_hdr` is
true it begins with a virtio_net_hdr (10 octets, native byte order) and may be a superpacket: several TCP or
UDP segments in one, as a TUN with IFF_VNET_HDR gives and takes them. What is read from a buffer is copied
while the GIL is held, so it may be reused as soon as a call returns. No call raises for the content of a
packet or datagram; ValueError and TypeError mean a caller's mistake.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, final

from typing_extensions import Buffer

__all__ = [
    "MAX_RUN_SIZE",
    "VIRTIO_NET_HDR_SIZE",
    "AllowedIps",
    "Engine",
    "FirstDefence",
    "Opened",
    "Outcome",
    "Relay",
    "ReplayWindow",
    "Session",
    "Sieve",
    "aead_kernel",
    "aead_open",
    "aead_seal",
    "boottime_ns",
    "coalesce",
    "fragment",
    "internet_checksum",
    "longest_segment",
    "looped_receiver_index",
    "open_datagrams",
    "segment_count",
    "split_superpacket",
    "timerfd_create",
    "timerfd_settime",
]

_PacketT = TypeVar("_PacketT", bound=Buffer)

VIRTIO_NET_HDR_SIZE: Final = 10
MAX_RUN_SIZE: Final = 65486
"""Octets that one UDP_SEGMENT send takes over either family, less one: room for a sentinel datagram, which
kernels need that corrupt a send whose last segment is a full one.
"""

@final
class Outcome:
    """What became of one datagram of a session. From KEEPALIVE on they are authenticated, not replayed."""

    TOO_SHORT: ClassVar[Outcome]
    """Less than 32 octets."""
    EXPIRED: ClassVar[Outcome]
    """The keypair is older than REJECT_AFTER_TIME or wiped, or the counter is at REJECT_AFTER_MESSAGES or
    above.
    """
    FORGED: ClassVar[Outcome]
    """The tag is wrong."""
    REPLAYED: ClassVar[Outcome]
    """The counter was received before, or is older than the replay window."""
    KEEPALIVE: ClassVar[Outcome]
    """Empty."""
    DATA: ClassVar[Outcome]
    """An IP packet from an address that is the peer's."""
    CONTROL: ClassVar[Outcome]
    """First nibble neither 4 nor 6: a control message of the mesh, its padding still behind it."""
    MALFORMED: ClassVar[Outcome]
    """An IP packet shorter than it says or than its header."""
    REFUSED: ClassVar[Outcome]
    """An IP packet whose source address is not among the peer's allowed IPs."""
    def __int__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Session:
    """The transport keys of one keypair, its sending counter and its replay window. Safe to share among
    threads.
    """

    def __new__(
        cls,
        chaining_key: bytes,
        is_initiator: bool,
        local_index: int,
        remote_index: int,
        peer: int,
        created_at: float,
    ) -> Session:
        """Derive both keys from the handshake's final chaining key (paper §5.4.5), 32 octets.

        `peer` is the name the session's peer has in `AllowedIps`. The keys are never seen by Python and are
        overwritten when the session is wiped or dropped.
        """

    @property
    def local_index(self) -> int: ...
    @property
    def remote_index(self) -> int: ...
    @property
    def peer(self) -> int: ...
    @property
    def is_initiator(self) -> bool: ...
    @property
    def created_at(self) -> float: ...
    @property
    def counter(self) -> int:
        """The counter of the next packet sealed: how many were sealed before."""

    def skip_counters(self, counter: int) -> None:
        """Go on from `counter`; one that is behind is passed over (a counter never seals twice)."""

    def wipe(self) -> None:
        """Overwrite the keys now. From then on nothing is sealed, and what comes is EXPIRED."""

    def seal(self, packet: Buffer, mtu: int, now: float) -> bytes | None:
        """The transport message for one packet (or b"" for a keepalive), padded.

        None when the session may not send: wiped, older than REJECT_AFTER_TIME, or out of counters.
        """

    def seal_packets(
        self,
        packets: Sequence[Buffer],
        mtu: int,
        now: float,
        *,
        vnet_hdr: bool = False,
        max_segments: int = 64,
    ) -> list[tuple[bytes, int, int]] | None:
        """Seal packets in order into runs (datagrams, segment size, TOS), each fit for one send with
        UDP_SEGMENT.

        In a run every datagram but the last has `segment size` octets, and the last no more; a run has at
        most `max_segments` datagrams and MAX_RUN_SIZE octets, and one value of TOS: what the outer header
        owes to the inner ECN bits. Superpackets are split, checksums that were left to us completed. A
        superpacket that contradicts its own header yields nothing. None, with nothing sealed, when the
        session may not send all of them.
        """

    def open(self, datagram: Buffer, now: float) -> tuple[Outcome, bytes]:
        """Open one datagram addressed to this session, without the source check; the packet is trimmed to its
        length.

        The bytes are empty unless the outcome is DATA or CONTROL.
        """

@final
class FirstDefence:
    """The first line of defence (paper §5.3) for an engine in Python: see `wgpy/engine/defence.py`."""

    def __new__(cls) -> FirstDefence: ...
    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """Keys made of our static public key, 32 octets each; None: no message passes."""

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """The same of a key that we had before: its messages pass as well."""

    def judge(self, message: bytes, source: bytes, port: int, depth: int, now: float) -> bytes | str | None:
        """What to do with an initiation or response that has its type's size and came from `source` (4 or
        16 octets) while `depth` others wait. None: it is worth a DH. A `str` is why it is dropped, `bytes`
        the cookie reply that its sender gets instead.
        """

@final
class Sieve:
    """Receives for an engine in Python during a flood (Linux), and keeps from it what it need not see.

    `indices`: which are in use, by handshakes and sessions; `sessions`: those of the sessions. Both are read
    at each call, and must hold nothing but ints as keys.
    """

    def __new__(
        cls, defence: FirstDefence, indices: dict[int, Any], sessions: dict[int, Session]
    ) -> Sieve: ...
    def receive(
        self,
        fd: int,
        is_ipv6: bool,
        buffer: bytearray,
        depth: int,
        now: float,
        drops_garbage: bool,
        most: int,
    ) -> tuple[tuple[int, int, int, _OriginTuple, bool] | None, list[tuple[str, int]], int]:
        """Receive from a UDP socket until something comes that is not to be dropped, at most `most` times.

        Initiations are judged as by `defence.judge`, and answered where that gives a cookie reply. Messages
        to indices that nobody has and transport data with counters that were received are dropped; with
        `drops_garbage` what is no message of WireGuard, too. Gives what is then in `buffer`, as its length,
        the size of each datagram, TOS, origin, and whether it is an initiation that has passed; None: nothing
        more is there, or `most` were dropped. Then why how many were dropped; and how many the kernel has
        thrown away unread since the socket was opened, 0 if it said nothing of it.
        """

@final
class Opened:
    """What one run of datagrams for one session came to."""

    @property
    def session(self) -> Session: ...
    @property
    def outcomes(self) -> list[Outcome]:
        """One for each datagram, in order."""

    @property
    def authenticated(self) -> int:
        """How many datagrams passed the tag and the replay window."""

    @property
    def data(self) -> int:
        """How many of those were not keepalives, refused and malformed ones included."""

    @property
    def rx_bytes(self) -> int:
        """Octets of the datagrams that were KEEPALIVE, DATA or CONTROL."""

    @property
    def dropped(self) -> int:
        """How many datagrams were not KEEPALIVE, DATA or CONTROL: 0 means that there is nothing to count."""

    @property
    def packets(self) -> list[bytes]:
        """What to write to the TUN, one write each: DATA, in order within a flow; coalesced when `vnet_hdr`
        was asked for.
        """

    @property
    def controls(self) -> list[bytes]:
        """The CONTROL messages."""

    def count(self, outcome: Outcome) -> int: ...

def open_datagrams(
    buffer: Buffer,
    length: int,
    segment_size: int,
    sessions: dict[int, Session],
    allowed_ips: AllowedIps,
    now: float,
    *,
    tos: int = 0,
    vnet_hdr: bool = False,
    coalesce_tcp: bool = True,
    coalesce_udp: bool = True,
) -> tuple[list[Opened], list[tuple[int, int]], int]:
    """Open what one receive with UDP_GRO brought: `length` octets of `buffer`, a datagram each `segment_size`
    octets.

    `sessions` is keyed by our index. `tos` is that of the outer header: congestion it reports is carried to
    the inner one. Gives, in order, an `Opened` for each run of datagrams for one session; the spans (start,
    end) of datagrams that are not transport data (their first four octets are not 4, 0, 0, 0); and how many
    transport datagrams were too short (less than 32 octets) or had an index that is not in `sessions`. With
    `vnet_hdr`, packets for the TUN begin with a virtio_net_hdr and those of one TCP or UDP flow are joined.
    """

@final
class ReplayWindow:
    """RFC 6479 over 8192 bits, of which 8128 behind the highest counter are usable."""

    def __new__(cls) -> ReplayWindow: ...
    def check_and_set(self, counter: int) -> bool:
        """True when the counter is new, which it is once. To be asked after authentication only."""

@final
class AllowedIps:
    """Which peer an address belongs to: longest prefix first, one peer a prefix. A peer is a number below
    2^32.

    An address is 4 or 16 octets. A lookup gives None when no prefix matches, and for what is not an IP
    packet.
    """

    def __new__(cls) -> AllowedIps: ...
    def insert(self, peer: int, address: bytes, prefix_length: int) -> None:
        """Give a prefix to a peer, taking it from the one that had it. Bits past its length are masked."""

    def insert_many(self, peer: int, prefixes: Iterable[tuple[bytes, int]]) -> None:
        """All or, with ValueError, none."""

    def remove(self, peer: int, address: bytes, prefix_length: int) -> bool:
        """False when the prefix is not this peer's."""

    def remove_peer(self, peer: int) -> None: ...
    def prefixes(self, peer: int) -> list[tuple[bytes, int]]:
        """A peer's prefixes: IPv4 first, each family in the order they came."""

    def __len__(self) -> int: ...
    def lookup(self, address: bytes) -> int | None: ...
    def lookup_source(self, packet: Buffer, *, vnet_hdr: bool = False) -> int | None: ...
    def lookup_destination(self, packet: Buffer, *, vnet_hdr: bool = False) -> int | None: ...
    def group_by_destination(
        self, packets: Iterable[_PacketT], *, vnet_hdr: bool = False
    ) -> list[tuple[int | None, list[_PacketT]]]:
        """The same packet objects, by peer, in order within each."""

def segment_count(packet: Buffer, *, vnet_hdr: bool = False) -> int:
    """How many packets a superpacket is split into; 0 for one that contradicts its own header."""

def longest_segment(packet: Buffer, *, vnet_hdr: bool = False) -> int:
    """Octets of the longest packet that it is split into; 0 for one that contradicts its own header."""

def fragment(packet: Buffer, mtu: int, identification: int, *, vnet_hdr: bool = False) -> list[bytes]:
    """The packets, those of more than `mtu` octets in fragments where that can be, without virtio_net_hdr; []
    for one that contradicts its own header. `identification`: 32 random bits, for IPv6.
    """

def split_superpacket(packet: Buffer) -> list[bytes]:
    """The packets, with complete checksums and without the virtio_net_hdr; [] for one that contradicts its
    own header.
    """

def coalesce(
    packets: Sequence[Buffer], *, coalesce_tcp: bool = True, coalesce_udp: bool = True
) -> list[bytes]:
    """Join packets (without virtio_net_hdr) of the same TCP or UDP flow into superpackets; each result begins
    with one.

    Only segments whose checksums are right are joined. The order within a flow stays.
    """

def looped_receiver_index(packet: Buffer, own_port: int, *, vnet_hdr: bool = False) -> int | None:
    """The receiver index of a packet from the TUN that is transport data sent from our own UDP port, else
    None.
    """

def aead_seal(key: bytes, counter: int, plaintext: Buffer, additional_data: Buffer | None = None) -> bytes:
    """AEAD of the paper: ChaCha20-Poly1305 with the nonce 0^32 ‖ LE64(counter); ciphertext ‖ tag."""

def aead_open(
    key: bytes, counter: int, ciphertext: Buffer, additional_data: Buffer | None = None
) -> bytes | None:
    """None when the tag is wrong."""

def aead_kernel() -> tuple[str, str | None]:
    """What seals and opens transport data in this process, in words, and a warning when that is not what
    `WGPY_AEAD` asks for, or not the best that the CPU has.
    """

def internet_checksum(data: Buffer, initial: int = 0) -> int:
    """RFC 1071: the complement of the ones' complement sum of `data` and `initial` (a partial sum below
    2^32).
    """

def boottime_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME: it counts suspend."""

def timerfd_create() -> int:
    """A new timerfd of CLOCK_BOOTTIME, non-blocking and close-on-exec. Raises OSError."""

def timerfd_settime(fd: int, deadline: float) -> None:
    """Make the fd readable at that instant (seconds of CLOCK_BOOTTIME; past: at once; infinity: never).
    Raises OSError.
    """

_EndpointTuple: TypeAlias = tuple[bytes, int, int]
"""Packed address, port, scope id."""

_OriginTuple: TypeAlias = tuple[bytes, int, int, bytes | None, int]
"""The same of the remote, then our address if it is known and the interface (0: not known)."""

_EventTuple: TypeAlias = (
    tuple[Literal["handshake"], bytes, _OriginTuple, int, int, int | None]
    | tuple[Literal["work"], int, int, int | None, _EndpointTuple | None]
    | tuple[Literal["control"], int, _OriginTuple, bytes]
    | tuple[Literal["other"], bytes, _OriginTuple]
    | tuple[Literal["failed"], str]
)
"""An event of `wgpy.protocol.actions`, its fields in their order, after the name of its kind."""

@final
class Engine:
    """The native engine (Linux): `wgpy.protocol.actions.Engine` and `wgpy.engine.DeviceEngine` tell what each
    method does, `wgpy/engine/native.py` joins the two. Instants are seconds of the boot-time clock.

    No method holds the GIL while it waits for a batch of packets.
    """

    def __new__(
        cls, *, tso: bool, uso: bool, gso: bool, gro: bool, staged_octets: int, socket_buffer: int
    ) -> Engine:
        """Which offloads to look for; octets of packets that wait for keys, all peers together, and octets
        asked for in each socket's queue, either way. Raises OSError.
        """

    def start(self) -> None:
        """Start its threads. Raises OSError."""

    def open(self, tun_fd: int, mtu: int, vnet_hdr: bool) -> None:
        """The descriptor is duplicated. Raises OSError."""

    def bind(self, port: int, fwmark: int) -> int: ...
    def unbind(self) -> None: ...
    def set_fwmark(self, mark: int) -> None: ...
    def set_mtu(self, mtu: int) -> None: ...
    def expect(self, stun_transactions: list[bytes], remotes: list[_EndpointTuple]) -> None: ...
    def close(self) -> None:
        """Join its threads, close the sockets, let go of the TUN, wipe all keys."""

    def events_fileno(self) -> int:
        """A descriptor that is readable while `drain_events` has something to give."""

    def drain_events(self) -> list[_EventTuple]: ...
    def drops(self) -> list[tuple[str, int]]:
        """Reasons of dropping that have occurred, with their counts."""

    def offloads(self) -> list[tuple[str, bool]]:
        """tso, uso, gso, gro: which are in use."""

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None: ...
    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None: ...
    def add_peer(self) -> int: ...
    def remove_peer(self, peer: int) -> None: ...
    def add_allowed_ips(self, peer: int, added: list[tuple[bytes, int]]) -> None: ...
    def remove_allowed_ips(self, peer: int, removed: list[tuple[bytes, int]]) -> None: ...
    def allowed_ips(self, peer: int) -> list[tuple[bytes, int]]: ...
    def set_endpoint(self, peer: int, to: _EndpointTuple | None) -> None: ...
    def forget_source(self, peer: int | None) -> None: ...
    def forget_sources_at(self, interface_index: int) -> None: ...
    def set_roaming(self, peer: int, follow: bool) -> None: ...
    def set_paths(self, peer: int, primary: _OriginTuple | None, also: list[_OriginTuple]) -> None: ...
    def set_path_mtu(self, peer: int, mtu: int) -> None: ...
    def set_relay(self, number: int, remote: _EndpointTuple | None, session: int) -> None: ...
    def reserve_index(self, peer: int) -> int | None:
        """None for a dead id."""

    def release_index(self, index: int) -> None: ...
    def send_handshake(self, peer: int, message: bytes) -> bool: ...
    def send_datagram(self, datagram: bytes, to: _EndpointTuple, source: _OriginTuple | None) -> None: ...
    def handshake_accepted(self, peer: int, origin: _OriginTuple, length: int, seq: int) -> None: ...
    def begin_session(
        self,
        peer: int,
        local_index: int,
        remote_index: int,
        is_initiator: bool,
        chaining_key: bytes,
        created_at: float,
        response: bytes | None,
    ) -> None: ...
    def expire_keypairs(self, peer: int) -> None: ...
    def wipe_keypairs(self, peer: int) -> None: ...
    def drop_staged(self, peer: int) -> None: ...
    def send_keepalive(self, peer: int) -> None: ...
    def send_control(self, peer: int, path: _OriginTuple | None, message: bytes) -> None: ...
    def facts(
        self, peer: int
    ) -> tuple[
        float | None,
        float | None,
        float | None,
        float | None,
        float | None,
        int,
        tuple[int, float, bool, bool] | None,
    ]:
        """`Facts`' fields in their order, with those of `CurrentKeypair` last."""

    def watch(self, peer: int, mask: int) -> None: ...
    def snapshot(self) -> list[tuple[int, _EndpointTuple | None, int, int]]:
        """Peer, endpoint, octets received and sent."""

@final
class Relay:
    """The forwarding half of a relay (Linux; docs/relay.md): a thread between its sockets."""

    def __new__(
        cls,
        port: int,
        other_port: int,
        *,
        most_sessions: int,
        rate_of_each: int,
        rate_of_all: int,
        receipt_key: bytes,
    ) -> Relay:
        """Listen on `port` (0 picks one), and for STUN on `other_port`, too (0: nowhere). Rates in octets a
        second, 0: no limit. `receipt_key`: 32 octets (`wgpy/mesh/receipt.py`). Raises OSError.
        """

    def ports(self) -> tuple[int, int | None]: ...
    def fileno(self) -> int:
        """A descriptor that is readable while `take_registrations` has something to give."""

    def take_registrations(self) -> list[tuple[bytes, _OriginTuple]]:
        """REGISTERs whose cookie is right, oldest first. Raises RuntimeError when the thread has failed."""

    def admit(self, network: bytes, id: int, session_key: bytes, origin: _OriginTuple) -> int | None:
        """A node's new session; None: there is no room."""

    def remove(self, network: bytes, id: int) -> bool:
        """End a node's session; False: it has none."""

    def send(self, datagram: bytes, to: _OriginTuple) -> None: ...
    def expire(self) -> int:
        """End sessions that were silent for too long; gives how many."""

    def drain(self) -> None:
        """Tell all nodes to use another relay; forwarding goes on."""

    def counts(self) -> list[tuple[str, int]]:
        """What was done so far, by name."""

    def close(self) -> None:
        """End the thread and close the sockets."""
