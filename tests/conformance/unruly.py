"""An engine that tells its events as many threads would: late, coalesced, out of order between peers and
kinds.

What it keeps is what the seam promises: nothing is lost but by overflow, work of one peer is coalesced and
comes in order, commands take effect at once. Whatever runs on this runs on an engine with threads.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation.world import Host, World
from wgpy.protocol.actions import Event, PeerId, PeerWork, Work


class UnrulyEvents:
    """Between an engine's `drain_events` and whoever handles them."""

    def __init__(
        self,
        drain: Callable[[], list[Event]],
        clock: Callable[[], float],
        rng: random.Random,
        latest: float,
    ) -> None:
        """Each event is held back for up to `latest` seconds."""
        self._drain = drain
        self._clock = clock
        self._rng = rng
        self._latest = latest
        self._held: list[tuple[float, Event]] = []
        self._work: dict[PeerId, tuple[float, PeerWork]] = {}

    def __len__(self) -> int:
        return len(self._held) + len(self._work)

    def next_release(self) -> float | None:
        """When the next held event is told."""
        instants = [at for at, _ in self._held] + [at for at, _ in self._work.values()]
        return min(instants, default=None)

    def drain_events(self) -> list[Event]:
        for event in self._drain():
            if isinstance(event, PeerWork):
                self._hold_work(event)
            else:
                self._held.append((self._some_time(), event))
        now = self._clock()
        events: list[Event] = [event for at, event in self._held if at <= now]
        self._held = [(at, event) for at, event in self._held if at > now]
        due = [peer for peer, (at, _) in self._work.items() if at <= now]
        events += [self._release_work(peer) for peer in due]
        self._rng.shuffle(events)
        return events

    def _hold_work(self, new: PeerWork) -> None:
        if new.peer not in self._work:
            self._work[new.peer] = (self._some_time(), new)
            return
        at, old = self._work[new.peer]
        confirmed = old.confirmed_index if new.confirmed_index is None else new.confirmed_index
        endpoint = new.endpoint or old.endpoint
        self._work[new.peer] = (at, PeerWork(new.peer, old.bits | new.bits, confirmed, endpoint))

    def _release_work(self, peer: PeerId) -> PeerWork:
        """All that is known of a peer; a fact may stay behind for another while."""
        _, work = self._work.pop(peer)
        rest = work.bits & ~Work.FACT
        if work.bits & Work.FACT and rest and self._rng.random() < 0.5:
            self._work[peer] = (self._some_time(), PeerWork(peer, Work.FACT))
            return PeerWork(peer, rest, work.confirmed_index, work.endpoint)
        return work

    def _some_time(self) -> float:
        return self._clock() + self._rng.random() * self._latest


class UnrulyHost(Host):
    """A host of the simulation whose core is told everything late."""

    def __init__(self, world: World, name: str, number: int, latest: float) -> None:
        super().__init__(world, name, number)
        self.unruly = UnrulyEvents(
            self.engine.drain_events, lambda: world.now, random.Random(f"{world.rng.random()} unruly"), latest
        )
        self.engine.drain_events = self.unruly.drain_events  # type: ignore[method-assign]

    @property
    def deadline(self) -> float | None:
        instants = [each for each in (super().deadline, self.unruly.next_release()) if each is not None]
        return None if self.is_paused else min(instants, default=None)


class UnrulyWorld(World):
    """A world of such hosts."""

    def __init__(self, seed: int = 0, delay: float = 0.0, latest: float = 0.3) -> None:
        super().__init__(seed, delay)
        self.latest = latest

    def add_pair(self, *, endpoints: bool = True) -> tuple[UnrulyHost, UnrulyHost]:
        alice, bob = super().add_pair(endpoints=endpoints)
        assert isinstance(alice, UnrulyHost)
        assert isinstance(bob, UnrulyHost)
        return alice, bob

    def add_host(self, name: str) -> UnrulyHost:
        return UnrulyHost(self, name, len(self.hosts) + 1, self.latest)
