"""The paper's numbers, under the paper's names. Durations are float seconds, limits are counts.

Where the whitepaper, the kernel and wireguard-go differ, the kernel's behaviour is ours; the comment says so.
"""

from __future__ import annotations

from typing import Final

# --- names mixed into every handshake (paper §5.4) ---

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# --- life of a session (paper §6.1) ---

REKEY_AFTER_MESSAGES: Final = 1 << 60
"""Messages sent with one keypair after which a new handshake is due."""

REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1
"""Counters from here on are neither sent nor received. The whitepaper's; the kernel's is 63 higher."""

REKEY_AFTER_TIME: Final = 120.0
"""Age of a keypair at which its initiator, when it sends, starts a new handshake."""

REJECT_AFTER_TIME: Final = 180.0
"""Age of a keypair at which it neither sends nor receives."""

REKEY_TIMEOUT: Final = 5.0
"""Least time between two handshakes sent to a peer, and the wait before a retry."""

KEEPALIVE_TIMEOUT: Final = 10.0
"""Silence after received data that a keepalive breaks."""

REKEY_AFTER_TIME_RECEIVING: Final = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
"""Age at which the initiator, when it receives, starts a new handshake: 165 s."""

REKEY_ATTEMPT_TIME: Final = 90.0
"""The paper's limit for attempts; the kernel counts to `MAX_TIMER_HANDSHAKES` instead, and so do we."""

MAX_TIMER_HANDSHAKES: Final = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)
"""A retry gives up when *more* than these 18 attempts were counted: 20 initiations are sent in all."""

REKEY_TIMEOUT_JITTER_MAX: Final = 0.333
"""Uniform jitter added to a retry's wait, so that two ends do not retry in step for ever."""

NEW_HANDSHAKE_TIMEOUT: Final = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
"""Data sent and nothing heard for so long (plus jitter) starts a new handshake: 15 s."""

ZERO_KEY_MATERIAL_TIMEOUT: Final = 3 * REJECT_AFTER_TIME
"""After a session began, or attempts were given up, all key material is wiped: 540 s."""

# --- handshake under attack (paper §5.3, §5.4.7) ---

INITIATIONS_PER_SECOND: Final = 50
"""Initiations accepted of one peer: 20 ms apart at least."""

INITIATION_INTERVAL: Final = 1 / INITIATIONS_PER_SECOND

TIMESTAMP_GRANULARITY_NS: Final = 1 << 24
"""TAI64N stamps are rounded down to this: the 20 ms above, as the power of two below it (16.8 ms). It hides
our clock.
"""

COOKIE_SECRET_MAX_AGE: Final = 120.0
"""A responder's cookie secret is replaced at this age."""

COOKIE_SECRET_LATENCY: Final = 5.0
"""An initiator drops a cookie so much earlier: it may be this old when it arrives."""

UNDER_LOAD_QUEUE: Final = 4096
"""Room in the queue of handshake messages."""

UNDER_LOAD_DEPTH: Final = UNDER_LOAD_QUEUE // 8
"""Messages waiting from which on the interface is under load."""

UNDER_LOAD_HOLD: Final = 1.0
"""Once under load, it stays so for this long."""

UNPROVEN_PER_SECOND: Final = 200
"""Initiations a second that are worth a DH without a cookie, load or not; UNDER_LOAD_DEPTH at once. While
more come, none is."""

RATE_PER_SECOND: Final = 20
"""Handshake messages a second of one source address (IPv6: of one /64) while under load, with a valid
mac2.
"""

RATE_BURST: Final = 5

# --- configuration ---

MAX_PEERS: Final = 1 << 20
"""Peers of one interface. The kernel's; wireguard-go has 2^16."""

# --- packets ---

MESSAGE_PADDING: Final = 16
"""Transport plaintext is padded to a multiple of this, never beyond the MTU."""

MAX_STAGED_PACKETS: Final = 128
"""Packets that wait for a key, per peer; the oldest is dropped."""

REPLAY_BITS: Final = 8192
"""Bits of the replay bitmap (RFC 6479)."""

REPLAY_WINDOW: Final = REPLAY_BITS - 64
"""Counters that may come late: all bits but one word."""

HANDSHAKE_TOS: Final = 0x88
"""TOS octet of initiations and responses: AF41. Cookie replies and keepalives have 0."""

DEFAULT_MTU: Final = 1420
"""1500 less 40 (IPv6), 8 (UDP), 16 (transport header) and 16 (tag)."""
