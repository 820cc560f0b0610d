"""One peer: its handshake, its timers, and what they make the engine do.

`Interface` finds the peer that an event, a deadline or a setting concerns, calls one method here, then
`refresh`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from wgpy.addresses import Endpoint
from wgpy.keys import PresharedKey, PublicKey
from wgpy.protocol.actions import Engine, Fact, Facts, HandshakeMessage, Origin, PeerId, PeerWork, Work
from wgpy.protocol.constants import REKEY_TIMEOUT
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.messages import encode_initiation, encode_response, parse_response_untrusted
from wgpy.protocol.noise import Handshake, HandshakeState, Identity, OpenedInitiation
from wgpy.protocol.tai64n import TimestampSource
from wgpy.protocol.timers import Timer, Timers

logger = logging.getLogger(__name__)

AGENT_INITIATION_PRECEDENCE = 1.0
"""Between two agents, seconds for which the smaller static key's own initiation goes before the other's."""
MAX_REPEATS = 16
"""Copies of an initiation that are answered: a few for each candidate of the peer."""
CONFIRMATION_TIME = 1.0
"""Seconds after our response within which the first packet under its keys is taken for the keepalive that
answers it at once; later, that one was lost, and the time says nothing of the path."""


@dataclass(slots=True)
class LocalEnd:
    """What all peers of one interface share: this end of every handshake."""

    engine: Engine
    rng: RandomSource
    wall_clock_ns: Callable[[], int]
    timestamps: TimestampSource
    identity: Identity | None = field(default=None, repr=False)
    is_up: bool = False


class PathControl(Protocol):
    """Whoever decides where packets to a peer go, in place of the rule that they follow the peer's own."""

    def initiation_sent(self, peer: Peer, data: bytes, now: float) -> None:
        """These bytes went to the endpoint; they may go elsewhere too, and again, while none is answered."""

    def session_begun(self, peer: Peer, now: float) -> None: ...

    def heard_from(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        """An authenticated packet came from another endpoint than the one in use."""


class Peer:
    """A peer of the interface. Its settings are read here and changed through `Interface`."""

    def __init__(self, local: LocalEnd, public_key: PublicKey) -> None:
        self.public_key = public_key
        self.id: PeerId = local.engine.add_peer()
        self.endpoint: Endpoint | None = None
        """The latest the engine told; it follows the peer."""
        self.persistent_keepalive = 0
        """Seconds; 0: off."""
        self.is_agent = False
        """Both ends run our agent: mesh rules of simultaneous initiation hold."""
        self.path_control: PathControl | None = None
        self.last_handshake_ns = 0
        """Unix time at which a handshake was last completed; 0: never."""
        self.rtt: float | None = None
        """Seconds from our message of a handshake to what answered it, when that was last seen: the round
        trip, and both ends' work on it. None: not yet."""
        self.data_at = float("-inf")
        """When data, not a keepalive, was last seen to go either way; to the nearest ten seconds."""
        self.handshake = Handshake(public_key)
        self.cookies = CookieGenerator(bytes(public_key))
        self.timers = Timers(local.rng)
        self._local = local
        self._last_timestamp: bytes | None = None
        self._watched = Fact(0)
        self._rekey_waits = False
        """A rekey was asked for and the gate held it."""
        self._preceded: bytes | None = None
        """The hash of the initiation that ours took precedence over, since the last session."""
        self._responded: tuple[int, float] | None = None
        """The local index of the session that our last response began, and when."""
        self._response: tuple[bytes, float] | None = None
        """The response itself, and when it was sent; for copies of the initiation, until one arrived."""
        self._repeats = 0
        self.answered: bytes | None = None
        """The hash of the initiation that it answered, where copies are expected."""
        self.handshake.precompute_static_static(local.identity)

    def __repr__(self) -> str:
        return f"<Peer {self.public_key.short}>"

    @property
    def preshared_key(self) -> PresharedKey:
        return self.handshake.preshared_key

    # --- life ---

    def start(self, now: float) -> None:
        """The interface came up: what waited is sent, and a keepalive where one is kept up."""
        if self.persistent_keepalive:
            self.send_persistent_keepalive(now)
        elif self._facts().staged:
            self._local.engine.send_keepalive(self.id)

    def stop(self) -> None:
        """The interface goes down: no timers, no keys, nothing staged."""
        self.timers = Timers(self._local.rng)
        self.wipe()
        self._local.engine.drop_staged(self.id)

    def wipe(self) -> None:
        """Forget every key but the configured ones."""
        self._clear_handshake()
        self._local.engine.wipe_keypairs(self.id)

    def change_identity(self) -> None:
        """Our private key is another: handshakes under way are void, keypairs only receive from now on."""
        self._clear_handshake()
        self.handshake.precompute_static_static(self._local.identity)
        self._local.engine.expire_keypairs(self.id)
        self.timers.open_gate()

    def rotate_identity(self) -> None:
        """We have a new private key and are the same node: handshakes under way are void, the session goes
        on.
        """
        self._clear_handshake()
        self.handshake.precompute_static_static(self._local.identity)
        self.timers.open_gate()

    def take_key(self, public_key: PublicKey) -> None:
        """The same peer has a new key: handshakes from now on are with it, the session goes on."""
        self._clear_handshake()
        preshared_key = self.handshake.preshared_key
        self.public_key = public_key
        self.handshake = Handshake(public_key)
        self.handshake.preshared_key = preshared_key
        self.handshake.precompute_static_static(self._local.identity)
        self.cookies = CookieGenerator(bytes(public_key))
        self._last_timestamp = self._preceded = self.answered = None
        self.timers.open_gate()

    def _clear_handshake(self) -> None:
        if self.handshake.local_index is not None:
            self._local.engine.release_index(self.handshake.local_index)
        self.handshake.clear()
        self._response = None

    # --- handshake ---

    def request_handshake(self, now: float) -> bool:
        """Send an initiation unless the gate is closed. False: it is, or there is nobody to shake hands with.

        Asking counts as a first attempt even then.
        """
        self.timers.attempts = 0
        return self.timers.gate_is_open(now) and self._send_initiation(now)

    def _send_initiation(self, now: float) -> bool:
        local = self._local
        if local.identity is None or not local.is_up or not self.handshake.has_shared_secret:
            return False
        if self.handshake.local_index is not None:
            local.engine.release_index(self.handshake.local_index)
        index = local.engine.reserve_index(self.id)
        self._last_timestamp = local.timestamps.create(self._last_timestamp, local.wall_clock_ns())
        message = self.handshake.create_initiation(
            local.identity, index, self._last_timestamp, local.rng, now
        )
        self._rekey_waits = False
        data = self.cookies.add_macs(encode_initiation(message), now)
        local.engine.send_handshake(self.id, data)
        self.timers.handshake_initiated(self._facts().authenticated_sent_last, now)
        if self.path_control is not None:
            self.path_control.initiation_sent(self, data, now)
        logger.debug(
            "%s: sent handshake initiation, attempt %d", self.public_key.short, self.timers.attempts + 1
        )
        return True

    def claim_precedence_over_initiation(self, digest: bytes, now: float) -> bool:
        """Insist on our own initiation, sent under a second ago; True: the one that just came is to be
        ignored.

        Two agents that start at once would else both respond, both drop the initiation they had sent, and
        refuse each other's response: the tunnel waits for a retry. The larger static key needs no rule: it
        responds, and that is giving up its own. One of theirs between two sessions, and its copies (by its
        hash `digest`), is enough: where ours do not arrive and theirs do, insisting would keep the tunnel
        down for ever.
        """
        created_at = self.handshake.initiation_created_at
        precedes = (
            self.is_agent
            and self._preceded in (None, digest)
            and self.handshake.state is HandshakeState.CREATED_INITIATION
            and created_at is not None
            and now - created_at < AGENT_INITIATION_PRECEDENCE
            and not self._gives_way()
        )
        if precedes:
            self._preceded = digest
        return precedes

    def _gives_way(self) -> bool:
        """Of two ends that initiate at once, the one with the larger static key gives way."""
        return self._local.identity is not None and self.public_key < self._local.identity.public

    def consume_initiation_untrusted(
        self, opened: OpenedInitiation, event: HandshakeMessage, now: float
    ) -> None:
        """Respond to an initiation that is ours to answer. Raises InvalidMessage, and nothing has changed."""
        engine = self._local.engine
        self.handshake.consume_initiation_untrusted(opened, now)
        engine.handshake_accepted(self.id, event.origin, len(event.data), event.seq)
        if self.handshake.local_index is not None:
            engine.release_index(self.handshake.local_index)
        response = self.handshake.create_response(engine.reserve_index(self.id), self._local.rng)
        data = self.cookies.add_macs(encode_response(response), now)
        self._response, self._repeats = (data, now), 0
        self._begin_session(data, now)
        self.timers.handshake_responded(self._facts().authenticated_sent_last, self._gives_way(), now)
        logger.debug("%s: sent handshake response", self.public_key.short)

    def answer_again(self, origin: Origin, now: float) -> None:
        """A copy of the initiation that was answered last came by another way, or again: so does the answer.

        Anyone who saw the initiation can send copies: a few are answered, with less than they are.
        """
        if self._response is None:
            return
        data, sent_at = self._response
        if now - sent_at < REKEY_TIMEOUT and self._repeats < MAX_REPEATS:
            self._repeats += 1
            self._local.engine.send_datagram(data, origin.remote, origin)

    def consume_response_untrusted(self, event: HandshakeMessage, now: float) -> None:
        """Finish the handshake we began. Raises InvalidMessage, and nothing has changed."""
        assert self._local.identity is not None
        message = parse_response_untrusted(event.data)
        self.handshake.consume_response_untrusted(message, self._local.identity)
        self._local.engine.handshake_accepted(self.id, event.origin, len(event.data), event.seq)
        if self.handshake.initiation_created_at is not None:
            self.rtt = now - self.handshake.initiation_created_at
        self._begin_session(None, now)
        self._handshake_complete()

    def _begin_session(self, response: bytes | None, now: float) -> None:
        session = self.handshake.begin_session()
        self._responded = None if session.is_initiator else (session.local_index, now)
        self._local.engine.begin_session(
            self.id,
            local_index=session.local_index,
            remote_index=session.remote_index,
            is_initiator=session.is_initiator,
            chaining_key=session.chaining_key,
            created_at=now,
            response=response,
        )
        self.timers.session_derived(now)
        if self.path_control is not None:
            self.path_control.session_begun(self, now)

    def _handshake_complete(self) -> None:
        self.last_handshake_ns = self._local.wall_clock_ns()
        self._preceded = None
        self._rekey_waits = False
        self.timers.handshake_complete()
        logger.debug("%s: handshake complete", self.public_key.short)

    def _measure_confirmation(self, confirmed_index: int | None, now: float) -> None:
        """The initiator confirms with what it has, or with a keepalive, as soon as it has our response."""
        if self._responded is not None:
            index, responded_at = self._responded
            if index == confirmed_index and now - responded_at <= CONFIRMATION_TIME:
                self.rtt = now - responded_at
            self._responded = None

    # --- what the engine wants ---

    def handle_work(self, work: PeerWork, now: float) -> None:
        """CONFIRMED goes first: the other bits are judged by what it leaves."""
        if work.bits & Work.ENDPOINT:
            if self.path_control is None:
                self.endpoint = work.endpoint
            elif work.endpoint is not None:
                self.path_control.heard_from(self, work.endpoint, now)
        if work.bits & Work.CONFIRMED:
            self._response = None
            self._handshake_complete()
            self._measure_confirmation(work.confirmed_index, now)
        if work.bits & Work.FACT:
            self._watched = Fact(0)
        if work.bits & (Work.REKEY_SEND | Work.REKEY_RECEIVE):
            self._rekey(now)
        if work.bits & Work.NEED_KEY:
            self.need_key(now)

    def _rekey(self, now: float) -> None:
        """The engine asks once, so what the gate holds now is asked for again when it opens; unless the
        session in use came of the handshake that closed it: then the one before was meant, and it was told
        late.
        """
        if not self.request_handshake(now) and not self.timers.gate_is_open(now) and not self._is_renewed():
            self._rekey_waits = True
            self.timers.wait_for_gate(self._gives_way())

    def _is_renewed(self) -> bool:
        current, sent_at = self._facts().current, self.timers.handshake_sent_at
        return current is not None and sent_at is not None and current.created_at >= sent_at

    def need_key(self, now: float) -> None:
        """See to it that what is staged gets a key, at the latest when the gate opens."""
        facts = self._facts()
        if facts.staged == 0 or (facts.current is not None and facts.current.may_send):
            return
        if not self.request_handshake(now) and not self.timers.gate_is_open(now):
            self.timers.wait_for_gate(self._gives_way())

    # --- time ---

    def refresh(self, now: float) -> None:
        """Read the facts anew, and derive deadlines and the watch of them. Follows every call of the
        others.
        """
        if not self._local.is_up:
            self._watch(Fact(0))
            return
        facts = self._facts()
        for at in (facts.data_sent_first, facts.data_received_last):
            if at is not None:
                self.data_at = max(self.data_at, at)
        self._watch(self.timers.observe(facts, self.persistent_keepalive, now))

    def handle_timeout(self, now: float) -> None:
        """Do what is due. Facts may have moved on since the deadline was made, so each is looked at anew."""
        for timer, expired in (
            (Timer.ZERO_KEY_MATERIAL, self._zero_key_material_expired),
            (Timer.RETRANSMIT_HANDSHAKE, self._retransmit_handshake_expired),
            (Timer.WAIT_FOR_GATE, self._wait_for_gate_expired),
            (Timer.NEW_HANDSHAKE, self._new_handshake_expired),
            (Timer.SEND_KEEPALIVE, self._send_keepalive_expired),
            (Timer.PERSISTENT_KEEPALIVE, self.send_persistent_keepalive),
        ):
            if self.timers.is_due(timer, now):
                self.refresh(now)
                if self.timers.is_due(timer, now):
                    expired(now)

    def _zero_key_material_expired(self, now: float) -> None:
        self.timers.zero_key_material_expired()
        self.wipe()
        logger.debug("%s: wiped all keys", self.public_key.short)

    def _retransmit_handshake_expired(self, now: float) -> None:
        retry = self.timers.retransmit_handshake_expired(now)
        if retry:
            self._local.engine.forget_source(self.id)
            self._send_initiation(now)
        elif retry is False:
            logger.debug("%s: gave up after %d attempts", self.public_key.short, self.timers.attempts + 1)
            self._local.engine.drop_staged(self.id)
            self.timers.handshake_given_up(self._facts(), now)
            self._rekey_waits = False
            # What is sent from now on may ask for a rekey again.
            self._local.engine.watch(self.id, self._watched)

    def _wait_for_gate_expired(self, now: float) -> None:
        self.timers.wait_for_gate_expired()
        if self._rekey_waits:
            self._rekey(now)
        else:
            self.need_key(now)

    def _new_handshake_expired(self, now: float) -> None:
        self.timers.new_handshake_expired(self._facts())
        self._local.engine.forget_source(self.id)
        self.request_handshake(now)

    def _send_keepalive_expired(self, now: float) -> None:
        before = self._facts()
        self._local.engine.send_keepalive(self.id)
        self.timers.send_keepalive_expired(before, self._facts(), now)

    def send_persistent_keepalive(self, now: float) -> None:
        """Send what is staged, else an empty packet."""
        self.timers.persistent_keepalive_sent(now)
        self._local.engine.send_keepalive(self.id)

    def _facts(self) -> Facts:
        return self._local.engine.facts(self.id)

    def _watch(self, mask: Fact) -> None:
        if mask != self._watched:
            self._watched = mask
            self._local.engine.watch(self.id, mask)
