"""Ranges behind nodes: offered by the node, approved by an admin, and which gateway of several is the one."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.gateways import EXIT_RANGES, Candidate, check_range, choose_virtual, elect
from coordinator.store.log import Kind, lock_network, record_change
from coordinator.store.tables import forwards, networks, nodes
from wgpy.addresses import Prefix
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MAX_PREFIXES
from wgpy.mesh.forward import Forward, Offer, is_default


@dataclass(frozen=True, slots=True)
class ForwardRow:
    """`state`: pending (offered, an admin has to approve), waiting (approved, the node has not taken it up
    yet, or is disabled), active.
    """

    id: str
    network_id: str
    node_id: str
    node_name: str
    forward: Forward
    offered: bool
    approved_at: float | None
    is_signed: bool
    problem: str
    created_at: float
    group_id: str | None = None
    """The ingress group whose clients are in it (ingress.py), which sees to it."""

    @property
    def state(self) -> str:
        if self.approved_at is None:
            return "pending"
        return "active" if self.is_signed else "waiting"


@dataclass(frozen=True, slots=True)
class ForwardWish:
    """What an admin wants a node to forward. `virtual` None: as it is; "auto": under another
    range, of our choice.
    """

    ranges: tuple[Prefix, ...]
    nat: bool = True
    interface: str = ""
    virtual: Prefix | str | None = None


def _forward(row: Any) -> Forward:
    return Forward(
        ipaddress.ip_network(row.range),
        ipaddress.ip_network(row.target),
        row.nat,
        row.interface,
        row.elected,
    )


def read_forwards(
    connection: Connection, network_id: str, node_ids: Sequence[str] | None = None
) -> dict[str, tuple[Forward, ...]]:
    """The approved ones by node, in a fixed order: part of the map."""
    conditions = [forwards.c.network_id == network_id, forwards.c.approved_at.is_not(None)]
    if node_ids is not None:
        conditions.append(forwards.c.node_id.in_(node_ids))
    found: dict[str, list[Forward]] = {}
    for row in connection.execute(select(forwards).where(*conditions)):
        found.setdefault(row.node_id, []).append(_forward(row))
    return {
        node_id: tuple(sorted(each, key=lambda forward: str(forward.range)))
        for node_id, each in found.items()
    }


def list_forwards(connection: Connection, network_id: str, node_id: str | None = None) -> list[ForwardRow]:
    """All of a network, or of a node; by range, then in the order in which they were named."""
    joined = forwards.join(nodes, nodes.c.id == forwards.c.node_id)
    conditions: list[ColumnElement[bool]] = [forwards.c.network_id == network_id]
    if node_id is not None:
        conditions.append(forwards.c.node_id == node_id)
    rows = connection.execute(
        select(forwards, nodes.c.name, nodes.c.record, nodes.c.disabled_at, nodes.c.expired_at)
        .select_from(joined)
        .where(*conditions)
    ).all()
    signed: dict[str, set[str]] = {}
    for row in rows:
        if row.node_id not in signed:
            is_out = row.record is None or row.disabled_at is not None or row.expired_at is not None
            signed[row.node_id] = set() if is_out else set(json.loads(row.record)["ranges"])
    found = [
        ForwardRow(
            row.id, row.network_id, row.node_id, row.name, _forward(row), row.offered, row.approved_at,
            row.range in signed[row.node_id], row.problem, row.created_at, row.group_id,
        )
        for row in rows
    ]  # fmt: skip
    return sorted(
        found,
        key=lambda row: (
            row.forward.range.version,
            row.forward.range.network_address.packed,
            row.forward.range.prefixlen,
            row.created_at,
            row.id,
        ),
    )


def find_node_id(connection: Connection, network_id: str, wanted: str) -> str:
    """The id of a node by name or id. Raises Refusal `not_found`."""
    named = or_(nodes.c.id == wanted, nodes.c.name == wanted)
    found = connection.execute(
        select(nodes.c.id).where(nodes.c.network_id == network_id, named)
    ).scalar_one_or_none()
    if found is None:
        raise Refusal("not_found", f"no node of this network is called {wanted[:64]!r}: see `node list`")
    return str(found)


def publish(
    connection: Connection, network_id: str, wanted: str, wish: ForwardWish, rng: RandomSource, *, now: float
) -> list[ForwardRow]:
    """Give ranges to a node (id or name) to forward, or approve what it offers → all of the node's.

    Raises ConfigError, Refusal `not_found`, `range_in_use`.
    """
    lock_network(connection, network_id)
    node_id = find_node_id(connection, network_id, wanted)
    every = list_forwards(connection, network_id)
    network_ranges = _network_ranges(connection, network_id)
    if len({*wish.ranges, *(row.forward.target for row in every if row.node_id == node_id)}) > MAX_PREFIXES:
        raise ConfigError(f"a node forwards at most {MAX_PREFIXES} ranges")
    if wish.virtual is not None and not isinstance(wish.virtual, str) and len(wish.ranges) != 1:
        raise ConfigError("a virtual range goes with exactly one range: give them one by one, or take auto")
    touched = {node_id}
    taken = [*network_ranges, *(row.forward.range for row in every), *wish.ranges]
    for target in wish.ranges:
        range_ = _range_of(target, wish, taken, network_ranges, Random(f"{node_id} {target}"))
        mine = next((r for r in every if r.node_id == node_id and r.forward.target == target), None)
        if wish.virtual == "auto" and mine is not None and mine.forward.is_virtual:
            range_ = mine.forward.range
        taken.append(range_)
        _check_unlike_others(range_, target, [row for row in every if row is not mine], node_id)
        values = {
            "range": str(range_),
            "target": str(target),
            "nat": wish.nat,
            "interface": wish.interface,
            "approved_at": now,
            "elected": is_default(range_),
        }
        if mine is None:
            ids = {"id": rng.randbytes(16).hex(), "network_id": network_id, "node_id": node_id}
            connection.execute(
                insert(forwards).values(**ids, **values, offered=False, problem="", created_at=now)
            )
        else:
            if mine.approved_at is not None:
                values["approved_at"] = mine.approved_at
            if mine.forward.range == range_:
                values["elected"] = mine.forward.elected
            connection.execute(update(forwards).where(forwards.c.id == mine.id).values(**values))
    touched |= settle(connection, network_id, None)
    record_change(connection, network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)
    return list_forwards(connection, network_id, node_id)


def _network_ranges(connection: Connection, network_id: str) -> list[Prefix]:
    texts = connection.execute(select(networks.c.ranges).where(networks.c.id == network_id)).scalar_one()
    return [ipaddress.ip_network(text) for text in texts]


def _range_of(
    target: Prefix,
    wish: ForwardWish,
    taken: Collection[Prefix],
    network_ranges: Sequence[Prefix],
    rng: RandomSource,
) -> Prefix:
    """Under what others see a target. Raises ConfigError."""
    if target in EXIT_RANGES:
        if wish.virtual is not None:
            raise ConfigError("an exit node has no virtual range")
        return target
    check_range(target, network_ranges if wish.virtual is None else ())
    if wish.virtual is None:
        return target
    if isinstance(wish.virtual, str):  # the same each time, so that what a dry run tells comes true
        return choose_virtual(target, taken, rng)
    virtual = wish.virtual
    check_range(virtual, network_ranges)
    if (virtual.version, virtual.prefixlen) != (target.version, target.prefixlen):
        raise ConfigError(
            f"a virtual range is as large as the one it stands for, /{target.prefixlen}; got {virtual}"
        )
    return virtual


def _check_unlike_others(range_: Prefix, target: Prefix, others: Sequence[ForwardRow], node_id: str) -> None:
    """One range on two nodes is one place with two gateways; a virtual range is one place's alone."""
    for row in others:
        other = row.forward
        if other.range == range_ and row.node_id == node_id:
            raise Refusal("range_in_use", f"{range_} is published by this node already, for {other.target}")
        if other.range == range_ and other.target != target:
            raise Refusal(
                "range_in_use",
                f"{range_} stands for {other.target} at {row.node_name}: take another virtual range",
            )


