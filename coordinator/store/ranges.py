"""The ranges of a network that has nodes: they may grow, shrink or split around the addresses that are given.

An address that a node has is in its signed record and in others' configuration, so it is never taken away or
changed behind their backs: ranges that would do that are refused, with the name of who stands in the way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.addresses import REST_AGE, Taken, check_ranges, host_address, host_number
from coordinator.errors import Refusal
from coordinator.store.tables import addresses, forwards, networks, nodes
from wgpy.addresses import IPAddress, Prefix, is_inside


def check_free(ranges: Sequence[Prefix], taken: Sequence[Taken], remedy: str) -> None:
    """Raises Refusal `range_in_use` when one of the ranges is somebody's already."""
    for prefix in ranges:
        for other in taken:
            if prefix.version == other.prefix.version and prefix.overlaps(other.prefix):
                raise Refusal("range_in_use", f"{prefix} overlaps {other.prefix} of {other.whose}: {remedy}")


def replaced_ranges(before: Sequence[Prefix], given: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """`given`, and what was before of a family that none of them is of. Raises ConfigError."""
    versions = {prefix.version for prefix in given}
    ranges = (*given, *(prefix for prefix in before if prefix.version not in versions))
    check_ranges(ranges)
    return tuple(sorted(ranges, key=lambda prefix: prefix.version))


def move_ranges(
    connection: Connection,
    network_id: str,
    before: Sequence[Prefix],
    after: Sequence[Prefix],
    *,
    taken: Sequence[Taken],
    now: float,
) -> None:
    """Let a network, which is locked, have these ranges; every address keeps its owner.

    `taken` are ranges of other networks and of this host, where what lies inside of our own of before is our
    own doing. Raises Refusal `range_in_use`, `address_in_use`.
    """
    foreign = [other for other in taken if not any(is_inside(other.prefix, own) for own in before)]
    check_free(after, foreign, "a host in both could not tell them apart; take another range")
    check_free(after, _published(connection, network_id), "take that range back first, or leave it out")
    rows = connection.execute(select(addresses).where(addresses.c.network_id == network_id)).all()
    moved = []
    for row in rows:
        address = host_address(ipaddress.ip_network(row.range), row.host)
        place = _place(after, address)
        if place is not None:
            moved.append({**row._mapping, "range": str(place[0]), "host": place[1]})
        elif row.node_id is not None or _is_kept(row.token_id, row.released_at, now):
            raise _stranded(connection, address, row.node_id, row.token_id, after)
    connection.execute(delete(addresses).where(addresses.c.network_id == network_id))
    if moved:
        connection.execute(insert(addresses), moved)
    mine = networks.c.id == network_id
    connection.execute(update(networks).where(mine).values(ranges=[str(prefix) for prefix in after]))


def _is_kept(token_id: str | None, released_at: float | None, now: float) -> bool:
    """Whether a token keeps it for its node (see claims.py); others only rest, and nobody misses them."""
    return token_id is not None and released_at is not None and released_at + REST_AGE > now


def _published(connection: Connection, network_id: str) -> list[Taken]:
    """Ranges behind this network's gateways, which are no place for its nodes."""
    both = forwards.join(nodes, nodes.c.id == forwards.c.node_id)
    rows = connection.execute(
        select(forwards.c.range, nodes.c.name).select_from(both).where(forwards.c.network_id == network_id)
    )
    found = [Taken(ipaddress.ip_network(row.range), f"what {row.name} forwards") for row in rows]
    return [taken for taken in found if taken.prefix.prefixlen]


def _place(ranges: Sequence[Prefix], address: IPAddress) -> tuple[Prefix, int] | None:
    """The range that an address lies in, and its number there; None where no node could have it."""
    for prefix in ranges:
        if prefix.version == address.version and address in prefix:
            number = host_number(prefix, address)
            return None if number is None else (prefix, number)
    return None


def _stranded(
    connection: Connection,
    address: IPAddress,
    node_id: str | None,
    token_id: str | None,
    after: Sequence[Prefix],
) -> Refusal:
    owner = f"token {token_id} keeps {address} for its node"
    remedy = "revoke it first"
    if node_id is not None:
        name = connection.execute(select(nodes.c.name).where(nodes.c.id == node_id)).scalar_one_or_none()
        owner, remedy = f"node {name} has {address}", "remove it and let it join again"
    shown = ", ".join(str(prefix) for prefix in after if prefix.version == address.version)
    return Refusal(
        "address_in_use",
        f"{owner}, which no node of {shown} can have: name ranges that hold every address given, or {remedy}",
    )
