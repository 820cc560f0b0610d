"""mac1, mac2 and the cookie between them (paper §5.3, §5.4.4, §5.4.7).

Every initiation and response ends in two macs. mac1 proves that its sender knows whom it talks to, and is
always checked. mac2 proves that the sender receives at the address it claims: its key, the cookie, is a mac
over that address and port which only we can compute and which we send, sealed, when we are under load.

`CookieChecker` is the receiving end's half, one per interface; `CookieGenerator` the sending end's, one per
peer.
"""

from __future__ import annotations

import enum

from wgpy.errors import InvalidMessage
from wgpy.protocol import crypto
from wgpy.protocol.constants import (
    COOKIE_SECRET_LATENCY,
    COOKIE_SECRET_MAX_AGE,
    LABEL_COOKIE,
    LABEL_MAC1,
)
from wgpy.protocol.messages import (
    COOKIE_NONCE_SIZE,
    MAC_SIZE,
    MACS_SIZE,
    CookieReply,
    encode_cookie_reply,
    parse_cookie_reply_untrusted,
    sender_index_untrusted,
)


def mac1_key(public: bytes) -> bytes:
    """Key of mac1 in messages to the owner of this static public key; 32 octets."""
    return crypto.hash(LABEL_MAC1, public)


def cookie_key(public: bytes) -> bytes:
    """Key under which the owner of this static public key seals cookies; 32 octets."""
    return crypto.hash(LABEL_COOKIE, public)


def is_meant_for(key: bytes, message: bytes) -> bool:
    """Whether the mac1 of a message was made with this key."""
    return crypto.equal(crypto.mac(key, message[:-MACS_SIZE]), message[-MACS_SIZE:-MAC_SIZE])


class MacState(enum.Enum):
    """What the macs of a message prove."""

    INVALID_MAC1 = enum.auto()
    """Drop it silently."""
    VALID_MAC1_NO_COOKIE = enum.auto()
    """It knows us. Under load it gets a cookie reply, else it is handled."""
    VALID_MAC2 = enum.auto()
    """It knows us and receives where it says: under load it is subject to the rate limit alone."""


class CookieChecker:
    """Judges macs and seals cookies. A source is its packed address ‖ its port, two octets big-endian."""

    def __init__(self, rng: crypto.RandomSource) -> None:
        self._rng = rng
        self._current: tuple[bytes, bytes] | None = None
        self._previous: tuple[bytes, bytes] | None = None
        self._secret = bytes(32)
        self._secret_created_at: float | None = None

    def __repr__(self) -> str:
        return f"<CookieChecker {'with' if self._current else 'without'} identity>"

    def set_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """Keys made of our static public key by the functions above; None: no message passes."""
        self._current = None if mac1_key is None or cookie_key is None else (mac1_key, cookie_key)

    def set_previous_identity(self, mac1_key: bytes | None, cookie_key: bytes | None) -> None:
        """The same of a key that we had before, whose messages pass as well; None: there is none."""
        self._previous = None if mac1_key is None or cookie_key is None else (mac1_key, cookie_key)

    def _cookie_key_for(self, message: bytes) -> bytes | None:
        """That of the identity that the message is meant for; None: it is for none of ours."""
        for keys in (self._current, self._previous):
            if keys is not None and is_meant_for(keys[0], message):
                return keys[1]
        return None

    def check(self, message: bytes, source: bytes, now: float) -> MacState:
        """Judge an initiation or response that has the size of its type."""
        if self._cookie_key_for(message) is None:
            return MacState.INVALID_MAC1
        mac2 = message[-MAC_SIZE:]
        if mac2 == bytes(MAC_SIZE):  # none was made: spare the two macs of looking
            return MacState.VALID_MAC1_NO_COOKIE
        if not crypto.equal(crypto.mac(self._cookie(source, now), message[:-MAC_SIZE]), mac2):
            return MacState.VALID_MAC1_NO_COOKIE
        return MacState.VALID_MAC2

    def create_reply(self, message: bytes, source: bytes, now: float) -> bytes:
        """The cookie reply (64 octets) to a message whose mac1 was found valid."""
        cookie_key = self._cookie_key_for(message)
        if cookie_key is None:
            raise ValueError("no identity to seal a cookie with")
        nonce = self._rng.randbytes(COOKIE_NONCE_SIZE)
        mac1 = message[-MACS_SIZE:-MAC_SIZE]
        cookie = crypto.xaead_seal(cookie_key, nonce, self._cookie(source, now), mac1)
        return encode_cookie_reply(CookieReply(sender_index_untrusted(message), nonce, cookie))

    def _cookie(self, source: bytes, now: float) -> bytes:
        created_at = self._secret_created_at
        if created_at is None or now - created_at >= COOKIE_SECRET_MAX_AGE:
            self._secret = self._rng.randbytes(32)
            self._secret_created_at = now
        return crypto.mac(self._secret, source)


class CookieGenerator:
    """Makes the macs of messages to one peer, and remembers the cookie that peer sent."""

    def __init__(self, peer_public: bytes) -> None:
        self._mac1_key = mac1_key(peer_public)
        self._cookie_key = cookie_key(peer_public)
        self._last_mac1: bytes | None = None
        self._cookie: bytes | None = None
        self._cookie_received_at = 0.0

    def __repr__(self) -> str:
        return f"<CookieGenerator {'with' if self._cookie else 'without'} cookie>"

    def add_macs(self, message_without_macs: bytes, now: float) -> bytes:
        """The message with mac1, and mac2 while we hold a cookie young enough."""
        mac1 = crypto.mac(self._mac1_key, message_without_macs)
        self._last_mac1 = mac1
        message = message_without_macs + mac1
        # Dropped some seconds early: the secret behind it may be older than the reply was when it came.
        if self._cookie and now - self._cookie_received_at >= COOKIE_SECRET_MAX_AGE - COOKIE_SECRET_LATENCY:
            self._cookie = None
        return message + (crypto.mac(self._cookie, message) if self._cookie else bytes(MAC_SIZE))

    def consume_reply(self, reply: bytes, now: float) -> bool:
        """Take the cookie out of a reply. False, and nothing changes, unless it answers the last message we
        sent.

        The mac1 is forgotten once answered, so that a reply works once.
        """
        if self._last_mac1 is None:
            return False
        try:
            message = parse_cookie_reply_untrusted(reply)
            cookie = crypto.xaead_open(self._cookie_key, message.nonce, message.cookie, self._last_mac1)
        except InvalidMessage:
            return False
        self._cookie = cookie
        self._cookie_received_at = now
        self._last_mac1 = None
        return True
