"""Following the coordinator: record, check-in, stream, poll when no stream comes through, and patience when
nobody answers. Whatever happens here, the tunnels stay as the last map says; only a signed removal ends
that.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.client import CoordinatorClient, Credentials, Refused
from wgpy.agent.groups import single_error
from wgpy.errors import CoordinatorError
from wgpy.mesh.delta import HeldMap, apply_frame
from wgpy.mesh.forward import Offer
from wgpy.mesh.frames import (
    DeltaFrame,
    Frame,
    FullFrame,
    KeepaliveFrame,
    PresenceFrame,
    RemovedFrame,
    ReportsFrame,
)
from wgpy.mesh.record import Record
from wgpy.mesh.tunnels import ReportTerms
from wgpy.mesh.wire import CheckinRequest

logger = logging.getLogger(__name__)

FIRST_RETRY: Final = 0.5
"""Seconds before the second attempt, about; then twice as long each time."""
LAST_RETRY: Final = 30.0
"""Seconds between attempts at most, when nobody answers."""
REFUSED_RETRY: Final = 60.0
"""Seconds between attempts at most, when the coordinator answers that it does not know us."""
POLL_INTERVAL: Final = 15.0
"""Seconds between check-ins while no stream comes through."""
STREAM_RETRIES: Final = (60.0, 120.0, 300.0, 600.0)
"""Seconds of polling before the stream is tried again."""


_PASSING: Final = ("malformed", "record_mismatch", "not_found", "conflict")
"""Refusals of an offer or a record that do not keep us from following the map."""


class Listener(Protocol):
    """Who is told what the coordinator says. The calls return at once."""

    def current_map(self) -> HeldMap | None: ...

    def make_checkin(self, *, brief: bool) -> CheckinRequest: ...

    def report_wait(self) -> float:
        """Seconds until there is something to report of the tunnels; 0: now."""

    def handle_report_terms(self, terms: ReportTerms | None) -> None:
        """What the answer to a check-in says of further reports; None: nothing, it wants none."""

    def handle_unproven(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Of our endpoints, those of which the coordinator tells nobody."""

    def handle_report_interval(self, every: float) -> None:
        """The coordinator wants to hear of the tunnels that often; seconds."""

    def make_record(self) -> Record | None:
        """The record to hand in; None: the coordinator has it already."""

    def make_offer(self) -> Offer | None:
        """What to say of what we would forward; None: the coordinator knows."""

    def handle_offered(self, offer: Offer) -> None:
        """The coordinator has taken that offer."""

    def handle_map(self, held: HeldMap) -> None: ...

    def handle_presence(self, frame: PresenceFrame) -> None: ...

    def handle_state(self, state: str, reason: str) -> None:
        """`connected`, `polling`, `unreachable` or `refused`, and why, in words."""


class Removed(Exception):
    """The coordinator removed this node, and signed it."""


class _MapGap(Exception):
    """What came does not follow what we hold."""


@dataclass(slots=True)
class Backoff:
    """Waiting times that double up to a limit, each between half of it and all of it."""

    limit: float = LAST_RETRY
    _next: float = FIRST_RETRY

    def next_wait(self, random_float: Callable[[], float] = random.random) -> float:
        wait, self._next = min(self._next, self.limit), min(self._next * 2, self.limit)
        return wait * (0.5 + random_float() / 2)

    def reset(self) -> None:
        self._next = FIRST_RETRY


