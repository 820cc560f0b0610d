"""A relay on this host: the forwarding thread of Rust, who judges registrations, and the coordinator's news.

Packets never come here. A relay keeps nothing but its key; what it does not know after a start it asks.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from wgpy import _engine
from wgpy.addresses import Endpoint
from wgpy.agent.client import CoordinatorClient, Trust
from wgpy.agent.follow import Backoff
from wgpy.clock import boottime
from wgpy.errors import CoordinatorError, HostError
from wgpy.mesh.receipt import ReceiptKey
from wgpy.mesh.relay import relay_id_of
from wgpy.mesh.relay_token import RelayToken
from wgpy.mesh.relays import RelayCheckin, digest_of
from wgpy.relay.admission import Admission, Node

logger = logging.getLogger(__name__)

TIDY_INTERVAL: Final = 10.0
DRAIN_TIME: Final = 5.0
"""Seconds for which a relay that was told to stop still forwards, at most."""
QUIET_TIME: Final = 0.5
"""Seconds without a packet after which it may stop before that."""
ASK_INTERVAL: Final = 1.0
"""Seconds between two questions to the coordinator, at least, however fast it answers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`port` of UDP, both families; STUN answers on the next, too. Rates in octets a second, 0: no limit."""

    port: int
    most_sessions: int = 65536
    rate_of_each: int = 0
    rate_of_all: int = 0


class RelayServer:
    """`run` until it is cancelled, after `drain` if nodes are to lose nothing. Raises HostError when it
    cannot listen.
    """

    def __init__(self, token: RelayToken, settings: Settings) -> None:
        self._token = token
        self._admission = Admission(token.key, token.identity, os.urandom)
        self._client = CoordinatorClient(token.urls, Trust(token.identity.hash, token.pinned))
        self.id = self._admission.id
        other = settings.port + 1 if 0 < settings.port < 65535 else 0
        try:
            self._relay = _engine.Relay(
                settings.port,
                other,
                most_sessions=settings.most_sessions,
                rate_of_each=settings.rate_of_each,
                rate_of_all=settings.rate_of_all,
                receipt_key=ReceiptKey.of_relay(token.key).secret,
            )
        except OSError as error:
            raise HostError(f"cannot listen on UDP port {settings.port}: {error.strerror}") from None
        self.port, self.other_port = self._relay.ports()
        self.contacted = trio.Event()
        """Set once the coordinator was reached."""
        self._is_draining = False

    def close(self) -> None:
        self._relay.close()

    def counts(self) -> dict[str, int]:
        """What was done so far, by name."""
        return dict(self._relay.counts())

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Raises HostError when the forwarding thread fails."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._judge)
            nursery.start_soon(self._tidy)
            nursery.start_soon(self._follow)
            task_status.started()

    async def drain(self) -> None:
        """Tell all nodes to go elsewhere, and forward until they have."""
        self._is_draining = True
        if not self.counts()["sessions"]:
            return
        self._relay.drain()
        before = -1
        with trio.move_on_after(DRAIN_TIME):
            while (forwarded := self.counts()["forwarded"]) != before:
                before = forwarded
                await trio.sleep(QUIET_TIME)

    def forget(self, removed: Iterable[Node]) -> None:
        """These nodes are members no more: their sessions end, their tickets are refused."""
        for node in self._admission.remove(removed):
            self._end_session(node, "was removed from its network")

    def keep_out(self, nodes: Iterable[Node]) -> None:
        """These nodes, and no others, may not use their network for now: the same, until another word."""
        for node in self._admission.keep_out(nodes):
            self._end_session(node, "may not use its network for now")

    def _end_session(self, node: Node, why: str) -> None:
        if self._relay.remove(bytes.fromhex(node.network), relay_id_of(node.id)):
            logger.info("node %s %s", node.id[:8], why)

    # --- registrations ------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._relay.fileno())
            try:
                waiting = self._relay.take_registrations()
            except RuntimeError as error:
                raise HostError(f"the relay failed: {error}") from None
            for data, origin in waiting:
                address, port, scope_id, _, _ = origin
                remote = Endpoint(ipaddress.ip_address(address), port, scope_id)
                answer = self._admission.judge(data, remote, self._admitter(origin), boottime(), time.time())
                if answer is not None:
                    self._relay.send(answer, origin)
                await trio.lowlevel.checkpoint()

    def _admitter(self, origin: _engine._OriginTuple) -> Callable[[bytes, int, bytes], int | None]:
        return lambda network, peer, key: self._relay.admit(network, peer, key, origin)

    async def _tidy(self) -> None:
        while True:
            await trio.sleep(TIDY_INTERVAL)
            self._relay.expire()
            self._admission.tidy(boottime())

    # --- the coordinator ----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Ask who was removed or is kept out, again and again. What is known stays good while nobody
        answers.
        """
        since, backoff, state = 0, Backoff(), ""
        while True:
            began = trio.current_time()
            try:
                since = await self._ask(since)
            except CoordinatorError as error:
                if str(error) != state:
                    state = str(error)
                    logger.warning("%s; tickets are honoured all the same", state)
                await trio.sleep(backoff.next_wait())
                continue
            backoff.reset()
            if state:
                logger.info("the coordinator answers again")
                state = ""
            await trio.sleep_until(began + ASK_INTERVAL)

    async def _ask(self, since: int) -> int:
        fights = tuple(node.id for node in self._admission.fights)[:1000]
        sessions, kept_out = self.counts()["sessions"], digest_of(self._admission.kept_out)

        def checkin(challenge: bytes, signature: bytes) -> RelayCheckin:
            return RelayCheckin(
                self.id, challenge, signature, since, sessions, fights, self._is_draining, kept_out
            )

        news = await self._client.relay_checkin(self._token.key, checkin)
        self.forget(Node(*pair) for pair in news.removed)
        if news.kept_out is not None:
            self.keep_out(Node(*pair) for pair in news.kept_out)
        self.contacted.set()
        return news.until
