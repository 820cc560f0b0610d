"""The coordinator's own host as a node: a `wgpy up` of its own beside the server, which needs no privilege.

The token stays in a file of the state directory: `wgpy up` with the same token is the same node again, so
that a server that is started again starts what it joined before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.host_ranges import host_ranges
from coordinator.identity import CoordinatorIdentity
from coordinator.state_dir import StateDir
from coordinator.store.database import Database
from coordinator.store.networks import NetworkRow, NetworkWish, create_network, find_network
from coordinator.store.tokens import TokenTerms, create_token, read_token
from wgpy.errors import ConfigError, StateError
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.token import Token


@dataclass(frozen=True, slots=True)
class OwnNode:
    """What puts this host on a network: `wgpy up` with this file, which root may read."""

    network: str
    token_file: Path


def prepare_own_node(  # noqa: PLR0917 (what a coordinator consists of)
    database: Database,
    identity: CoordinatorIdentity,
    state: StateDir,
    name: str,
    rng: RandomSource,
    now: float,
) -> OwnNode:
    """The network, made if there is none of that name, and a token for this host. Raises ConfigError,
    StateError.
    """
    network = _provide_network(database, name, rng, now).network
    path = state.path / f"own-node-{network.id}.token"
    if not _is_good(database, network.id, path, now):
        secret = BearerSecret(rng.randbytes(32))
        terms = TokenTerms(approval=False)
        database.write(create_token, network.id, secret, terms, now)
        _write(path, Token(identity.hash, secret, network.urls, identity.pinned).encode())
    return OwnNode(network.name, path)


def _provide_network(database: Database, name: str, rng: RandomSource, now: float) -> NetworkRow:
    try:
        return database.read(find_network, name)
    except Refusal:
        pass
    try:
        return database.write(create_network, NetworkWish(name), rng, now, host_ranges())[0]
    except Refusal as refusal:
        raise ConfigError(f"--join: {refusal.detail}") from None


def _is_good(database: Database, network_id: str, path: Path, now: float) -> bool:
    """Whether the token of last time still admits this host, or has done so."""
    try:
        secret = Token.decode(path.read_text()).secret
    except (OSError, UnicodeDecodeError, ConfigError):
        return False
    row = database.read(read_token, network_id, secret.id)
    return row is not None and row.state(now) in ("usable", "used")


def _write(path: Path, text: str) -> None:
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from None


def start_own_node(node: OwnNode, say: Callable[[str], None]) -> None:
    """Start it, in a process that outlives this one; without root, say how. Returns at once."""
    if os.geteuid() != 0:
        say(f"this host     joins {node.network} by: sudo wgpy up --detach --token-file {node.token_file}")
        return
    program = (sys.executable, "-P", "-m", "wgpy.cli.main")
    started = subprocess.Popen(
        [*program, "up", "--detach", "--token-file", str(node.token_file)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=started.wait, name="own node", daemon=True).start()
