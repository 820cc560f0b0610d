"""A new WireGuard key for this node, when the coordinator asks for one: on disk before it is told, used once
it was taken, so that a kill at any moment leaves one of the two that the others know.

Peers that were off meanwhile know the key of before, from their own disk while the coordinator is away: for a
week they are answered as that, too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Final, Protocol

import trio

from wgpy.agent.client import CoordinatorClient, Credentials, Refused
from wgpy.agent.follow import Backoff
from wgpy.agent.state_file import Keys, State, save_state
from wgpy.clock import boottime
from wgpy.device import Device
from wgpy.errors import CoordinatorError
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.netmap import AnyNode, Node
from wgpy.mesh.record import Record

logger = logging.getLogger(__name__)

_HOPELESS: Final = frozenset(("key_in_use", "record_mismatch"))
"""Refusals that this key will always get: another one is made."""


PREVIOUS_AGE: Final = 7 * 86400
"""Seconds for which the key of before is answered for."""

LOOK_INTERVAL: Final = 600.0
"""Seconds between looks whether that time is over."""


class Owner(Protocol):
    """Whose key it is."""

    state: State

    def keep(self, **changes: object) -> None:
        """Change fields of `state`."""

    def sign_record(self, public: PublicKey) -> Record:
        """Its record with this WireGuard key."""


class Rotation:
    """`run` it beside the follower."""

    def __init__(
        self,
        client: CoordinatorClient,
        who: Credentials,
        device: Device,
        owner: Owner,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._who = who
        self._device = device
        self._owner = owner
        self._wall_clock = wall_clock
        self._mine: AnyNode | None = None
        self._looked = trio.Event()

    def handle_map(self, mine: AnyNode | None) -> None:
        """Our own entry in a new map: it asks for a key, or has the one already whose answer was lost."""
        self._mine = mine
        self._looked.set()
        coming = self._owner.state.next_key
        if coming is None or not isinstance(mine, Node):
            return
        if mine.record.wireguard_key == coming.public_key():
            self._take(coming)

    def _is_wanted(self) -> bool:
        mine = self._mine
        if not isinstance(mine, Node) or mine.extra.get("rotate") is not True:
            return False
        return mine.record.wireguard_key == self._owner.state.keys.wireguard_key.public_key()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff()
        while True:
            self.settle_previous_key()
            if not self._is_wanted():
                with trio.move_on_after(LOOK_INTERVAL):
                    await self._looked.wait()
                self._looked = trio.Event()
                backoff.reset()
                continue
            try:
                await self._rotate()
            except CoordinatorError as error:
                logger.info("cannot change the key: %s", error)
                if isinstance(error, Refused) and error.code in _HOPELESS:
                    self._owner.keep(next_key=None)
                await trio.sleep(backoff.next_wait())

    def settle_previous_key(self) -> None:
        """Answer for the key of before while its time lasts; then it is forgotten, on the disk, too."""
        state = self._owner.state
        if state.previous_key is not None and state.previous_until <= self._wall_clock():
            self._owner.keep(previous_key=None, previous_until=0)
            save_state(self._owner.state)
        self._device.interface.set_previous_key(self._owner.state.previous_key)

    async def _rotate(self) -> None:
        owner = self._owner
        key = owner.state.next_key or PrivateKey(os.urandom(32))
        owner.keep(next_key=key, record_seq=owner.state.record_seq + 1)
        save_state(owner.state)
        await self._client.change_key(self._who, owner.sign_record(key.public_key()), key)
        self._take(key)

    def _take(self, key: PrivateKey) -> None:
        """From now on it is ours."""
        keys = self._owner.state.keys
        if keys.wireguard_key == key:
            return
        until = int(self._wall_clock()) + PREVIOUS_AGE
        previous = {"previous_key": keys.wireguard_key, "previous_until": until}
        self._owner.keep(keys=Keys(keys.machine_key, key), next_key=None, **previous)
        save_state(self._owner.state)
        self._device.interface.rotate_private_key(key, boottime())
        self._device.changed()
        logger.info("this node has a new WireGuard key: %s", key.public_key())