def withdraw(connection: Connection, network_id: str, forward_id: str, now: float) -> ForwardRow:
    """An admin takes a range back; a node that goes on offering it is pending again. Raises Refusal
    `not_found`, `conflict`.
    """
    lock_network(connection, network_id)
    row = find_forward(connection, network_id, forward_id)
    if row.group_id is not None:
        raise Refusal(
            "conflict",
            f"the external clients of an ingress group are in {row.forward.range}: to take {row.node_name} "
            "out of the group, say `clients gateway remove`",
        )
    this = forwards.c.id == row.id
    if row.offered and row.approved_at is not None:
        range_ = str(row.forward.target)
        connection.execute(
            update(forwards).where(this).values(approved_at=None, elected=False, range=range_, problem="")
        )
    else:
        connection.execute(delete(forwards).where(this))
    touched = {row.node_id} | settle(connection, network_id, None)
    record_change(connection, network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)
    return row


def find_forward(connection: Connection, network_id: str, forward_id: str) -> ForwardRow:
    """Raises Refusal `not_found`."""
    for row in list_forwards(connection, network_id):
        if row.id == forward_id:
            return row
    raise Refusal("not_found", "this network has no such range: see `gateway list`")


def forget_forwards(connection: Connection, network_id: str, node_id: str, now: float) -> None:
    """The node goes; where another gateway is left, it takes over."""
    gone = connection.execute(
        delete(forwards).where(forwards.c.node_id == node_id).returning(forwards.c.id)
    ).all()
    if gone and (touched := settle(connection, network_id, None)):
        record_change(connection, network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)


