"""The handshake: Noise_IKpsk2 as WireGuard has it (paper §5.4.2–5.4.4).

    initiator                                             responder
    create_initiation             → e, es, s, ss, {t} →   open_initiation_untrusted
                                                          consume_initiation_untrusted
    consume_response_untrusted    ← e, ee, se, psk, {} ←  create_response
    begin_session                                         begin_session

One `Handshake` a peer. Its states are facts in the past tense, the kernel's five. A message of a stranger
is worked out in a `Transcript` of its own and written to the handshake in one go once all of it is
verified: what does not authenticate changes nothing. The functions `…_untrusted` raise InvalidMessage,
nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from wgpy.errors import InvalidMessage
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import crypto
from wgpy.protocol.constants import CONSTRUCTION, IDENTIFIER, INITIATION_INTERVAL
from wgpy.protocol.messages import Initiation, Response

INITIAL_CHAINING_KEY: Final = crypto.hash(CONSTRUCTION)
INITIAL_HASH: Final = crypto.hash(INITIAL_CHAINING_KEY, IDENTIFIER)


class HandshakeState(enum.Enum):
    """What happened last. Only CREATED_INITIATION may consume a response, only CONSUMED_INITIATION create
    one.
    """

    ZEROED = enum.auto()
    CREATED_INITIATION = enum.auto()
    CONSUMED_INITIATION = enum.auto()
    CREATED_RESPONSE = enum.auto()
    CONSUMED_RESPONSE = enum.auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """Our static key pair."""

    private: PrivateKey
    public: PublicKey

    @classmethod
    def of(cls, private: PrivateKey) -> Identity:
        return cls(private, private.public_key())


@dataclass(slots=True, repr=False)
class Transcript:
    """The paper's C and H while a message is made or read, and the key of its next sealed field."""

    chaining_key: bytes
    hash: bytes
    key: bytes = b""

    @classmethod
    def begin(cls, responder_public: bytes) -> Transcript:
        return cls(INITIAL_CHAINING_KEY, crypto.hash(INITIAL_HASH, responder_public))

    def __repr__(self) -> str:
        return "Transcript(…)"

    def mix_hash(self, data: bytes) -> None:
        self.hash = crypto.hash(self.hash, data)

    def mix_ephemeral(self, public: bytes) -> None:
        self.mix_hash(public)
        self.chaining_key = crypto.kdf1(self.chaining_key, public)

    def mix_dh(self, product: bytes) -> None:
        self.chaining_key, self.key = crypto.kdf2(self.chaining_key, product)

    def mix_psk(self, psk: bytes) -> None:
        self.chaining_key, tau, self.key = crypto.kdf3(self.chaining_key, psk)
        self.mix_hash(tau)

    def seal(self, plaintext: bytes) -> bytes:
        sealed = crypto.aead_seal(self.key, 0, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open_untrusted(self, sealed: bytes) -> bytes:
        plaintext = crypto.aead_open(self.key, 0, sealed, self.hash)
        self.mix_hash(sealed)
        return plaintext


@dataclass(frozen=True, slots=True)
class OpenedInitiation:
    """An initiation that proved to be `handshake`'s peer's, and is not yet judged for replay or consumed."""

    handshake: Handshake
    message: Initiation
    timestamp: bytes
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Session:
    """What a finished handshake leaves: transport keys are KDF₂(chaining key, ε), sending first for the
    initiator.
    """

    chaining_key: bytes = field(repr=False)
    local_index: int
    remote_index: int
    is_initiator: bool


def open_initiation_untrusted(
    message: Initiation, identity: Identity, find: Callable[[PublicKey], Handshake | None]
) -> OpenedInitiation:
    """Find out whose initiation it is and prove it. Changes nothing. Raises InvalidMessage."""
    transcript = Transcript.begin(bytes(identity.public))
    # e
    transcript.mix_ephemeral(message.ephemeral)
    # es
    transcript.mix_dh(crypto.x25519(identity.private, message.ephemeral))
    # s
    handshake = find(PublicKey(transcript.open_untrusted(message.static)))
    if handshake is None:
        raise InvalidMessage("no peer has this static key")
    # ss
    transcript.mix_dh(handshake.static_static_untrusted(identity))
    # {t}
    timestamp = transcript.open_untrusted(message.timestamp)
    return OpenedInitiation(handshake, message, timestamp, transcript)


class Handshake:
    """The handshake with one peer: at most one is under way, a newer one takes its place."""

    def __init__(self, remote_static: PublicKey) -> None:
        self.remote_static: Final = remote_static
        self.preshared_key = PresharedKey.zero()
        self.state = HandshakeState.ZEROED
        self.local_index: int | None = None
        self.remote_index: int | None = None
        # These outlive handshakes and sessions: they are what replays and floods are judged by.
        self.latest_timestamp = bytes(12)
        self.last_consumed_at: float | None = None
        self.initiation_created_at: float | None = None
        self._identity: Identity | None = None
        self._static_static: bytes | None = None
        self._ephemeral: PrivateKey | None = None
        self._remote_ephemeral = b""
        self._transcript: Transcript | None = None

    def __repr__(self) -> str:
        return f"<Handshake with {self.remote_static.short}: {self.state.name.lower()}>"

    def precompute_static_static(self, identity: Identity | None) -> None:
        """To be called when the private key changes. A low-order public key is as good as none: it gets no
        packet.
        """
        self._identity, self._static_static = identity, None
        if identity is not None:
            try:
                self._static_static = identity.private.exchange(self.remote_static)
            except ValueError:
                self._static_static = None

    def static_static_untrusted(self, identity: Identity) -> bytes:
        """DH of both static keys, of which ours may be an earlier one. Raises InvalidMessage when it is zero,
        or there is no private key.
        """
        if self._identity is not None and identity is not self._identity:
            return crypto.x25519(identity.private, bytes(self.remote_static))
        if self._static_static is None:
            raise InvalidMessage("no secret shared with this static key")
        return self._static_static

    @property
    def has_shared_secret(self) -> bool:
        """Whether a handshake can be made at all: there is a private key, and the public key is not of low
        order.
        """
        return self._static_static is not None

    def clear(self) -> None:
        """Forget all secrets of the handshake under way; the caller frees `local_index` first."""
        self.state = HandshakeState.ZEROED
        self.local_index = self.remote_index = None
        self._ephemeral = None
        self._remote_ephemeral = b""
        self._transcript = None

    # --- initiator ---

    def create_initiation(
        self, identity: Identity, index: int, timestamp: bytes, rng: crypto.RandomSource, now: float
    ) -> Initiation:
        """A new initiation in place of whatever was under way; the caller frees its index first.

        Raises ValueError when there is no shared secret.
        """
        if self._static_static is None:
            raise ValueError("no secret shared with this static key")
        transcript = Transcript.begin(bytes(self.remote_static))
        # e
        ephemeral = crypto.generate_ephemeral(rng)
        ephemeral_public = bytes(ephemeral.public_key())
        transcript.mix_ephemeral(ephemeral_public)
        # es
        transcript.mix_dh(ephemeral.exchange(self.remote_static))
        # s
        static = transcript.seal(bytes(identity.public))
        # ss
        transcript.mix_dh(self._static_static)
        # {t}
        sealed_timestamp = transcript.seal(timestamp)
        self.clear()
        self._ephemeral = ephemeral
        self._transcript = transcript
        self.local_index = index
        self.initiation_created_at = now
        self.state = HandshakeState.CREATED_INITIATION
        return Initiation(index, ephemeral_public, static, sealed_timestamp)

    def consume_response_untrusted(self, message: Response, identity: Identity) -> None:
        """The answer to our initiation. Raises InvalidMessage, and nothing has changed."""
        if self.state is not HandshakeState.CREATED_INITIATION or message.receiver_index != self.local_index:
            raise InvalidMessage("answers no initiation under way")
        assert self._transcript is not None
        assert self._ephemeral is not None
        transcript = replace(self._transcript)
        # e
        transcript.mix_ephemeral(message.ephemeral)
        # ee
        transcript.mix_dh(crypto.x25519(self._ephemeral, message.ephemeral))
        # se
        transcript.mix_dh(crypto.x25519(identity.private, message.ephemeral))
        # psk
        transcript.mix_psk(bytes(self.preshared_key))
        # {}
        transcript.open_untrusted(message.nothing)
        self._transcript = transcript
        self._remote_ephemeral = message.ephemeral
        self.remote_index = message.sender_index
        self.state = HandshakeState.CONSUMED_RESPONSE

    # --- responder ---

    def consume_initiation_untrusted(self, opened: OpenedInitiation, now: float) -> None:
        """Take up an initiation that is no replay and does not come too fast, in place of whatever was
        under way.

        The index reserved for our own handshake stays in `local_index` until the caller frees it. Raises
        InvalidMessage, and nothing has changed.
        """
        if opened.timestamp <= self.latest_timestamp:
            raise InvalidMessage("a replayed initiation")
        if self.last_consumed_at is not None and now < self.last_consumed_at + INITIATION_INTERVAL:
            raise InvalidMessage("initiations come too fast")
        self.latest_timestamp = opened.timestamp
        self.last_consumed_at = now
        self._ephemeral = None
        self._remote_ephemeral = opened.message.ephemeral
        self._transcript = opened.transcript
        self.remote_index = opened.message.sender_index
        self.state = HandshakeState.CONSUMED_INITIATION

    def create_response(self, index: int, rng: crypto.RandomSource) -> Response:
        """The answer to the initiation just consumed. Raises ValueError in any other state."""
        if self.state is not HandshakeState.CONSUMED_INITIATION:
            raise ValueError(f"no initiation to answer: {self.state.name.lower()}")
        assert self._transcript is not None
        assert self.remote_index is not None
        transcript = replace(self._transcript)
        # e
        ephemeral = crypto.generate_ephemeral(rng)
        ephemeral_public = bytes(ephemeral.public_key())
        transcript.mix_ephemeral(ephemeral_public)
        # ee: a low-order ephemeral has failed at es already
        transcript.mix_dh(ephemeral.exchange(PublicKey(self._remote_ephemeral)))
        # se: a low-order static key has failed at ss already
        transcript.mix_dh(ephemeral.exchange(self.remote_static))
        # psk
        transcript.mix_psk(bytes(self.preshared_key))
        # {}
        nothing = transcript.seal(b"")
        self._transcript = transcript
        self.local_index = index
        self.state = HandshakeState.CREATED_RESPONSE
        return Response(index, self.remote_index, ephemeral_public, nothing)

    # --- both ---

    def begin_session(self) -> Session:
        """Hand over what the transport keys are made of, and forget it. Raises ValueError before both
        messages.
        """
        is_initiator = self.state is HandshakeState.CONSUMED_RESPONSE
        if not is_initiator and self.state is not HandshakeState.CREATED_RESPONSE:
            raise ValueError(f"no finished handshake: {self.state.name.lower()}")
        assert self._transcript is not None
        assert self.local_index is not None
        assert self.remote_index is not None
        session = Session(self._transcript.chaining_key, self.local_index, self.remote_index, is_initiator)
        self.clear()
        return session
