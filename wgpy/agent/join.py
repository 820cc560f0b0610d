"""Joining by a token: keys on disk before anything is sent, the membership on disk before anything else is
done.

Cut off at any point and run again, it joins as the same node and spends no second use of the token.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wgpy.agent.approval import MAY_PASS, describe_left, wait_admitted
from wgpy.agent.client import CoordinatorClient, Refused, Trust
from wgpy.agent.options import UpOptions
from wgpy.agent.state_file import (
    Keys,
    Pending,
    State,
    delete_pending,
    known_names,
    load_pending,
    load_state,
    locked,
    save_pending,
    save_state,
    state_path,
)
from wgpy.errors import CoordinatorError, HostError, WgpyError
from wgpy.keys import PrivateKey
from wgpy.mesh.keyless import Waiting
from wgpy.mesh.signing import MachineKey
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Membership, requested_name
from wgpy.tun import NAME_SIZE, Tun

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a membership came of, beside the answer: trust, URLs, the id of the token or join, keys."""

    identity_hash: bytes
    pinned: bool
    urls: tuple[str, ...]
    id: str
    keys: Keys


def load_known() -> Iterator[State]:
    """Every membership of this host. Files that cannot be read are passed over, and told of."""
    for name in known_names():
        try:
            yield load_state(name)
        except WgpyError as error:
            logger.warning("%s", error)


def find_joined(token: Token) -> State | None:
    """The membership that came of this token."""
    for state in load_known():
        if state.token_id == token.id and state.identity_hash == token.identity_hash:
            return state
    return None


async def join(token: Token, options: UpOptions, say: Say) -> State:
    """Become a member, if need be after an admin's approval, and write it down. Raises WgpyError; then
    nothing is left behind that a retry could not use.
    """
    with locked(f"joining-{token.id}"):
        check_host(options.interface)
        pending = load_pending(token.id)
        keys = pending.keys if pending else Keys(MachineKey(os.urandom(32)), PrivateKey(os.urandom(32)))
        client = CoordinatorClient(token.urls, Trust(token.identity_hash, token.pinned))
        name = options.node_name or requested_name(socket.gethostname())
        say(f"joining at {' or '.join(token.urls)}")
        is_sent = False

        def before_sending() -> None:
            nonlocal is_sent
            save_pending(token.id, Pending(keys))
            is_sent = True

        async def ask() -> Membership | Waiting:
            return await client.join(
                token,
                machine_key=keys.machine_key,
                wireguard_key=keys.wireguard_key,
                name=name,
                before=before_sending,
            )

        try:
            answer = await ask()
            if isinstance(answer, Waiting):
                say(
                    f"waiting for an admin of the network to approve this host, {name}, for up to "
                    f"{describe_left(answer.expires_in)}; stopped and run again, this goes on where it was"
                )
                answer = await wait_admitted(answer, ask, say, lambda: f"waiting for approval as {name}")
        except CoordinatorError as error:
            if isinstance(error, Refused) and error.code not in MAY_PASS:
                delete_pending(token.id)
            elif is_sent:
                text = f"{error}; it may have taken the join: run this again, no use is spent twice"
                raise CoordinatorError(text, code=error.code) from None
            raise
        joined = Joined(token.identity_hash, token.pinned, token.urls, token.id, keys)
        state = keep_membership(joined, answer, options)
        delete_pending(token.id)
        return state


def check_host(interface: str | None) -> None:
    """Whether a TUN device can be made here, before a token is spent. Raises HostError, ConfigError."""
    Tun.create(interface or "wgpy%d").close()


def keep_membership(joined: Joined, membership: Membership, options: UpOptions) -> State:
    """What we are from now on, on disk. Raises StateError."""
    name = _free_name(membership.network.name, membership.network.id, joined.identity_hash)
    state = State(
        name=name,
        keys=joined.keys,
        identity_hash=joined.identity_hash,
        pinned=joined.pinned,
        urls=joined.urls,
        token_id=joined.id,
        network=membership.network,
        node=membership.node,
        node_name=membership.name,
        addresses=membership.addresses,
        interface=options.interface or interface_name(name),
    )
    save_state(state)
    return state


def interface_name(network: str) -> str:
    """`wg-NETWORK`, cut to what an interface's name may have."""
    return f"wg-{network}"[:NAME_SIZE].rstrip("-")


def _free_name(wanted: str, network: str, identity_hash: bytes) -> str:
    """The network's own name; if another membership has that, the name and a number.

    A membership of the very same network that is not running gives way: its file is kept as NAME.json.old.
    """
    if wanted not in (taken := known_names()):
        return wanted
    try:
        with locked(wanted):
            old = load_state(wanted)
            if (old.network.id, old.identity_hash) == (network, identity_hash):
                path = state_path(wanted)
                path.rename(path.with_name(f"{path.name}.old"))
                logger.warning("this host was in %s before: that membership is kept in %s.old", wanted, path)
                return wanted
    except WgpyError as error:
        logger.warning("%s", error)
    return _numbered(wanted, taken)


def _numbered(wanted: str, taken: Sequence[str]) -> str:
    for number in range(2, 1000):
        if (name := f"{wanted[:59]}-{number}") not in taken:
            return name
    raise HostError(f"there are too many networks called {wanted} on this host")
