"""Joining without a token: what is asked for is on disk before each step, so that cut off anywhere and run
again it is the same join, with the same code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
import sys
from dataclasses import dataclass
from typing import Final

from wgpy.agent.approval import MAY_PASS, describe_left, wait_admitted
from wgpy.agent.client import CoordinatorClient, Refused, Trust, first_contact
from wgpy.agent.join import Joined, Say, check_host, keep_membership, load_known
from wgpy.agent.join_link import join_link, terminal_qr
from wgpy.agent.options import UpOptions
from wgpy.agent.state_file import (
    Asked,
    Keys,
    Pending,
    State,
    delete_pending,
    load_pending,
    locked,
    save_pending,
)
from wgpy.errors import CoordinatorError
from wgpy.keys import PrivateKey
from wgpy.mesh.encoding import encode_b64u
from wgpy.mesh.keyless import NONCE_SIZE, OpenRequest, Waiting, commitment, encode_code, join_code
from wgpy.mesh.signing import MachineKey
from wgpy.mesh.wire import Membership, requested_name

_BEGIN_ANEW: Final = frozenset(("join_unknown", "bad_signature"))
"""The coordinator has forgotten the join, or its TLS key is another by now, which the code would not say."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which network, where; `pin` is the coordinator's identity hash, if it is known."""

    url: str
    network: str
    pin: bytes | None = None

    @property
    def id(self) -> str:
        """The name of the file in which the join waits."""
        return hashlib.sha256(f"{self.url} {self.network}".encode()).hexdigest()[:16]


def find_member(place: Place) -> State | None:
    """The membership of this network that this host has."""
    for state in load_known():
        at_home = place.url in state.coordinator_urls
        if at_home and place.network in (state.network.name, state.network.id):
            return state
    return None


async def join_keyless(place: Place, options: UpOptions, say: Say) -> State:
    """Ask to join, show the code, wait for an admin and write the membership down. Raises WgpyError."""
    with locked(f"joining-{place.id}"):
        check_host(options.interface)
        while True:
            pending = load_pending(place.id) or await _begin(place, say)
            try:
                membership = await _Join(place, pending, options, say).run()
            except Refused as error:
                if error.code not in MAY_PASS:
                    delete_pending(place.id)
                if error.code not in _BEGIN_ANEW:
                    raise
                say("the coordinator does not know this join any more (it waits for an hour); asking anew")
                continue
            return _keep(place, membership, options)


async def _begin(place: Place, say: Say) -> Pending:
    """Keys, and whom we trust from now on."""
    say(f"asking to join {place.network} at {place.url}")
    trust = await first_contact(place.url, place.pin)
    if place.pin is None and trust.pinned:
        say(
            f"its identity is {encode_b64u(trust.identity_hash)}, for which nobody vouches: compare it with "
            "what `wgpy coordinator serve` prints, or name it with --pin"
        )
    keys = Keys(MachineKey(os.urandom(32)), PrivateKey(os.urandom(32)))
    asked = Asked(trust.identity_hash, trust.pinned, os.urandom(NONCE_SIZE))
    pending = Pending(keys, asked)
    save_pending(place.id, pending)
    return pending


def _keep(place: Place, membership: Membership, options: UpOptions) -> State:
    pending = load_pending(place.id)
    assert pending is not None
    assert pending.asked is not None
    asked = pending.asked
    joined = Joined(
        identity_hash=asked.identity_hash, pinned=asked.pinned, urls=(place.url,),
        id=membership.node[:16], keys=pending.keys,
    )  # fmt: skip
    state = keep_membership(joined, membership, options)
    delete_pending(place.id)
    return state


class _Join:
    """One join, from wherever it stands."""

    def __init__(self, place: Place, pending: Pending, options: UpOptions, say: Say) -> None:
        assert pending.asked is not None
        self._place = place
        self._keys = pending.keys
        self._asked = pending.asked
        self._name = options.node_name or requested_name(socket.gethostname())
        self._say = say
        trust = Trust(self._asked.identity_hash, self._asked.pinned)
        self._client = CoordinatorClient((place.url,), trust)

    async def run(self) -> Membership:
        if self._place.pin not in (None, self._asked.identity_hash):
            delete_pending(self._place.id)
            raise CoordinatorError(
                "the join that waits was begun with a coordinator of another identity than --pin names; "
                "it is given up: run this again",
                code="identity_mismatch",
            )
        if self._asked.code is not None and self._asked.join is not None:
            self._say(f"going on with the join of {self._place.network} at {self._place.url}")
            self._show(self._asked.join)
            asked = Waiting(self._asked.join, expires_in=0, poll=1)
            return await wait_admitted(asked, self._ask, self._say, self._describe)
        if self._asked.join is None:
            keys, nonce = self._keys, self._asked.nonce
            sealed = commitment(keys.machine_key.public_key(), keys.wireguard_key.public_key(), nonce)
            made = await self._client.commit_join(self._place.network, sealed)
            self._note(join=made.join, coordinator_nonce=made.nonce)
        answer = await self._ask()
        if isinstance(answer, Waiting):
            self._say(f"it waits for approval, for {describe_left(answer.expires_in)} at most")
            self._show(answer.join)
            answer = await wait_admitted(answer, self._ask, self._say, self._describe)
        return answer

    def _note(self, **changes: object) -> None:
        self._asked = dataclasses.replace(self._asked, **changes)  # type: ignore[arg-type]
        save_pending(self._place.id, Pending(self._keys, self._asked))

    async def _ask(self) -> Membership | Waiting:
        assert self._asked.join is not None
        return await self._client.open_join(
            self._asked.join,
            self._asked.nonce,
            machine_key=self._keys.machine_key,
            wireguard_key=self._keys.wireguard_key,
            name=self._name,
            before=self._before_opening,
        )

    def _before_opening(self, request: OpenRequest, leaf_hash: bytes) -> None:
        """The code is of the first connection on which we opened; the coordinator keeps that one, too."""
        if self._asked.code is not None:
            return
        assert self._asked.coordinator_nonce is not None
        code = join_code(
            request,
            identity_hash=self._asked.identity_hash,
            leaf_hash=leaf_hash,
            coordinator_nonce=self._asked.coordinator_nonce,
        )
        self._note(leaf_hash=leaf_hash, code=encode_code(code))

    def _describe(self) -> str:
        return f"waiting for approval as {self._name}, code {self._asked.code}"

    def _show(self, join: str) -> None:
        link = join_link(self._place.url, self._place.network, join)
        self._say(f"the code of this host is\n\n    {self._asked.code}\n")
        self._say(f"sign in here and type it, to let this host in as a device of yours:\n\n    {link}\n")
        if sys.stdout.isatty() and (drawn := terminal_qr(link)):
            self._say(f"{drawn}\n")
        self._say(
            f"or have an admin of {self._place.network} type it: on the coordinator's page, or there with\n"
            f"    wgpy coordinator node approve {join[:8]} --code {self._asked.code}\n"
            "Stopped and run again, this goes on where it was"
        )
