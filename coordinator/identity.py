"""Who this coordinator is: the identity key, the TLS leaves that it vouches for, and the session key."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.store.database import Database
from coordinator.tls import Leaf, serve_leaf, serve_own_certificate
from coordinator.vault import load_secrets, replace_secrets
from wgpy.mesh.frames import RemovedFrame
from wgpy.mesh.relay_ticket import Ticket, sign_ticket
from wgpy.mesh.signing import (
    NO_LEAF,
    IdentityKey,
    IdentityPublicKey,
    MachinePublicKey,
    leaves_input,
    removed_input,
)
from wgpy.mesh.wire import Identity


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """The admin's certificate and key, PEM files: then the system's CAs decide about TLS, and tokens have no
    pin.
    """

    certificate: Path
    key: Path


class CoordinatorIdentity:
    """Signs for the coordinator, and knows which leaf hash a node may have seen.

    `pinned`: nodes compare the leaf of their connection with those that we vouch for. `leaves` are these
    hashes, the one in use first.
    """

    def __init__(self, key: IdentityKey, leaves: tuple[bytes, ...], *, pinned: bool) -> None:
        self._key = key
        self.public: IdentityPublicKey = key.public_key()
        self.hash = self.public.hash
        self.pinned = pinned
        self.leaves = leaves
        signature = key.sign(leaves_input(leaves))
        self.answer = Identity(self.public, leaves, signature)

    def leaf_hashes_seen(self) -> tuple[bytes, ...]:
        """What a node's signature may cover as the leaf of its connection: outside pinned mode also none."""
        return self.leaves if self.pinned else (*self.leaves, NO_LEAF)

    def ticket(
        self, network_id: str, node_id: str, machine_key: MachinePublicKey, relay: str, not_after: int
    ) -> Ticket:
        """By which a node may use a relay until then."""
        return sign_ticket(
            self._key,
            network=network_id,
            node=node_id,
            machine_key=machine_key,
            relay=relay,
            not_after=not_after,
        )

    def removed_frame(self, network_id: str, node_id: str) -> RemovedFrame:
        """The word that makes a node forget."""
        return RemovedFrame(network_id, node_id, self._key.sign(removed_input(network_id, node_id)))


_MAKERS: Final[dict[str, Callable[[], bytes]]] = {
    "identity": lambda: os.urandom(32),
    "leaf": lambda: Leaf.generate().encode(),
    "next_leaf": lambda: Leaf.generate().encode(),
    "session": lambda: os.urandom(32),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `serve` runs on. `tls` None: it ends at a proxy."""

    identity: CoordinatorIdentity
    session_key: bytes
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return "Credentials(…)"


def rotate_leaf(database: Database, key_file: Path, now: float) -> None:
    """The next leaf, which nodes know already, becomes the one in use, and a new one the next. Other
    processes over the same database use it from their next start on. Raises StateError.
    """
    opened = load_secrets(database, key_file, _MAKERS, now)
    fresh = {"leaf": opened["next_leaf"], "next_leaf": Leaf.generate().encode()}
    replace_secrets(database, key_file, fresh, now)


def load_credentials(
    database: Database, key_file: Path, own: OwnCertificate | None, now: float, *, tls_by_proxy: bool = False
) -> Credentials:
    """From the database, made at first start. Raises StateError (they do not open), ConfigError (own
    certificate).
    """
    opened = load_secrets(database, key_file, _MAKERS, now)
    key = IdentityKey(opened["identity"])
    leaf, next_leaf = Leaf.decode(opened["leaf"]), Leaf.decode(opened["next_leaf"])
    if tls_by_proxy:
        identity = CoordinatorIdentity(key, (leaf.hash, next_leaf.hash), pinned=False)
        return Credentials(identity, opened["session"], None)
    if own is None:
        identity = CoordinatorIdentity(key, (leaf.hash, next_leaf.hash), pinned=True)
        return Credentials(identity, opened["session"], serve_leaf(leaf))
    # Nodes that joined before the switch to an own certificate still check the leaf: it is in the list.
    tls, own_hash = serve_own_certificate(own.certificate, own.key)
    identity = CoordinatorIdentity(key, (own_hash, leaf.hash), pinned=False)
    return Credentials(identity, opened["session"], tls)
