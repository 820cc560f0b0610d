"""How a host becomes a node: at once by a token, or after an admin's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.ratelimit import source_key
from coordinator.store.audit import Actor, write_audit
from coordinator.store.claims import claim_addresses
from coordinator.store.joins import (
    HELD_AGE,
    KEYLESS_AGE,
    JoinRow,
    drop_join,
    find_held,
    get_waiting,
    hold_join,
    open_row,
    read_commitment,
)
from coordinator.store.log import lock_network, note
from coordinator.store.networks import read_standing
from coordinator.store.node_names import check_name_free, find_free_name
from coordinator.store.nodes import NodeRow, find_by_key, find_by_machine, node_json
from coordinator.store.prepared import Prepared
from coordinator.store.tables import networks, nodes
from coordinator.store.tokens import TokenRow, find_token, read_token, spend_token
from wgpy.keys import PublicKey
from wgpy.mesh.keyless import OpenRequest, join_code
from wgpy.mesh.netmap import Network
from wgpy.mesh.signing import BearerSecret, MachinePublicKey

_GONE: Final = "this coordinator knows no such token: was its network deleted?"
_IN_USE: Final = "this WireGuard key belongs to another node of this coordinator: join with a fresh one"
_OTHER_KEY: Final = "this machine has joined with another WireGuard key: keep that one, or use a new token"
_REFUSED: Final = "an admin of the network refused this join"
_TOO_OLD: Final = "joins of this network wait for approval, which this version of wgpy cannot: upgrade it"

_NO_CODE: Final = "this host came without a token: type the code that its own screen shows"
_WRONG_CODE: Final = (
    "this is not the code of this host: type it as the host's own screen shows it, and if it is the same, "
    "refuse this join, for somebody else asks in that host's place"
)

_APPROVAL: Final = Prepared(select(networks.c.approval).where(networks.c.id == bindparam("network")))
_ADMIT: Final = Prepared(insert(nodes))

APPROVAL: Final = "approval"
"""The capability of a node that can wait."""


@dataclass(frozen=True, slots=True)
class JoinWish:
    """A join whose signature and proof have been checked. `address`: where it came from."""

    secret: BearerSecret
    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    capabilities: tuple[str, ...]
    address: str = ""


@dataclass(frozen=True, slots=True)
class OpenWish:
    """How a host without a token opened its commitment, checked as a join is. `leaf_hash` is what it saw."""

    opened: OpenRequest
    identity_hash: bytes
    leaf_hash: bytes


def join(connection: Connection, wish: JoinWish, rng: RandomSource, now: float) -> NodeRow | JoinRow:
    """Make the node, or find it, or have it wait: the same machine key and token come to the same again and
    spend no second use.

    Raises Refusal `token_…`, `key_in_use`, `network_full`, `name_in_use`, `needs_approval`, `join_refused`.
    """
    token = find_token(connection, wish.secret)
    if token is None or not lock_network(connection, token.network_id):
        raise Refusal("token_unknown", _GONE)
    token = find_token(connection, wish.secret)  # again, now that nobody else can spend it
    if token is None:
        raise Refusal("token_unknown", _GONE)
    known = find_by_machine(connection, wish.machine_key, token.id)
    held = None if known is not None else find_held(connection, token.id, wish.machine_key, now)
    found = known or held
    if found is not None:
        if found.wireguard_key != wish.wireguard_key:
            raise Refusal("key_in_use", _OTHER_KEY)
        return _still_waiting(found) if isinstance(found, JoinRow) else found
    spend_token(connection, token, now)
    asked = JoinRow(
        rng.randbytes(16).hex(), token.network_id, token.id, wish.name, wish.machine_key, wish.wireguard_key,
        wish.capabilities, None, wish.address, now, now + HELD_AGE, None,
    )  # fmt: skip
    if _needs_approval(connection, token):
        if APPROVAL not in wish.capabilities:
            raise Refusal("needs_approval", _TOO_OLD)
        _check_key_free(connection, wish.wireguard_key)
        hold_join(connection, asked, source_key(wish.address))
        return asked
    node = admit(connection, asked, token, now)
    note(connection, token.network_id)
    actor = Actor("host", node.id, node.name, wish.address)
    write_audit(connection, actor, "node.join", node.network_id, now, before=None, after=node_json(node))
    return node


def with_network(
    connection: Connection, change: Callable[..., NodeRow | JoinRow], *args: object
) -> tuple[NodeRow | JoinRow, Network]:
    """What a join or an opening has come to, and its network as it stands at that."""
    found = change(connection, *args)
    standing = read_standing(connection, found.network_id)
    assert standing is not None, "the network's row is locked"
    return found, standing.network


def _still_waiting(row: JoinRow) -> JoinRow:
    if row.refused_at is not None:
        raise Refusal("join_refused", _REFUSED)
    return row


def _check_key_free(connection: Connection, key: PublicKey) -> None:
    if find_by_key(connection, key) is not None:
        raise Refusal("key_in_use", _IN_USE)


def _needs_approval(connection: Connection, token: TokenRow) -> bool:
    if token.approval is not None:
        return token.approval
    return bool(_APPROVAL.scalar(connection, network=token.network_id))


def admit(connection: Connection, asked: JoinRow, token: TokenRow | None, now: float) -> NodeRow:
    """The node of a join, whose id it takes; the network is locked. Raises Refusal `key_in_use`,
    `network_full`, `name_in_use`.
    """
    _check_key_free(connection, asked.wireguard_key)
    name = None if token is None else token.node_name
    if name is None:
        name = find_free_name(connection, asked.network_id, asked.name, now, token_id=asked.token_id)
    else:
        check_name_free(connection, asked.network_id, name, now, token_id=asked.token_id)
    kept_by = token.id if token is not None and token.node_addresses else None
    node = NodeRow(
        id=asked.id,
        network_id=asked.network_id,
        name=name,
        machine_key=asked.machine_key,
        wireguard_key=asked.wireguard_key,
        token_id=asked.token_id,
        addresses=claim_addresses(connection, asked.network_id, asked.id, now, kept_by=kept_by),
        key_epoch=0,
        signed=None,
        joined_at=now,
        tags=() if token is None else token.tags,
        ephemeral_after=None if token is None else token.ephemeral_after,
    )
    _ADMIT.run(
        connection,
        id=node.id,
        network_id=node.network_id,
        name=node.name,
        machine_key=bytes(node.machine_key),
        wireguard_key=bytes(node.wireguard_key),
        token_id=node.token_id,
        addresses=[str(address) for address in node.addresses],
        key_epoch=0,
        record_seq=0,
        capabilities=list(asked.capabilities),
        joined_at=now,
        tags=list(node.tags) or None,
        ephemeral_after=node.ephemeral_after,
    )
    return node


def open_join(connection: Connection, wish: OpenWish, now: float) -> NodeRow | JoinRow:
    """Open a commitment, or see how the join stands: asked again it is the same.

    Raises Refusal `join_unknown`, `bad_signature`, `key_in_use`, `join_refused`.
    """
    opened = wish.opened
    row = read_commitment(connection, opened.join, now)
    if row is None:
        node = find_by_machine(connection, opened.machine_key, opened.join[:16])
        if node is not None and node.id == opened.join and node.wireguard_key == opened.wireguard_key:
            return node
        raise Refusal("join_unknown", "this coordinator knows no such join (any more): begin anew")
    if row.commitment != opened.commitment:
        raise Refusal("bad_signature", "these keys are not what was committed to")
    code = join_code(
        opened, identity_hash=wish.identity_hash, leaf_hash=wish.leaf_hash, coordinator_nonce=row.nonce
    )
    asked = JoinRow(
        row.id, row.network_id, row.token_id, opened.name, opened.machine_key, opened.wireguard_key,
        opened.capabilities, code, row.address, row.created_at, now + KEYLESS_AGE, row.refused_at,
    )  # fmt: skip
    if row.machine_key is None:
        _check_key_free(connection, opened.wireguard_key)
        open_row(connection, asked)
    else:
        known = find_held(connection, row.token_id, opened.machine_key, now)
        asked = asked if known is None else known
    return _still_waiting(asked)


def approve_join(
    connection: Connection, network_id: str, join_id: str, code: int | None, now: float
) -> NodeRow:
    """An admin's word. A host without a token also has to show the code that the admin types.

    Raises Refusal `not_found`, `wrong_code`, and what `admit` does.
    """
    lock_network(connection, network_id)
    row = get_waiting(connection, network_id, join_id, now)
    if row.code is not None and row.code != code:
        raise Refusal("wrong_code", _NO_CODE if code is None else _WRONG_CODE)
    node = admit(connection, row, read_token(connection, network_id, row.token_id), now)
    drop_join(connection, row)
    note(connection, network_id)
    return node