class Follower:
    """Runs for as long as the node is a member. `report_now` makes it tell where we are at once, `stir` makes
    it ask anew when a report on the tunnels is due.
    """

    def __init__(self, client: CoordinatorClient, who: Credentials, listener: Listener) -> None:
        self._client = client
        self._who = who
        self._listener = listener
        self._wants_full = False
        self._streams_failed = 0
        self._report_wanted = trio.Event()
        self._stirred = trio.Event()

    def report_now(self) -> None:
        """Our endpoints changed, or our record or offer: check in, whatever else goes on."""
        self._report_wanted.set()
        self._stirred.set()

    def stir(self) -> None:
        """`report_wait` gives less than it did."""
        self._stirred.set()

    async def run(self) -> None:
        """Raises Removed, and nothing else that a coordinator can cause."""
        backoff = Backoff()
        while True:
            began = trio.current_time()
            try:
                await self._follow()
                reason = "the coordinator ended the stream"
            except _MapGap as gap:
                reason = str(gap)
                self._wants_full = True
            except CoordinatorError as error:
                reason = str(error)
                self._note_failure(error)
                backoff.limit = REFUSED_RETRY if error.status in (401, 403, 404) else LAST_RETRY
            if trio.current_time() - began > LAST_RETRY:
                backoff.reset()
            wait = backoff.next_wait()
            logger.info("%s; next attempt in %.1f s", reason, wait)
            with trio.move_on_after(wait):
                await self._wait_report_wanted()

    def _note_failure(self, error: CoordinatorError) -> None:
        if isinstance(error, Refused):
            removed = error.removed
            if removed is not None and self._client.vouches_for(removed, self._who):
                raise Removed from None
            text = f"{error}; the tunnels are kept" if error.status in (401, 404) else str(error)
            self._listener.handle_state("refused", text)
        else:
            self._listener.handle_state("unreachable", str(error))

    async def _wait_report_wanted(self) -> None:
        await self._report_wanted.wait()
        self._report_wanted = trio.Event()

    async def _follow(self) -> None:
        """One life of a connection: say who and where we are, then listen."""
        await self._check_in()
        if self._streams_failed:
            await self._poll(STREAM_RETRIES[min(self._streams_failed, len(STREAM_RETRIES)) - 1])
        self._listener.handle_state("connected", "")
        with single_error(Removed, _MapGap, CoordinatorError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report_when_due)
                await self._listen()
                nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        """The stream, to its end."""
        began, has_map = trio.current_time(), False
        held = None if self._wants_full else self._listener.current_map()
        frames = self._client.watch(self._who, None if held is None else held.since)
        try:
            async with aclosing(frames):
                async for frame in frames:
                    if frame is not None:
                        has_map = True
                        self._handle_frame(frame)
        except CoordinatorError as error:
            if isinstance(error, Refused) or error.code == "malformed":
                raise
            if not has_map and trio.current_time() - began > 30:
                # It took the request and then nothing came: something in between gathers what it should
                # pass on.
                self._streams_failed += 1
                self._listener.handle_state(
                    "polling", f"no stream comes through ({error}): a buffering proxy?"
                )
                return
            raise
        finally:
            if has_map:
                self._streams_failed = 0

    async def _poll(self, duration: float) -> None:
        """Check in again and again, for as long as the stream is not worth a try."""
        with trio.move_on_after(duration):
            while True:
                with trio.move_on_after(POLL_INTERVAL):
                    await self._wait_report_wanted()
                await self._check_in()

    async def _report_when_due(self) -> None:
        while True:
            with trio.move_on_after(self._listener.report_wait()):
                await self._stirred.wait()
            self._stirred = trio.Event()
            if self._report_wanted.is_set():
                self._report_wanted = trio.Event()
                await self._check_in()
            elif self._listener.report_wait() <= 0:
                await self._report_tunnels()

    async def _report_tunnels(self) -> None:
        """One report; the stream, which tells of whatever matters, does not end with one that fails."""
        try:
            await self._check_in(brief=True)
        except CoordinatorError as error:
            logger.info("a report on the tunnels did not arrive: %s", error)
            await trio.sleep(FIRST_RETRY)

    async def _say_who_we_are(self) -> None:
        """Offer what we would forward, sign what we do. A refusal is of what we know by now, and the map that
        follows is newer: it must not be kept from coming.
        """
        try:
            if (offer := self._listener.make_offer()) is not None:
                await self._client.put_offer(self._who, offer)
                self._listener.handle_offered(offer)
            if (record := self._listener.make_record()) is not None:
                await self._client.put_record(self._who, record)
        except Refused as error:
            if error.code not in _PASSING:
                raise
            logger.warning("%s", error)

    async def _check_in(self, *, brief: bool = False) -> None:
        if not brief:
            await self._say_who_we_are()
        request = self._listener.make_checkin(brief=brief)
        if self._wants_full:
            request = dataclasses.replace(request, since=None)
        answer = await self._client.checkin(self._who, request)
        self._listener.handle_report_terms(answer.reports)
        self._listener.handle_unproven(answer.unproven)
        if answer.frame is not None:
            self._handle_frame(answer.frame)
        self._listener.handle_presence(answer.presence)

    def _handle_frame(self, frame: Frame) -> None:
        match frame:
            case PresenceFrame():
                self._listener.handle_presence(frame)
            case ReportsFrame():
                self._listener.handle_report_interval(frame.every)
            case RemovedFrame():
                if self._client.vouches_for(frame, self._who):
                    raise Removed
                logger.warning("a removal that the coordinator did not sign was passed over")
            case FullFrame() | DeltaFrame() | KeepaliveFrame():
                self._handle_map_frame(frame)

    def _handle_map_frame(self, frame: FullFrame | DeltaFrame | KeepaliveFrame) -> None:
        before = self._listener.current_map()
        after = apply_frame(before, frame)
        if after is None:
            raise _MapGap("the map does not fit what is held here; asking for a whole one")
        self._wants_full = False
        if after != before:
            self._listener.handle_map(after)