# --- what nodes say -------------------------------------------------------------------------------


def take_offer(
    connection: Connection, network_id: str, node_id: str, offer: Offer, rng: RandomSource, *, now: float
) -> bool:
    """What a node would forward from now on → whether that is news. Raises ConfigError for a range that no
    gateway may forward.
    """
    lock_network(connection, network_id)
    network_ranges = _network_ranges(connection, network_id)
    known = {row.forward.target: row for row in list_forwards(connection, network_id, node_id)}
    problems = dict(offer.problems)
    changed = False
    for target in offer.ranges:
        if not is_default(target):
            check_range(target, [] if target in known else network_ranges)
        if target not in known:
            values = {"range": str(target), "target": str(target), "nat": True, "interface": ""}
            connection.execute(
                insert(forwards).values(
                    id=rng.randbytes(16).hex(), network_id=network_id, node_id=node_id, **values,
                    offered=True, approved_at=None, elected=False, problem="", created_at=now,
                )
            )  # fmt: skip
            changed = True
    for target, row in known.items():
        offered, problem = target in offer.ranges, problems.get(target, "")
        if not offered and row.approved_at is None:
            connection.execute(delete(forwards).where(forwards.c.id == row.id))
            changed = True
        elif (offered, problem) != (row.offered, row.problem):
            values = {"offered": offered, "problem": problem}
            connection.execute(update(forwards).where(forwards.c.id == row.id).values(**values))
            changed = True
    if changed:
        record_change(connection, network_id, [(Kind.NODE, node_id)], now)
    return changed


# --- elections ------------------------------------------------------------------------------------


def settle_elections(
    connection: Connection, network_id: str, online: Mapping[str, bool], now: float
) -> set[str]:
    """Elect anew where a gateway has come or gone → the nodes for which that changed something."""
    lock_network(connection, network_id)
    touched = settle(connection, network_id, online)
    if touched:
        record_change(connection, network_id, [(Kind.NODE, id_) for id_ in sorted(touched)], now)
    return touched


def settle(connection: Connection, network_id: str, online: Mapping[str, bool] | None) -> set[str]:
    """Elect where that is due → the nodes for which it changed something, which the caller logs. `online`
    None: nothing is known of it, and whoever is elected stays so.
    """
    by_range: dict[Prefix, list[ForwardRow]] = {}
    for row in list_forwards(connection, network_id):
        if row.approved_at is not None and not is_default(row.forward.range):
            by_range.setdefault(row.forward.range, []).append(row)
    touched = set()
    for rows in by_range.values():
        winner = elect(_candidates(rows, online))
        for row in rows:
            if row.forward.elected != (row.node_id == winner):
                values = {"elected": row.node_id == winner}
                connection.execute(update(forwards).where(forwards.c.id == row.id).values(**values))
                touched.add(row.node_id)
    return touched


def _candidates(rows: Iterable[ForwardRow], online: Mapping[str, bool] | None) -> list[Candidate]:
    if online is None:
        return [Candidate(row.node_id, row.forward.elected, ready=True, online=True) for row in rows]
    return [
        Candidate(row.node_id, row.forward.elected, row.is_signed, online.get(row.node_id, False))
        for row in rows
    ]
